//! Verifies signatures of X.509 structures. Certificates, requests and CRLs have the same outer form (RFC 5280 section
//! 4.1.1, RFC 2986 section 4.2), so one function serves all.
//!
//! It never decides which keys may be certified; [`crate::key`] does.

use crate::der::{DerError, Reader};

/// Why a signature is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a signed structure.
    #[error(transparent)]
    Der(#[from] DerError),
    /// The pair of key and signature algorithm is unknown or too weak (RSA below 2048 bits, SHA-1, ...).
    #[error("the signature algorithm is not supported for this key")]
    Unsupported,
    /// The key did not make this signature over these bytes.
    #[error("the signature does not match")]
    Mismatch,
}

/// Verifies that the key in the `SubjectPublicKeyInfo` `spki` signed `signed`, a `SEQUENCE { body, AlgorithmIdentifier,
/// BIT STRING }`. Returns the DER of the body.
pub(crate) fn verify<'a>(signed: &'a [u8], spki: &[u8]) -> Result<&'a [u8], SignatureError> {
    let mut outer = Reader::new(signed);
    let mut parts = outer.sequence()?;
    outer.finish()?;
    let body = parts.any()?.encoded;
    let signature_algorithm = parts.sequence_contents()?;
    let signature = parts.bit_string()?;
    parts.finish()?;

    let mut key = Reader::new(spki);
    let mut key_parts = key.sequence()?;
    key.finish()?;
    let key_algorithm = key_parts.sequence_contents()?;
    let public_key = key_parts.bit_string()?;
    key_parts.finish()?;

    let candidates = webpki::ALL_VERIFICATION_ALGS.iter().filter(|candidate| {
        candidate.public_key_alg_id().as_ref() == key_algorithm
            && candidate.signature_alg_id().as_ref() == signature_algorithm
    });
    let mut result = Err(SignatureError::Unsupported);
    for candidate in candidates {
        match candidate.verify_signature(public_key, body, signature) {
            Ok(()) => return Ok(body),
            Err(_) => result = Err(SignatureError::Mismatch),
        }
    }
    result
}
