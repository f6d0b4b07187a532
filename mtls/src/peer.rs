//! Who is at the other end of a connection, as its verified certificate says.
//!
//! It never decides whether the peer may do something.

use std::{net::SocketAddr, sync::Arc};

use pki::{
    certificate::{CertificateError, CertificateId, CertificateInfo},
    time::Timestamp,
};
use rustls_pki_types::CertificateDer;

use crate::revocation::{LiveSet, Refusal};

/// The authenticated client of a connection. Handlers receive it as `Extension<Peer>`; clones are cheap.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Connected>);

#[derive(Debug)]
struct Connected {
    info: CertificateInfo,
    chain: Arc<[CertificateId]>,
    address: SocketAddr,
}

impl Peer {
    pub(crate) fn new(chain: &[CertificateDer<'_>], address: SocketAddr) -> Result<Self, CertificateError> {
        let first = chain.first().ok_or(CertificateError::NotACertificate)?;
        let info = CertificateInfo::from_der(first)?;
        Ok(Self(Arc::new(Connected { info, chain: certificate_ids(chain)?, address })))
    }

    /// What the peer's certificate says.
    #[must_use]
    pub fn certificate(&self) -> &CertificateInfo {
        &self.0.info
    }

    /// The client's address: the balancer's word for it where a balancer is configured.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Issuer and serial number of every certificate that it presented, its own first.
    pub(crate) fn chain(&self) -> Arc<[CertificateId]> {
        Arc::clone(&self.0.chain)
    }

    /// Whether the peer may still be served at this moment.
    pub(crate) fn check(&self, live: &LiveSet, now: Timestamp) -> Result<(), PeerRefusal> {
        live.check(&self.0.chain, now)?;
        let not_after = self.0.info.validity.not_after;
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

/// Issuer and serial number of each certificate.
pub(crate) fn certificate_ids(chain: &[CertificateDer<'_>]) -> Result<Arc<[CertificateId]>, CertificateError> {
    chain.iter().map(|certificate| CertificateId::from_der(certificate)).collect()
}
