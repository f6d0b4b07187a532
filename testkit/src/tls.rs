//! TLS (RFC 8446) for test clients that violate the protocol: records with any content, certificates with any key.
//!
//! It never performs a handshake.

use std::sync::Arc;

use rustls::{
    SignatureScheme, client::ResolvesClientCert, crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The type of a record.
pub const CHANGE_CIPHER_SPEC: u8 = 20;
/// The type of a record.
pub const ALERT: u8 = 21;
/// The type of a record.
pub const HANDSHAKE: u8 = 22;
/// The type of a record.
pub const APPLICATION_DATA: u8 = 23;

/// An unencrypted record (RFC 8446 section 5.1), as a client's first one is.
#[must_use]
pub fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a payload of less than 64 KiB").to_be_bytes();
    [&[kind, 3, 1], &length[..], payload].concat()
}

/// A client that presents these certificates and signs with this key, whatever the server requests and whether or not
/// they match.
#[derive(Debug)]
pub struct Presenting(Arc<CertifiedKey>);

impl Presenting {
    /// The client's own certificate comes first.
    #[must_use]
    pub fn new(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Arc<Self> {
        let key = any_supported_type(key).expect("a key that aws-lc signs with");
        Arc::new(Self(Arc::new(CertifiedKey::new(chain, key))))
    }
}

impl ResolvesClientCert for Presenting {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
