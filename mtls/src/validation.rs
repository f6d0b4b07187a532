//! Path validation (RFC 5280 section 6), by webpki: which of the certificates that a peer presents lead from its own to a trust anchor,
//! and whose key verified each of them.
//!
//! It never decides about revocation. rustls's own verifiers come to the same end, and do not say which path they took.

use std::{cell::Cell, sync::Arc};

use pki::{
    certificate::{CertificateInfo, IssuerId},
    key::{Weakness, is_of_small_order},
};
use rustls::{CertificateError, Error, RootCertStore, crypto::WebPkiSupportedAlgorithms};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::{errors::refused, peer::Presented};

/// So many certificates may stand above a peer's own: as many as webpki lets a path have. It tries every order of more, for seconds.
const MOST_ABOVE: usize = 6;

/// Validates paths to trust anchors.
#[derive(Debug)]
pub struct PathValidator {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    /// Who they have certificates for: clients or servers.
    usage: fn() -> KeyUsage,
}

/// More certificates than any path has.
#[derive(Debug, thiserror::Error)]
#[error("{0} certificates were presented above the peer's own; at most {MOST_ABOVE} are looked at")]
struct TooMany(usize);

impl PathValidator {
    /// For clients' certificates beneath these roots.
    #[must_use]
    pub fn of_clients(roots: Arc<RootCertStore>) -> Self {
        Self::new(roots, KeyUsage::client_auth)
    }

    /// For servers' certificates beneath these roots.
    #[must_use]
    pub fn of_servers(roots: Arc<RootCertStore>) -> Self {
        Self::new(roots, KeyUsage::server_auth)
    }

    fn new(roots: Arc<RootCertStore>, usage: fn() -> KeyUsage) -> Self {
        Self { roots, algorithms: crate::provider().signature_verification_algorithms, usage }
    }

    /// Accepts a certificate that the CA with this key has signed, and that leads to a root over a path that is valid now. `issuer` is the
    /// SHA-256 of the CA's `SubjectPublicKeyInfo`.
    pub fn verify_issued_by(
        &self,
        issuer: &[u8; 32],
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let is_issuer = |presented: &Presented| presented.ids[0].issuer.spki_sha256 == *issuer;
        self.validate(end_entity, intermediates, now, is_issuer).map(drop)
    }

    /// What the certificates of a path say that is valid now. There may be several, as where a CA has been certified by an old root and
    /// by a new one: then it is one that `is_good`.
    pub(crate) fn validate(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        is_good: impl Fn(&Presented) -> bool,
    ) -> Result<Presented, Error> {
        if intermediates.len() > MOST_ABOVE {
            return Err(refused(TooMany(intermediates.len())));
        }
        let certificate = EndEntityCert::try_from(end_entity).map_err(tls_error)?;
        // Whoever signs the handshake need not have the key.
        if is_of_small_order(&certificate.subject_public_key_info()) {
            return Err(refused(Weakness::SmallOrder));
        }
        let accepted = Cell::new(None);
        // What webpki is told of a path that is not good is not what becomes of it: it looks for another.
        let judge = |path: &VerifiedPath<'_>| match read(path) {
            Ok(presented) if is_good(&presented) => {
                accepted.set(Some(presented));
                Ok(())
            }
            Ok(_) => Err(webpki::Error::UnknownIssuer),
            Err(_) => Err(webpki::Error::BadDer),
        };
        let (algorithms, anchors) = (self.algorithms.all, &self.roots.roots);
        certificate
            .verify_for_usage(algorithms, anchors, intermediates, now, (self.usage)(), None, Some(&judge))
            .map_err(tls_error)?;
        accepted.take().ok_or_else(|| CertificateError::BadEncoding.into())
    }
}

fn read(path: &VerifiedPath<'_>) -> Result<Presented, pki::certificate::CertificateError> {
    let above = path.intermediate_certificates().map(webpki::Cert::der);
    let certificates = std::iter::once(path.end_entity().der()).chain(above);
    let certificates = certificates.map(|der| CertificateInfo::from_der(&der)).collect::<Result<_, _>>()?;
    let anchor = path.anchor();
    Presented::on_path(certificates, IssuerId::of_anchor(&anchor.subject, &anchor.subject_public_key_info))
}

/// The error as rustls's own verifiers have it, which decides about the alert.
fn tls_error(error: webpki::Error) -> Error {
    use webpki::Error as Path;
    match error {
        Path::BadDer | Path::BadDerTime | Path::TrailingData(_) => CertificateError::BadEncoding,
        Path::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        Path::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        Path::InvalidCertValidity => CertificateError::Expired,
        Path::UnknownIssuer => CertificateError::UnknownIssuer,
        Path::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        Path::UnsupportedSignatureAlgorithmContext(context) => CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: context.signature_algorithm_id,
            supported_algorithms: context.supported_algorithms,
        },
        Path::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: context.signature_algorithm_id,
                public_key_algorithm_id: context.public_key_algorithm_id,
            }
        }
        Path::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        error => return refused(error),
    }
    .into()
}
