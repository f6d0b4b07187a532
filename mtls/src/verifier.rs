//! The verifier of client certificates: rustls's own path validation, once for each chain, and then the live set.
//!
//! It never decides about revocation itself, and it sees full handshakes only: a resumed session skips every verifier, which is
//! why the acceptor asks the live set again after each handshake.

use std::{cell::RefCell, iter, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{
    clock::Clock,
    paths::{ChainDigest, VerifiedPaths},
    peer::Presented,
    revocation::{LiveSet, Refusal},
};

tokio::task_local! {
    /// What the verifier saw in the handshake that this task drives. rustls's errors say why a certificate was
    /// refused, not whose it was; the acceptor's log line needs both.
    pub(crate) static SEEN: RefCell<Seen>;
}

/// What the verifier saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) presented: Option<Arc<Presented>>,
    pub(crate) refusal: Option<Refusal>,
    /// The certificate is good, and whoever presents it did not sign the handshake with its key.
    pub(crate) is_without_key: bool,
}

/// Outside of an acceptor nobody collects this, and nothing depends on it.
fn note(change: impl FnOnce(&mut Seen)) {
    let _ = SEEN.try_with(|seen| change(&mut seen.borrow_mut()));
}

fn without_key(seen: &mut Seen) {
    seen.is_without_key = true;
}

/// Accepts clients whose certificate chains to a trusted root, is for clients, is valid now, and is not revoked.
#[derive(Debug)]
pub(crate) struct LiveClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    paths: Arc<VerifiedPaths>,
    live: LiveSet,
    clock: Clock,
}

impl LiveClientVerifier {
    /// Remembers in `paths`, which nobody else may fill, the chains that lead to one of these roots.
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        paths: Arc<VerifiedPaths>,
        live: LiveSet,
        clock: Clock,
    ) -> Result<Self, VerifierBuilderError> {
        // Without CRLs of its own: webpki would verify the signature over the whole list in every handshake.
        let inner = WebPkiClientVerifier::builder_with_provider(roots, crate::provider()).build()?;
        Ok(Self { inner, paths, live, clock })
    }

    /// What a chain says whose path was verified, now or earlier.
    fn verify_path(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Arc<Presented>, Error> {
        let chain = || iter::once(end_entity).chain(intermediates);
        let digest = ChainDigest::of(chain());
        // Everything that the verification came to was said by the same octets, but for the time.
        if let Some(presented) = digest.and_then(|digest| self.paths.recall_valid(&digest, self.clock.now())) {
            note(|seen| seen.presented = Some(Arc::clone(&presented)));
            return Ok(presented);
        }
        let read = Presented::read(chain()).map(Arc::new);
        note(|seen| {
            seen.presented = read.clone().or_else(|_| Presented::read(iter::once(end_entity)).map(Arc::new)).ok();
        });
        self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let presented = read.map_err(|_| CertificateError::BadEncoding)?;
        if let Some(digest) = digest {
            self.paths.remember(digest, Arc::clone(&presented));
        }
        Ok(presented)
    }
}

impl ClientCertVerifier for LiveClientVerifier {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let presented = self.verify_path(end_entity, intermediates, now)?;
        match self.live.check(&presented.ids, self.clock.now()) {
            Ok(()) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => {
                let error = match &refusal {
                    Refusal::Revoked(_) => CertificateError::Revoked,
                    // The client has done nothing wrong and its CA is not unknown: `access_denied` (RFC 8446 section 6.2).
                    Refusal::Barred(_) | Refusal::NoCrl(_) | Refusal::StaleCrl { .. } => {
                        CertificateError::ApplicationVerificationFailure
                    }
                };
                note(|seen| seen.refusal = Some(refusal));
                Err(error.into())
            }
        }
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature).inspect_err(|_| note(without_key))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature).inspect_err(|_| note(without_key))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
