//! The verifier of this library, for both sides of a handshake. What differs between the sides is a [`CheckClient`] or
//! a [`CheckServer`]. The signatures of every peer are verified here.
//!
//! It never decides whether a chain is valid.

use std::{fmt, ops::Deref, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{provider::provider, seen::note, verified_chains::Chain};

/// Decides whether a client's chain is accepted.
pub trait CheckClient: fmt::Debug + Send + Sync {
    /// Returns `Ok` if the client may be admitted with this certificate and those presented above it. An error contains
    /// the alert for the client.
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error>;

    /// The names of the trusted roots, for a client that has several certificates (RFC 8446 section 4.2.4).
    fn hints(&self) -> &[DistinguishedName];

    /// Whether a client without a certificate is refused.
    fn is_mandatory(&self) -> bool {
        true
    }
}

impl<C: CheckClient> CheckClient for Arc<C> {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.deref().check(end_entity, intermediates, now)
    }

    fn hints(&self) -> &[DistinguishedName] {
        self.deref().hints()
    }

    fn is_mandatory(&self) -> bool {
        self.deref().is_mandatory()
    }
}

/// Decides whether a server's chain is accepted.
pub(crate) trait CheckServer: fmt::Debug + Send + Sync {
    /// Returns `Ok` if a client may use the server that presents this chain under this name.
    fn check(&self, chain: Chain<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error>;
}

/// Verifies peers for rustls: their chains by `C`, and that they have the key of their certificate.
#[derive(Debug)]
pub struct Verifier<C> {
    check: C,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<C> Verifier<C> {
    /// A verifier that passes each chain to `check`.
    pub fn new(check: C) -> Self {
        Self { check, algorithms: provider().signature_verification_algorithms }
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
            .inspect_err(|_| note(|seen| seen.is_without_key = true))
    }

    /// Required by rustls's traits. TLS 1.2 is never negotiated.
    fn tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }
}

impl<C: CheckClient> ClientCertVerifier for Verifier<C> {
    fn client_auth_mandatory(&self) -> bool {
        self.check.is_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.check.hints()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check.check(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl<C: CheckServer> ServerCertVerifier for Verifier<C> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = Chain { end_entity, above: intermediates, name: Some(server_name) };
        self.check.check(chain, server_name, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
