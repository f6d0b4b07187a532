//! The authority whose lists the targets verify.

use std::sync::LazyLock;

use pki::{
    certificate::CertificateInfo,
    crl::CrlIssuer,
    issuing::{AuthoritySubject, CertificateAuthority, Publication},
    key::KeyPair,
    serial::Serial,
    time::Timestamp,
};

/// An authority whose key is drawn anew in each run, and therefore in no corpus.
pub(crate) static AUTHORITY: LazyLock<(KeyPair, CrlIssuer)> = LazyLock::new(|| {
    let subject = AuthoritySubject {
        organization: "Fuzz".parse().expect("an organization"),
        name: "Fuzz".parse().expect("a name"),
    };
    let publication = Publication {
        crl_url: "http://ca.example/crl".into(),
        delta_crl_url: None,
        servers_crl_url: None,
        certificate_url: "http://ca.example/crt".into(),
    };
    let key = KeyPair::generate().expect("a key");
    let copy = KeyPair::from_pem(key.to_pem()).expect("its own PEM");
    let now = Timestamp::from_unix(1_795_510_800);
    let root = CertificateAuthority::new_root(&subject, copy, Serial::from_random([1; 16]), now, publication);
    let certificate = CertificateInfo::from_der(root.expect("a root").certificate()).expect("a certificate");
    (key, CrlIssuer::from_certificate(&certificate).expect("a root signs CRLs"))
});
