//! Path validation (RFC 5280 section 6) by webpki. It finds the presented certificates that lead from a peer's own to a
//! trust anchor, and the key that verified each of them. rustls's own verifiers have the same result, but do not return
//! the path.
//!
//! It never decides about revocation.

use std::{cell::Cell, sync::Arc};

use pki::{
    certificate::{CertificateInfo, IssuerId},
    key::{Weakness, is_of_small_order},
};
use rustls::{CertificateError, Error, RootCertStore, crypto::WebPkiSupportedAlgorithms};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, RequiredEkuNotFoundContext, VerifiedPath,
};

use crate::{
    errors::{in_words, is_refusal, refused},
    tls::{
        aside::aside,
        candidates::{Anchors, Excess},
        seen::note,
        verified_chain::VerifiedChain,
    },
};

/// Validates paths to trust anchors.
#[derive(Debug)]
pub struct PathValidator {
    roots: Arc<RootCertStore>,
    anchors: Anchors,
    algorithms: WebPkiSupportedAlgorithms,
    usage: Usage,
}

/// What a peer's certificate must be for.
#[derive(Clone, Copy, Debug)]
enum Usage {
    Client,
    Server,
    /// Either.
    Any,
}

/// A key on the path signed something that its key usage does not allow (RFC 5280 section 4.2.1.3). webpki does not
/// check that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Misuse {
    #[error("the peer's certificate has a key usage without digitalSignature, so its key may not sign a handshake")]
    Handshake,
    #[error(
        "a certificate above the peer's own has a key usage without keyCertSign, so its key may not sign a certificate"
    )]
    Certificate,
}

impl PathValidator {
    /// For clients' certificates below these roots.
    #[must_use]
    pub fn of_clients(roots: Arc<RootCertStore>) -> Self {
        Self::new(roots, Usage::Client)
    }

    /// For servers' certificates below these roots.
    #[must_use]
    pub fn of_servers(roots: Arc<RootCertStore>) -> Self {
        Self::new(roots, Usage::Server)
    }

    /// For both below these roots.
    #[must_use]
    pub fn of_members(roots: Arc<RootCertStore>) -> Self {
        Self::new(roots, Usage::Any)
    }

    fn new(roots: Arc<RootCertStore>, usage: Usage) -> Self {
        let (anchors, algorithms) =
            (Anchors::new(&roots), crate::tls::provider::provider().signature_verification_algorithms);
        Self { roots, anchors, algorithms, usage }
    }

    /// Verifies a client's certificate for a server. The CA with this key must have signed it, and it must lead to a
    /// root over a path that is valid now. `issuer` is the SHA-256 of the CA's `SubjectPublicKeyInfo`.
    pub fn verify_issued_by(
        &self,
        issuer: &[u8; 32],
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let is_issuer = |presented: &VerifiedChain| presented.ids[0].issuer.spki_sha256 == *issuer;
        match self.validate(end_entity, intermediates, now, is_issuer) {
            Ok(_) => Ok(()),
            Err(error) => Err(told(error, end_entity)),
        }
    }

    /// The certificates of a path that is valid now. There may be several paths, such as for a CA that an old root and
    /// a new one have certified. Then it is one that `is_good` accepts.
    pub(crate) fn validate(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        is_good: impl Fn(&VerifiedChain) -> bool,
    ) -> Result<VerifiedChain, Error> {
        Excess::check(end_entity, intermediates).map_err(refused)?;
        aside(|| self.find(end_entity, intermediates, now, is_good))
    }

    fn find(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        is_good: impl Fn(&VerifiedChain) -> bool,
    ) -> Result<VerifiedChain, Error> {
        let certificate = EndEntityCert::try_from(end_entity).map_err(tls_error)?;
        // With such a key, a signature can be made without the private key.
        if is_of_small_order(&certificate.subject_public_key_info()) {
            return Err(refused(Weakness::SmallOrder));
        }
        let above = self.anchors.candidates(&certificate, intermediates).ok_or(CertificateError::UnknownIssuer)?;
        let (accepted, misused) = (Cell::new(None), Cell::new(None));
        // webpki tries another path after any error, so the reason is recorded here and not returned through it.
        let judge = |path: &VerifiedPath<'_>| match read(path) {
            Ok(Ok(presented)) if is_good(&presented) => {
                accepted.set(Some(presented));
                Ok(())
            }
            Ok(Ok(_)) => Err(webpki::Error::UnknownIssuer),
            Ok(Err(misuse)) => {
                misused.set(Some(misuse));
                Err(webpki::Error::UnknownIssuer)
            }
            Err(_) => Err(webpki::Error::BadDer),
        };
        let (algorithms, anchors) = (self.algorithms.all, &self.roots.roots);
        let verified =
            certificate.verify_for_usage(algorithms, anchors, &above, now, self.usage, None, Some(&judge)).map(drop);
        match (verified, misused.take()) {
            (Ok(()), _) => accepted.take().ok_or_else(|| CertificateError::BadEncoding.into()),
            (Err(_), Some(misuse)) => Err(refused(misuse)),
            (Err(error), None) => Err(tls_error(error)),
        }
    }
}

impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        match self {
            Self::Client => KeyUsage::client_auth().validate(usages),
            Self::Server => KeyUsage::server_auth().validate(usages),
            Self::Any => {
                let ours = [KeyUsage::CLIENT_AUTH_REPR, KeyUsage::SERVER_AUTH_REPR];
                let (mut is_any, mut is_ours) = (true, false);
                for usage in usages {
                    is_any = false;
                    is_ours |= ours.contains(&&*usage?.to_decoded_oid());
                }
                if is_any || is_ours {
                    return Ok(());
                }
                let lacking = RequiredEkuNotFoundContext { required: KeyUsage::client_auth(), present: Vec::new() };
                Err(webpki::Error::RequiredEkuNotFoundContext(lacking))
            }
        }
    }
}

/// Records the reason for the log, and returns the error with the most specific alert for the client.
pub(crate) fn told(error: Error, end_entity: &CertificateDer<'_>) -> Error {
    let is_excess = is_refusal::<Excess>(&error);
    // A chain that is larger than any of ours is not parsed.
    let client = (!is_excess).then(|| aside(|| CertificateInfo::from_der(end_entity).ok())).flatten();
    let is_misuse = is_refusal::<Misuse>(&error);
    note(|seen| (seen.client, seen.why) = (client.map(Arc::new), Some(in_words(&error))));
    if is_misuse { CertificateError::InvalidPurpose.into() } else { error }
}

/// Reads the certificates on a path. Refuses one whose key was used against its key usage.
fn read(path: &VerifiedPath<'_>) -> Result<Result<VerifiedChain, Misuse>, pki::certificate::CertificateError> {
    let own = CertificateInfo::from_der(&path.end_entity().der())?;
    let above = path.intermediate_certificates().map(|above| CertificateInfo::from_der(&above.der()));
    let above = above.collect::<Result<Vec<_>, _>>()?;
    if !own.may_sign.handshakes {
        return Ok(Err(Misuse::Handshake));
    }
    if above.iter().any(|authority| !authority.may_sign.certificates) {
        return Ok(Err(Misuse::Certificate));
    }
    let anchor = path.anchor();
    let anchor = IssuerId::of_anchor(&anchor.subject, &anchor.subject_public_key_info);
    let certificates = std::iter::once(own).chain(above).collect();
    VerifiedChain::on_path(certificates, anchor).map(Ok)
}

/// The error that rustls's own verifiers would return. It decides about the alert.
fn tls_error(error: webpki::Error) -> Error {
    use webpki::Error as Path;
    match error {
        Path::BadDer | Path::BadDerTime | Path::TrailingData(_) => CertificateError::BadEncoding,
        Path::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        Path::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        Path::InvalidCertValidity => CertificateError::Expired,
        // A CA with the name of a trusted one and another key is another CA, also if the key is of another kind. rustls
        // treats that as a cryptographic error, and its alert would be that of a peer without its private key.
        Path::UnknownIssuer
        | Path::InvalidSignatureForPublicKey
        | Path::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => CertificateError::UnknownIssuer,
        Path::UnsupportedSignatureAlgorithmContext(context) => CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: context.signature_algorithm_id,
            supported_algorithms: context.supported_algorithms,
        },
        Path::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        error => return refused(error),
    }
    .into()
}
