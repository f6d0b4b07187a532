//! SHA-256 of certificates, keys and CRLs.
//!
//! It never decides what a matching digest proves.

use aws_lc_rs::digest::{SHA256, digest};

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The first 8 bytes of a digest in hexadecimal.
pub(crate) fn short_hex(digest: &[u8; 32]) -> String {
    let digits = digest[..8].iter().fold(0, |digits, byte| digits << 8 | u64::from(*byte));
    format!("{digits:016x}")
}
