//! Any bytes contain PEM sections or none. What was read encodes to the same content again.

use pki::{key::KeyPair, pem};

pub(crate) fn check(data: &[u8]) {
    if let Ok(request) = pem::read_csr(data) {
        assert_eq!(pem::read_csr(pem::csr(&request)), Ok(request));
    }
    if let Ok(chain) = pem::read_chain(data) {
        assert_eq!(pem::read_certificate(data).is_ok(), chain.len() == 1);
        assert_eq!(pem::read_chain(pem::chain(&chain)), Ok(chain));
    }
    for crl in pem::read_crls(data).into_iter().flatten() {
        assert_eq!(pem::read_crl(pem::crl(&crl).as_bytes()), Ok(crl));
    }
    if let Ok(key) = KeyPair::from_pem(data) {
        let copy = KeyPair::from_pem(key.to_pem()).expect("what was written is read");
        assert_eq!(copy.spki(), key.spki());
    }
}
