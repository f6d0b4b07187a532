//! The cryptography of every TLS connection here.
//!
//! It never uses any other.

use std::sync::Arc;

use rustls::{CipherSuite, crypto::CryptoProvider};

/// The cryptography that everything here uses: aws-lc with the hybrid post-quantum key exchange first, and of the cipher suites
/// `TLS_AES_128_GCM_SHA256`: processors have instructions for SHA-256, and SHA-384 without them is a tenth of a handshake.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}
