//! The chain of certificates that a peer is judged by: those on one verified path to a trust anchor.
//!
//! It never verifies a path itself; [`validation`](super::validation) does.

use std::sync::Arc;

use pki::{
    certificate::{CertificateError, CertificateInfo, IssuerId, VerifiedId},
    time::Validity,
};

/// What the certificates on a verified path say, from a peer's own to the one below the trust anchor. What else the peer presented counts
/// for nothing.
#[derive(Debug)]
pub(crate) struct VerifiedChain {
    /// Of the peer's own certificate.
    pub(crate) info: Arc<CertificateInfo>,
    /// Each of them, the peer's own first. The trust anchor is not among them: nobody above it could revoke it, and who trusts it no more
    /// takes it out of the configuration.
    pub(crate) ids: Arc<[VerifiedId]>,
    /// When all of them are valid.
    pub(crate) validity: Validity,
}

impl VerifiedChain {
    /// A path, the peer's own certificate first, each signed by the next and the last by the anchor.
    pub(crate) fn on_path(certificates: Vec<CertificateInfo>, anchor: IssuerId) -> Result<Self, CertificateError> {
        let issuers = certificates.iter().skip(1).map(IssuerId::of).chain([anchor]);
        let ids = certificates.iter().zip(issuers).map(|(info, issuer)| VerifiedId { issuer, serial: info.id.serial });
        let ids = ids.collect();
        let mut certificates = certificates.into_iter();
        let info = certificates.next().ok_or(CertificateError::NotACertificate)?;
        let validity = certificates.fold(info.validity, |validity, above| validity.within(above.validity));
        Ok(Self { info: Arc::new(info), ids, validity })
    }
}
