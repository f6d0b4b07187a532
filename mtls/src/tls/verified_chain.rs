//! A verified path from a peer's certificate to a trust anchor. Decisions about a peer use only this.
//!
//! It never verifies a path itself; [`validation`](super::validation) does.

use std::sync::Arc;

use pki::{
    certificate::{CertificateError, CertificateInfo, IssuerId, VerifiedId},
    time::Validity,
};

/// The certificates on a verified path, from a peer's own to the one below the trust anchor. Other presented
/// certificates are not included.
#[derive(Debug)]
pub(crate) struct VerifiedChain {
    /// The peer's own certificate.
    pub(crate) info: Arc<CertificateInfo>,
    /// The certificates' identities, the peer's own first. The trust anchor is not included: no CRL can revoke it, and
    /// distrust means removing it from the configuration.
    pub(crate) ids: Arc<[VerifiedId]>,
    /// When all of them are valid.
    pub(crate) validity: Validity,
}

impl VerifiedChain {
    /// A path with the peer's own certificate first. Each is signed by the next, and the last by the anchor.
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
