//! Any bytes are read as a CRL or refused. An accepted CRL was signed, and another parser reads the same serial
//! numbers.

use std::sync::LazyLock;

use pki::{
    crl::{CrlIssuer, VerifiedCrl, VerifiedDelta},
    key::KeyPair,
    serial::Serial,
};
use testkit::{
    authority::root,
    signed::{SEQUENCE, element, sign},
};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

/// The authority that signs the CRLs, and its key.
static AUTHORITY: LazyLock<(KeyPair, CrlIssuer)> = LazyLock::new(|| {
    let (root, key) = root();
    (key, CrlIssuer::from_certificate(root.info()).expect("a root signs CRLs"))
});

/// Uses `data` twice: as a CRL, and as the contents of a correctly signed `TBSCertList`.
pub(crate) fn check(data: &[u8]) {
    let (key, issuer) = &*AUTHORITY;
    assert!(VerifiedCrl::verify(data, issuer).is_err(), "accepted without the key");

    let crl = sign(&element(SEQUENCE, data), key);
    let Ok(read) = VerifiedCrl::verify(&crl, issuer) else { return };
    let serials: Vec<Serial> = read.serials().collect();
    assert_eq!(serials.len(), read.count());
    assert!(read.number().get() >= 0);
    assert!(read.delta_urls().iter().all(|url| url.starts_with("http://")));
    assert!(VerifiedDelta::verify(&crl, issuer).is_err(), "accepted as both kinds");
    if let Ok((rest, other)) = CertificateRevocationList::from_der(&crl) {
        let others = other.iter_revoked_certificates().map(|entry| Serial::from_der_integer(entry.raw_serial()));
        assert_eq!(others.collect::<Result<Vec<_>, _>>().as_ref(), Ok(&serials));
        assert!(rest.is_empty());
    }
}
