//! Client certificates at the authority's own listener: optional in the handshake, and of our own issuing if one is presented.
//!
//! It never decides what a peer may do, nor whether it is revoked: each route that needs to know asks the store.

use std::sync::Arc;

use pki::certificate::{CertificateInfo, Fingerprint};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

/// Accepts whoever presents nothing, and every certificate that the issuing CA has signed and that is valid now, of either profile.
///
/// Not those of another CA beneath the root: the store knows certificates by their serial numbers, and another CA gives its own.
///
/// A relying party comes as the server that it is; rustls's own verifier would ask for `clientAuth` in its certificate.
#[derive(Debug)]
pub(crate) struct FleetVerifier {
    roots: RootCertStore,
    /// SHA-256 of the issuing CA's `SubjectPublicKeyInfo`.
    issuing: [u8; 32],
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl FleetVerifier {
    pub(crate) fn new(root: &CertificateDer<'static>, issuing: &CertificateDer<'_>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone())?;
        let issuing = CertificateInfo::from_der(issuing).map_err(|_| CertificateError::BadEncoding)?.spki_sha256;
        Ok(Self { hints: roots.subjects(), roots, issuing, provider: mtls::provider() })
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
        let is_of_issuing = |path: &VerifiedPath<'_>| match Fingerprint::of(&path.issuer_spki()) {
            Fingerprint(key) if key == self.issuing => Ok(()),
            _ => Err(webpki::Error::UnknownIssuer),
        };
        let verify = |usage| {
            let (roots, judge) = (&self.roots.roots, &is_of_issuing);
            certificate.verify_for_usage(algorithms, roots, intermediates, now, usage, None, Some(judge)).map(drop)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pki::{
        issuing::{AuthoritySubject, CertificateAuthority, Publication},
        key::{KeyPair, PublicKey},
        name::Host,
        policy::{OperatorOrder, Policy},
        profile::Profile,
        serial::Serial,
        time::Timestamp,
    };

    use super::*;

    /// Two CAs beneath one root, and of one name, have each given the same serial number.
    #[test]
    fn a_certificate_of_another_ca_beneath_the_root_is_not_taken_for_one_of_ours() {
        let now = Timestamp::from_unix(1_795_510_800);
        let subject = AuthoritySubject { organization: "Tests".parse().unwrap(), name: "Fleet".parse().unwrap() };
        let publication = || Publication {
            crl_url: String::new(),
            delta_crl_url: None,
            servers_crl_url: None,
            certificate_url: String::new(),
        };
        let key = || KeyPair::generate().unwrap();
        let serial = |number| Serial::from_random([number; 16]);
        let root = CertificateAuthority::new_root(&subject, key(), serial(1), now, publication()).unwrap();
        let [ours, other] =
            [2, 3].map(|number| root.new_issuing(&subject, key(), serial(number), now, publication()).unwrap());
        let policy = Policy { trust_domain: "fleet.example".parse().unwrap() };
        let issue = |authority: &CertificateAuthority, profile| {
            let order = OperatorOrder {
                profile,
                subject: "service0".parse().unwrap(),
                organization: None,
                hosts: if profile == Profile::Server { Host::local() } else { Vec::new() },
                public_key: PublicKey::from_spki(&key().spki()).unwrap(),
                lifetime: Duration::from_hours(1),
            };
            let order = policy.by_operator(order).unwrap();
            authority.issue(&order, serial(4), now).unwrap().der
        };
        let verifier = FleetVerifier::new(root.certificate(), ours.certificate()).unwrap();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(now.unix().unsigned_abs()));
        let above = [other.certificate().clone(), ours.certificate().clone()];
        for profile in [Profile::Client, Profile::Server] {
            verifier.verify_client_cert(&issue(&ours, profile), &above, at).unwrap();
            assert!(verifier.verify_client_cert(&issue(&other, profile), &above, at).is_err(), "{profile:?}");
        }
        assert!(verifier.verify_client_cert(&issue(&root, Profile::Client), &above, at).is_err());
    }
}
