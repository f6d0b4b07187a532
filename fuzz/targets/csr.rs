//! Any bytes are read as a request or refused. A certificate issued for one has only approved names and no extra
//! rights.

use std::sync::LazyLock;

use pki::{
    csr::CertificateRequest,
    issuing::CertificateAuthority,
    key::KeyPair,
    policy::{Grant, Policy, ProfileGrant},
    profile::Profile,
};
use testkit::{
    authority::{new_key, now, root, serial},
    signed::{SEQUENCE, element, sign},
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

struct World {
    key: KeyPair,
    authority: CertificateAuthority,
    grant: Grant,
    policy: Policy,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let (authority, _) = root();
    World {
        key: new_key(),
        authority,
        grant: Grant {
            profile: ProfileGrant::Any,
            names: "*".parse().expect("a pattern"),
            hosts: vec!["*".parse().expect("a pattern")],
        },
        policy: Policy { trust_domain: "fleet.example".parse().expect("a domain") },
    }
});

/// Uses `data` twice: as a request, and as the subject and attributes of a correctly signed one (one byte with the
/// subject's length, the subject, the attributes).
pub(crate) fn check(data: &[u8]) {
    check_request(data);
    if let Some((length, rest)) = data.split_first()
        && let Some((subject, attributes)) = rest.split_at_checked(usize::from(*length))
    {
        let body = [&[2, 1, 0], subject, &WORLD.key.spki(), attributes].concat();
        check_request(&sign(&element(SEQUENCE, &body), &WORLD.key));
    }
}

fn check_request(der: &[u8]) {
    let Ok(request) = CertificateRequest::from_der(der) else { return };
    for profile in [Profile::Client, Profile::Server] {
        match WORLD.policy.approve(&WORLD.grant, profile, request.clone()) {
            Ok(order) => {
                let issued = WORLD.authority.issue(&order, serial(2), now());
                let issued = issued.expect("what policy approves can be signed");
                assert_eq!(issued.info.common_name.as_deref(), Some(order.subject().as_str()));
                assert_eq!(issued.info.profile, Some(profile));
                assert_powerless(&issued.der, profile);
            }
            Err(denial) => assert!(!denial.to_string().contains(char::is_control), "{denial:?}"),
        }
    }
}

fn assert_powerless(certificate: &[u8], profile: Profile) {
    let (rest, certificate) = X509Certificate::from_der(certificate).expect("a certificate");
    assert!(rest.is_empty() && !certificate.is_ca());
    let usage = certificate.key_usage().ok().flatten().expect("a key usage");
    assert_eq!(usage.value.flags, 1, "digitalSignature alone");
    let names = certificate.subject_alternative_name().ok().flatten().expect("alternative names");
    assert!(!names.value.general_names.is_empty());
    for name in &names.value.general_names {
        match (profile, name) {
            (Profile::Client, GeneralName::URI(uri)) => assert!(uri.starts_with("spiffe://fleet.example/client/")),
            (Profile::Server, GeneralName::DNSName(_) | GeneralName::IPAddress(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}
