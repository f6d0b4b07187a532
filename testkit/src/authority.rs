//! Temporary authorities. Their keys are generated in each run, so no corpus contains them.
//!
//! It never publishes anything: nothing listens at the URLs in their certificates.

use pki::{
    issuing::{AuthoritySubject, CertificateAuthority, Publication},
    key::KeyPair,
    serial::Serial,
    time::Timestamp,
};

/// 2026-11-24 09:00:00 UTC, the default time of tests.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_unix(1_795_510_800)
}

/// A serial number of the usual length, different for each argument.
#[must_use]
pub fn serial(number: u64) -> Serial {
    let mut bytes = [0x5a; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Serial::from_random(bytes)
}

/// A new key.
#[must_use]
pub fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key is drawn")
}

/// A copy of a key, because an authority takes ownership of its key.
#[must_use]
pub fn copy(key: &KeyPair) -> KeyPair {
    KeyPair::from_pem(key.to_pem()).expect("its own PEM")
}

/// A root that signs at [`now`], and its key.
#[must_use]
pub fn root() -> (CertificateAuthority, KeyPair) {
    let subject = AuthoritySubject {
        organization: "Tests".parse().expect("an organization"),
        name: "Any".parse().expect("a name"),
    };
    let publication = Publication {
        crl_url: "http://ca.example/crl".into(),
        delta_crl_url: None,
        servers_crl_url: None,
        certificate_url: "http://ca.example/crt".into(),
    };
    let key = new_key();
    let root = CertificateAuthority::new_root(&subject, copy(&key), serial(1), now(), publication);
    (root.expect("a root is made"), key)
}
