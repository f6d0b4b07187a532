//! Signs structures with any content, because a fuzzer's mutations cannot produce a valid signature.
//!
//! It never checks what it signs.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use pki::key::KeyPair;

/// The tag of a `SEQUENCE`.
pub const SEQUENCE: u8 = 0x30;

/// `AlgorithmIdentifier` of ecdsa-with-SHA256 (RFC 5758 section 3.2).
pub const ECDSA_WITH_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// `SEQUENCE { body, ecdsa-with-SHA256, signature }` (RFC 5280 section 4.1.1, RFC 2986 section 4.2).
#[must_use]
pub fn sign(body: &[u8], key: &KeyPair) -> Vec<u8> {
    let pkcs8 = key.to_pkcs8();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.secret_pkcs8_der())
        .expect("pki makes keys of this kind");
    let signature = key.sign(&SystemRandom::new(), body).expect("aws-lc signs");
    let signature = element(0x03, &[&[0], signature.as_ref()].concat());
    element(SEQUENCE, &[body, ECDSA_WITH_SHA256, &signature].concat())
}

/// One DER element with these contents.
#[must_use]
pub fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let digits = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    let mut encoded = vec![tag];
    if contents.len() >= 0x80 {
        encoded.push(0x80 | u8::try_from(digits.len()).expect("at most eight"));
    }
    encoded.extend_from_slice(digits);
    encoded.extend_from_slice(contents);
    encoded
}
