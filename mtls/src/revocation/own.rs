//! The relying party's own chain, which may be revoked like any other, and the log lines about that.
//!
//! It never decides what is revoked; [`LiveSet`](super::LiveSet) does.

use std::sync::{Arc, Mutex, PoisonError};

use pki::certificate::VerifiedId;
use tracing::{error, info};

/// The presented chain, the end entity first. Clones share it. It is empty until it was set.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnChain(Arc<Mutex<Vec<VerifiedId>>>);

/// A revoked certificate of the own chain.
#[derive(Debug)]
pub(super) struct Revoked {
    pub(super) id: VerifiedId,
    /// Whether it is the service's own certificate, and not that of a CA above it.
    is_end_entity: bool,
}

impl OwnChain {
    pub(super) fn replace(&self, chain: Vec<VerifiedId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = chain;
    }

    /// The first certificate that satisfies `is_revoked`.
    pub(super) fn find(&self, is_revoked: impl Fn(&VerifiedId) -> bool) -> Option<Revoked> {
        let chain = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = chain.iter().position(is_revoked)?;
        Some(Revoked { id: chain[index].clone(), is_end_entity: index == 0 })
    }
}

impl Revoked {
    pub(super) fn log(&self) {
        let VerifiedId { issuer, serial } = &self.id;
        if self.is_end_entity {
            error!(
                %serial,
                %issuer,
                "this service's own certificate is revoked, so it serves nobody and is not ready; enroll it again \
                 with a new token"
            );
        } else {
            error!(
                %serial,
                %issuer,
                "the certificate of a CA above this service is revoked, so it serves nobody and is not ready; set up \
                 another issuing CA, and enroll it again there"
            );
        }
    }
}

pub(super) fn log_good_again() {
    info!("the certificate that this service presents now is not revoked, so it serves again");
}
