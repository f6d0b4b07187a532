//! Client certificates at the authority's own listener: optional in the handshake, and whose chain leads to our root if
//! one is presented.
//!
//! It never decides what a peer may do, nor whether it is revoked: each route that needs to know asks the store.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

/// Accepts whoever presents nothing, and every certificate beneath the root that is valid now, of either profile.
///
/// A relying party comes as the server that it is; rustls's own verifier would ask for `clientAuth` in its certificate.
#[derive(Debug)]
pub(crate) struct FleetVerifier {
    roots: RootCertStore,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl FleetVerifier {
    pub(crate) fn new(root: &CertificateDer<'static>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone())?;
        Ok(Self { hints: roots.subjects(), roots, provider: mtls::provider() })
    }
}

impl ClientCertVerifier for FleetVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let certificate = EndEntityCert::try_from(end_entity).map_err(|error| refusal(&error))?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let verify = |usage| {
            certificate.verify_for_usage(algorithms, &self.roots.roots, intermediates, now, usage, None, None).map(drop)
        };
        verify(KeyUsage::server_auth())
            .or_else(|_| verify(KeyUsage::client_auth()))
            .map_err(|error| refusal(&error))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The reason as rustls puts it into an alert.
fn refusal(error: &webpki::Error) -> Error {
    match error {
        webpki::Error::BadDer => CertificateError::BadEncoding,
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        _ => CertificateError::BadSignature,
    }
    .into()
}
