//! The authorities in a chain: who signs the CRLs that cover it, and where those are published.
//!
//! It never fetches a CRL.

use pki::{certificate::CertificateInfo, crl::CrlIssuer};
use rustls_pki_types::CertificateDer;

use super::identity::{IdentityError, path_of};
use crate::revocation::Location;

/// Why revocation cannot be checked for the authorities above a certificate.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The identity is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A certificate of the chain has no CRL distribution point.
    #[error("the certificate of {0} names no http:// CRL distribution point, so its revocation could not be noticed")]
    NoCrlLocation(String),
    /// A certificate above it may not sign CRLs.
    #[error("{0} may not sign CRLs, so no revocation of its certificates could be believed")]
    NotACrlIssuer(String),
    /// The TLS library refuses the root.
    #[error("the root certificate cannot be used: {0}")]
    Root(#[from] rustls::Error),
}

/// An authority in a chain.
pub(crate) struct ChainIssuer {
    pub(crate) signs: CrlIssuer,
    /// The certificate that it signed, which contains the authority's distribution point.
    pub(crate) subject: CertificateInfo,
}

impl ChainIssuer {
    fn new(issuer: &CertificateInfo, subject: CertificateInfo) -> Result<Self, ChainError> {
        let signs =
            CrlIssuer::from_certificate(issuer).ok_or_else(|| ChainError::NotACrlIssuer(issuer.display_name()))?;
        Ok(Self { signs, subject })
    }

    pub(crate) fn distribution_point(&self) -> Result<Location, ChainError> {
        // A service's own certificate also names the list of servers. Its clients need the complete CRL.
        let uri = self.subject.complete_crl_url().and_then(|url| url.parse().ok());
        uri.map(Location::Url).ok_or_else(|| ChainError::NoCrlLocation(self.subject.display_name()))
    }
}

/// The authorities on the path from the first certificate of a chain to the root, the nearest first.
pub(crate) fn issuers(
    chain: &[CertificateDer<'static>],
    root: &CertificateDer<'static>,
) -> Result<Vec<ChainIssuer>, ChainError> {
    let path = path_of(chain, root)?;
    let authorities = path.iter().skip(1);
    path.iter().zip(authorities).map(|(subject, issuer)| ChainIssuer::new(issuer, subject.clone())).collect()
}
