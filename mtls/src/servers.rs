//! The verifier of servers' certificates: path validation, once for each chain and name that a server presents.
//!
//! It never skips the proof that the server holds its key, and whether the chain is valid at this moment is asked each time, and so is
//! the standing of the server where there is somebody to ask.

use std::sync::Arc;

use edge::clock::Clock;
use rustls::{
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{
    errors::refused,
    paths::{Chain, NoPath, VerifiedPaths},
    peer::Presented,
    standing::ServerStanding,
    validation::PathValidator,
};

/// Accepts servers whose certificate chains to a trusted root, bears the name that was asked for, is for servers, is valid now, and
/// where there is somebody to ask, is not revoked.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    algorithms: WebPkiSupportedAlgorithms,
    paths: Arc<VerifiedPaths>,
    standing: Option<ServerStanding>,
}

impl ServerVerifier {
    /// One that asks nobody.
    pub(crate) fn new(roots: Arc<RootCertStore>, clock: Clock) -> Self {
        Self::with(Arc::new(VerifiedPaths::new(PathValidator::of_servers(roots), clock)), None)
    }

    /// One that trusts whom this standing trusts, and asks it.
    pub(crate) fn asking(standing: ServerStanding) -> Self {
        Self::with(standing.paths(), Some(standing))
    }

    fn with(paths: Arc<VerifiedPaths>, standing: Option<ServerStanding>) -> Self {
        Self { algorithms: crate::provider().signature_verification_algorithms, paths, standing }
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
        let check = |presented: &Presented| self.standing.as_ref().map_or(Ok(()), |it| it.check(&presented.ids));
        match self.paths.find(Chain { end_entity, above: intermediates, name: Some(server_name) }, now, check) {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(NoPath::Invalid(error)) => Err(error),
            Err(NoPath::Refused { why, .. }) => Err(refused(why)),
        }
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
