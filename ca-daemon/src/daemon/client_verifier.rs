//! Client certificates at the authority's own listener: optional in the handshake; only this authority's are accepted.
//!
//! It never decides what a peer may do, nor whether it is revoked: each route that needs this asks the store.

use std::sync::Arc;

use mtls::tls::{CheckClient, PathValidator};
use pki::certificate::CertificateInfo;
use rustls::{CertificateError, DistinguishedName, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};

/// Accepts peers without a certificate, and every valid certificate that the issuing CA signed, of either profile.
///
/// Certificates of another CA below the root are refused: the store knows certificates by serial number only, and
/// another CA may use the same ones.
///
/// A relying party presents its server certificate here. rustls's own verifier would require `clientAuth` in it.
#[derive(Debug)]
pub(crate) struct FleetVerifier {
    paths: PathValidator,
    /// SHA-256 of the issuing CA's `SubjectPublicKeyInfo`.
    issuing: [u8; 32],
    hints: Vec<DistinguishedName>,
}

impl FleetVerifier {
    pub(crate) fn new(root: &CertificateDer<'static>, issuing: &CertificateDer<'_>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone())?;
        let issuing = CertificateInfo::from_der(issuing).map_err(|_| CertificateError::BadEncoding)?.spki_sha256;
        Ok(Self { hints: roots.subjects(), paths: PathValidator::of_members(Arc::new(roots)), issuing })
    }
}

impl CheckClient for FleetVerifier {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.paths.verify_issued_by(&self.issuing, end_entity, intermediates, now)
    }

    fn hints(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn is_mandatory(&self) -> bool {
        false
    }
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

    fn now() -> Timestamp {
        Timestamp::from_unix(1_795_510_800)
    }

    fn root(name: &str) -> CertificateAuthority {
        let serial = Serial::from_random([1; 16]);
        CertificateAuthority::new_root(&subject(name), KeyPair::generate().unwrap(), serial, now(), publication())
            .unwrap()
    }

    fn issuing(root: &CertificateAuthority, serial: u8) -> CertificateAuthority {
        let (key, serial) = (KeyPair::generate().unwrap(), Serial::from_random([serial; 16]));
        root.new_issuing(&subject("Fleet"), key, serial, now(), publication()).unwrap()
    }

    fn subject(name: &str) -> AuthoritySubject {
        AuthoritySubject { organization: "Tests".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn publication() -> Publication {
        Publication {
            crl_url: String::new(),
            delta_crl_url: None,
            servers_crl_url: None,
            certificate_url: String::new(),
        }
    }

    fn issue(authority: &CertificateAuthority, profile: Profile) -> CertificateDer<'static> {
        let order = OperatorOrder {
            profile,
            subject: "service0".parse().unwrap(),
            organization: None,
            hosts: if profile == Profile::Server { Host::local() } else { Vec::new() },
            public_key: PublicKey::from_spki(&KeyPair::generate().unwrap().spki()).unwrap(),
            lifetime: Duration::from_hours(1),
        };
        let order = Policy { trust_domain: "fleet.example".parse().unwrap() }.by_operator(order).unwrap();
        authority.issue(&order, Serial::from_random([4; 16]), now()).unwrap().der
    }

    fn verify(
        verifier: &FleetVerifier,
        certificate: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(now().unix().unsigned_abs()));
        verifier.check(certificate, above, at)
    }

    /// Two CAs below one root, with the same name, have used the same serial number.
    #[test]
    fn a_certificate_of_another_ca_below_the_root_is_refused() {
        let root = root("Fleet");
        let [ours, other] = [2, 3].map(|serial| issuing(&root, serial));
        let verifier = FleetVerifier::new(root.certificate(), ours.certificate()).unwrap();
        let above = [other.certificate().clone(), ours.certificate().clone()];
        for profile in [Profile::Client, Profile::Server] {
            verify(&verifier, &issue(&ours, profile), &above).unwrap();
            assert!(verify(&verifier, &issue(&other, profile), &above).is_err(), "{profile:?}");
        }
        assert!(verify(&verifier, &issue(&root, Profile::Client), &above).is_err());
    }

    /// The path builder would try every order of the presented certificates: 150 with one name take a second.
    #[test]
    fn at_most_a_paths_number_of_certificates_is_examined() {
        let root = root("Fleet");
        let issuing = issuing(&root, 2);
        let verifier = FleetVerifier::new(root.certificate(), issuing.certificate()).unwrap();
        let certificate = issue(&issuing, Profile::Client);
        let above = |count| vec![issuing.certificate().clone(); count];
        verify(&verifier, &certificate, &above(6)).unwrap();
        let error = verify(&verifier, &certificate, &above(7)).unwrap_err();
        assert!(format!("{error:?}").contains("Certificates(7)"), "{error:?}");
    }
}
