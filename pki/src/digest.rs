//! SHA-256, as fingerprints of certificates, keys and lists use it.
//!
//! It never decides what a digest proves.

use aws_lc_rs::digest::{SHA256, digest};

pub(crate) fn sha256(octets: &[u8]) -> [u8; 32] {
    digest(&SHA256, octets).as_ref().try_into().expect("SHA-256 has 32 octets")
}

/// The first 8 bytes of a digest in hexadecimal.
pub(crate) fn short_hex(digest: &[u8; 32]) -> String {
    let digits = digest[..8].iter().fold(0, |digits, byte| digits << 8 | u64::from(*byte));
    format!("{digits:016x}")
}
