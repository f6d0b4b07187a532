//! Who is at the other end of a connection, as its verified certificate says.
//!
//! It never decides whether the peer may do something.

use std::{
    any::Any,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use pki::{
    certificate::{CertificateError, CertificateId, CertificateInfo},
    time::{Timestamp, Validity},
};
use rustls_pki_types::CertificateDer;

use crate::revocation::{LiveSet, Refusal};

/// The authenticated client of a connection. Handlers receive it as `Extension<Peer>`; clones are cheap.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Connected>);

#[derive(Debug)]
struct Connected {
    presented: Arc<Presented>,
    address: SocketAddr,
    kept: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// What the certificates say that a peer presented.
#[derive(Debug)]
pub(crate) struct Presented {
    /// Of the peer's own certificate.
    pub(crate) info: CertificateInfo,
    /// Issuer and serial number of each, the peer's own first.
    pub(crate) ids: Arc<[CertificateId]>,
    /// When all of them are valid.
    pub(crate) validity: Validity,
}

impl Presented {
    /// Reads a chain, the peer's own certificate first.
    pub(crate) fn read<'a, 'b: 'a>(
        chain: impl Iterator<Item = &'a CertificateDer<'b>>,
    ) -> Result<Self, CertificateError> {
        let mut certificates = chain.map(|certificate| CertificateInfo::from_der(certificate));
        let info = certificates.next().ok_or(CertificateError::NotACertificate)??;
        let (mut ids, mut validity) = (vec![info.id.clone()], info.validity);
        for above in certificates {
            let above = above?;
            validity = validity.within(above.validity);
            ids.push(above.id);
        }
        Ok(Self { info, ids: ids.into(), validity })
    }
}

impl Peer {
    pub(crate) fn new(presented: Arc<Presented>, address: SocketAddr) -> Self {
        Self(Arc::new(Connected { presented, address, kept: OnceLock::new() }))
    }

    /// What the peer's certificate says.
    #[must_use]
    pub fn certificate(&self) -> &CertificateInfo {
        &self.0.presented.info
    }

    /// The client's address: the balancer's word for it where a balancer is configured.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// What a service works out at the first request of a connection and needs for each that follows: a connection keeps one thing,
    /// of one type. None if it keeps one of another type already.
    pub fn keep<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.0.kept.get_or_init(|| Box::new(make())).downcast_ref()
    }

    /// Issuer and serial number of every certificate that it presented, its own first.
    pub(crate) fn chain(&self) -> Arc<[CertificateId]> {
        Arc::clone(&self.0.presented.ids)
    }

    /// Whether the peer may still be served at this moment.
    pub(crate) fn check(&self, live: &LiveSet, now: Timestamp) -> Result<(), PeerRefusal> {
        live.check(&self.0.presented.ids, now)?;
        let not_after = self.0.presented.info.validity.not_after;
        if now > not_after { Err(PeerRefusal::Expired(not_after)) } else { Ok(()) }
    }
}

/// Why a peer that was let in once is not served any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerRefusal {
    #[error(transparent)]
    Revocation(#[from] Refusal),
    #[error("the certificate expired at {0}")]
    Expired(Timestamp),
}
