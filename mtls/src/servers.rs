//! The verifier of servers' certificates: path validation, once for each chain and name that a server presents.
//!
//! It never skips the proof that the server holds its key, and whether the chain is valid at this moment is asked each time.

use std::{iter, sync::Arc};

use rustls::{
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{
    clock::Clock,
    paths::{ChainDigest, VerifiedPaths},
    validation::PathValidator,
};

/// Accepts servers whose certificate chains to a trusted root, bears the name that was asked for, is for servers, and is valid now.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    validator: PathValidator,
    algorithms: WebPkiSupportedAlgorithms,
    paths: VerifiedPaths,
    clock: Clock,
}

impl ServerVerifier {
    pub(crate) fn new(roots: Arc<RootCertStore>, clock: Clock) -> Self {
        Self {
            validator: PathValidator::of_servers(roots),
            algorithms: crate::provider().signature_verification_algorithms,
            paths: VerifiedPaths::default(),
            clock,
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let digest = ChainDigest::of(iter::once(end_entity).chain(intermediates));
        let digest = digest.map(|digest| digest.under(server_name));
        // Everything that the validation came to was said by the same bytes under the same name, but for the time.
        if digest.and_then(|digest| self.paths.recall_valid(&digest, self.clock.now())).is_some() {
            return Ok(ServerCertVerified::assertion());
        }
        let presented = self.validator.validate(end_entity, intermediates, now, |_| true)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        if let Some(digest) = digest {
            self.paths.remember(digest, Arc::new(presented));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
