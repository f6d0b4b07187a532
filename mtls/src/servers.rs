//! The verifier of servers' certificates: rustls's own path validation, once for each chain and name that a server presents.
//!
//! It never skips the proof that the server holds its key, and whether the chain is valid at this moment is asked each time.

use std::{iter, sync::Arc};

use rustls::{
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{
    clock::Clock,
    paths::{ChainDigest, VerifiedPaths},
    peer::Presented,
};

/// Accepts servers whose certificate chains to a trusted root, bears the name that was asked for, is for servers, and is valid now.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    inner: Arc<WebPkiServerVerifier>,
    paths: VerifiedPaths,
    clock: Clock,
}

impl ServerVerifier {
    pub(crate) fn new(roots: Arc<RootCertStore>, clock: Clock) -> Result<Self, Error> {
        let inner = WebPkiServerVerifier::builder_with_provider(roots, crate::provider()).build();
        let inner = inner.map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { inner, paths: VerifiedPaths::default(), clock })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = || iter::once(end_entity).chain(intermediates);
        let digest = ChainDigest::of(chain()).map(|digest| digest.under(server_name));
        // Everything that the verification came to was said by the same octets under the same name, but for the time.
        if digest.and_then(|digest| self.paths.recall_valid(&digest, self.clock.now())).is_some() {
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        if let (Some(digest), Ok(presented)) = (digest, Presented::read(chain())) {
            self.paths.remember(digest, Arc::new(presented));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
