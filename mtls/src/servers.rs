//! The verifier of servers' certificates: path validation, once for each chain and name that a server presents.
//!
//! It never skips the proof that the server holds its key, and whether the chain is valid at this moment is asked each time, and so is
//! the standing of the server where there is somebody to ask.

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
    peer::Presented,
    standing::{ServerStanding, refused},
    validation::PathValidator,
};

/// Accepts servers whose certificate chains to a trusted root, bears the name that was asked for, is for servers, is valid now, and
/// where there is somebody to ask, is not revoked.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    validator: PathValidator,
    algorithms: WebPkiSupportedAlgorithms,
    paths: VerifiedPaths,
    clock: Clock,
    standing: Option<ServerStanding>,
}

impl ServerVerifier {
    pub(crate) fn new(roots: Arc<RootCertStore>, clock: Clock, standing: Option<ServerStanding>) -> Self {
        Self {
            validator: PathValidator::of_servers(roots),
            algorithms: crate::provider().signature_verification_algorithms,
            paths: VerifiedPaths::default(),
            clock,
            standing,
        }
    }

    /// The path of a chain under this name, validated now or earlier, of a server that may be talked to.
    fn path(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<Arc<Presented>, Error> {
        let digest = ChainDigest::of(iter::once(end_entity).chain(intermediates));
        let named = digest.map(|digest| digest.under(server_name));
        // Everything that the validation came to was said by the same bytes under the same name, but for the time.
        let known = named.and_then(|named| self.paths.recall_valid(&named, self.clock.now()));
        let known = if let Some(presented) = known {
            presented
        } else {
            let presented = Arc::new(self.validator.validate(end_entity, intermediates, now, |_| true)?);
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            self.remember(digest, named, &presented);
            presented
        };
        let Some(standing) = &self.standing else { return Ok(known) };
        let Err(refusal) = standing.check(&known.ids) else { return Ok(known) };
        // What is refused may be a cross-certificate that there is no need of.
        if intermediates.len() >= known.ids.len() {
            let is_good = |presented: &Presented| standing.check(&presented.ids).is_ok();
            if let Ok(other) = self.validator.validate(end_entity, intermediates, now, is_good) {
                let other = Arc::new(other);
                self.remember(digest, named, &other);
                return Ok(other);
            }
        }
        Err(refused(refusal))
    }

    fn remember(&self, digest: Option<ChainDigest>, named: Option<ChainDigest>, presented: &Arc<Presented>) {
        if let (Some(digest), Some(named)) = (digest, named) {
            self.paths.remember(named, Arc::clone(presented));
            if let Some(standing) = &self.standing {
                standing.remember(digest, presented);
            }
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
        self.path(end_entity, intermediates, server_name, now)?;
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
