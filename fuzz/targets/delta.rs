//! Any bytes are read as a delta CRL or refused. An accepted delta was signed, has an earlier or equal base, revokes
//! the serial numbers that another parser reads, and removes none.

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
use x509_parser::prelude::{CertificateRevocationList, FromDer, ReasonCode, RevokedCertificate};

/// The authority that signs the CRLs, and its key.
static AUTHORITY: LazyLock<(KeyPair, CrlIssuer)> = LazyLock::new(|| {
    let (root, key) = root();
    (key, CrlIssuer::from_certificate(root.info()).expect("a root signs CRLs"))
});

/// Uses `data` twice: as a delta, and as the contents of a correctly signed `TBSCertList`.
pub(crate) fn check(data: &[u8]) {
    let (key, issuer) = &*AUTHORITY;
    assert!(VerifiedDelta::verify(data, issuer).is_err(), "accepted without the key");

    let delta = sign(&element(SEQUENCE, data), key);
    let Ok(read) = VerifiedDelta::verify(&delta, issuer) else { return };
    assert!(VerifiedCrl::verify(&delta, issuer).is_err(), "accepted as both kinds");
    let serials: Vec<Serial> = read.serials().collect();
    assert_eq!(serials.len(), read.count());
    assert!(read.base() <= read.number());
    if let Ok((rest, other)) = CertificateRevocationList::from_der(&delta) {
        let others = other.iter_revoked_certificates().map(|entry| Serial::from_der_integer(entry.raw_serial()));
        assert_eq!(others.collect::<Result<Vec<_>, _>>().as_ref(), Ok(&serials));
        let reasons = other.iter_revoked_certificates().filter_map(RevokedCertificate::reason_code);
        assert!(reasons.map(|(_, reason)| reason).all(|reason| reason != ReasonCode::RemoveFromCRL));
        assert!(rest.is_empty());
    }
}
