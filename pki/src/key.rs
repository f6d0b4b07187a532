//! Key pairs that this system generates, and public keys that it certifies.
//!
//! It never writes a key to a file. A private key is exported only as [`Zeroizing`] PEM, or as DER for a TLS library.

mod weak;

use std::fmt;

use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey, SubjectPublicKeyInfo};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use zeroize::Zeroizing;

pub use self::weak::{Weakness, is_of_small_order};
use crate::{
    der::{self, DerError, Reader},
    digest::sha256,
    pem,
};

/// An ECDSA P-256 key pair.
pub struct KeyPair(rcgen::KeyPair);

/// Why a private key could not be generated or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The library could not generate a key.
    #[error("no key could be generated: {0}")]
    Generate(rcgen::Error),
    /// Not PEM of a supported kind of private key.
    #[error("not a PEM private key of a supported kind (ECDSA P-256 or P-384, Ed25519, RSA)")]
    Unreadable,
    /// Reading the key needs a passphrase, and the program cannot prompt for one.
    #[error("the private key is encrypted; write it without a passphrase: openssl pkey -in OLD -out NEW")]
    Encrypted,
    /// Several keys; it is not clear which one to use.
    #[error("there are several private keys; put each into a file of its own")]
    Several,
}

impl KeyPair {
    /// Generates an ECDSA P-256 key with aws-lc's generator.
    #[expect(clippy::disallowed_methods, reason = "this is the one place where keys are made")]
    pub fn generate() -> Result<Self, KeyError> {
        rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map(Self).map_err(KeyError::Generate)
    }

    /// Reads the only private key in PEM text: PKCS#8, SEC 1 (RFC 5915) or PKCS#1 (RFC 8017).
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let pem = pem::plain(pem.as_ref());
        // PKCS#8, and the older form of OpenSSL (RFC 1421 section 4.6.1.1).
        let is_encrypted = |line: &[u8]| {
            line == b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
                || line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED")
        };
        if pem.split(|byte| *byte == b'\n').any(is_encrypted) {
            return Err(KeyError::Encrypted);
        }
        let mut keys = PrivateKeyDer::pem_slice_iter(&pem);
        let key = keys.next().ok_or(KeyError::Unreadable)?.map_err(|_| KeyError::Unreadable)?;
        if keys.next().is_some() {
            return Err(KeyError::Several);
        }
        let key = to_pkcs8(&key).ok_or(KeyError::Unreadable)?;
        rcgen::KeyPair::try_from(&key).map(Self).map_err(|_| KeyError::Unreadable)
    }

    /// The private key as PKCS#8 PEM, wiped from memory when dropped.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// The private key as PKCS#8 DER, for a TLS library.
    #[must_use]
    pub fn to_pkcs8(&self) -> PrivatePkcs8KeyDer<'static> {
        self.0.serialize_der().into()
    }

    /// The `SubjectPublicKeyInfo` in DER (RFC 5280 section 4.1.2.7).
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }
}

impl PublicKeyData for KeyPair {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for KeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

/// Converts a key to PKCS#8. In the other two forms, the kind of key is only in the PEM label or inside.
fn to_pkcs8(key: &PrivateKeyDer<'_>) -> Option<PrivatePkcs8KeyDer<'static>> {
    /// rsaEncryption 1.2.840.113549.1.1.1, with its NULL parameter
    const RSA: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0];
    /// id-ecPublicKey 1.2.840.10045.2.1
    const ELLIPTIC: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    let (algorithm, key) = match key {
        PrivateKeyDer::Pkcs8(key) => return Some(key.clone_key()),
        PrivateKeyDer::Pkcs1(key) => (RSA.to_vec(), key.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(key) => ([ELLIPTIC, curve(key.secret_sec1_der()).ok()??].concat(), key.secret_sec1_der()),
        _ => return None,
    };
    let key = Zeroizing::new(der::encode(der::OCTET_STRING, key));
    let info = Zeroizing::new([&[der::INTEGER, 1, 0], &der::encode(der::SEQUENCE, &algorithm)[..], &key].concat());
    Some(der::encode(der::SEQUENCE, &info).into())
}

/// The OBJECT IDENTIFIER of the curve in an `ECPrivateKey`, as it is encoded.
fn curve(key: &[u8]) -> Result<Option<&[u8]>, DerError> {
    let mut fields = Reader::new(key).sequence()?;
    fields.expect(der::INTEGER)?;
    fields.expect(der::OCTET_STRING)?;
    fields.optional(der::context(0))
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(private)")
    }
}

/// A public key that may be certified: ECDSA on P-256 or P-384, Ed25519, or RSA with 2048 to 4096 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    parsed: SubjectPublicKeyInfo,
}

/// Why a public key is not certified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// An unsupported algorithm, or a malformed key.
    #[error("the key's algorithm is not supported; use ECDSA P-256 or P-384, Ed25519, or RSA with 2048 to 4096 bits")]
    Unsupported,
    /// An elliptic curve point that is not uncompressed. If it were accepted, one key would have several encodings, and
    /// a list of refused keys would miss it. Many TLS libraries cannot read it either.
    #[error("the key's elliptic curve point is compressed; send it uncompressed (openssl: -conv_form uncompressed)")]
    Compressed,
    /// An RSA modulus that is too short or too long.
    #[error("the RSA key has {bits} bits; use 2048 to 4096 bits, or ECDSA P-256")]
    RsaSize {
        /// The modulus's length.
        bits: usize,
    },
    /// Well-formed but insecure.
    #[error("the key is not secure: {0}; generate another, preferably ECDSA P-256")]
    Weak(#[from] Weakness),
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` in DER and checks the key.
    pub fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        let parsed = SubjectPublicKeyInfo::from_der(spki).map_err(|_| PublicKeyError::Unsupported)?;
        let algorithm = parsed.algorithm();
        if [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_RSA_SHA384, &rcgen::PKCS_RSA_SHA512].contains(&algorithm) {
            let key = weak::Rsa::read(parsed.der_bytes()).map_err(|_| PublicKeyError::Unsupported)?;
            let bits = key.bits();
            if !(2048..=4096).contains(&bits) {
                return Err(PublicKeyError::RsaSize { bits });
            }
            key.check()?;
        } else if algorithm == &rcgen::PKCS_ED25519 {
            weak::check_ed25519(parsed.der_bytes())?;
        } else if ![&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384].contains(&algorithm) {
            // rcgen also reads P-521, which not every TLS library supports.
            return Err(PublicKeyError::Unsupported);
        } else if parsed.der_bytes().first() != Some(&UNCOMPRESSED) {
            return Err(PublicKeyError::Compressed);
        }
        Ok(Self { spki: spki.to_owned(), parsed })
    }

    /// The `SubjectPublicKeyInfo` in DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        sha256(&self.spki)
    }

    pub(crate) fn parsed(&self) -> &SubjectPublicKeyInfo {
        &self.parsed
    }
}

/// The first byte of an uncompressed elliptic curve point (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_round_trips_and_its_debug_output_is_redacted() {
        let key = KeyPair::generate().unwrap();
        let pem = key.to_pem();
        let read = KeyPair::from_pem(&pem).unwrap();
        assert_eq!(read.spki(), key.spki());
        assert_eq!(format!("{read:?}"), "KeyPair(private)");
        assert_ne!(KeyPair::generate().unwrap().spki(), key.spki());
    }

    #[test]
    fn an_unreadable_key_is_refused_and_not_repeated() {
        let pem = KeyPair::generate().unwrap().to_pem();
        for bad in ["", "secret", &pem[..pem.len() / 2], &pem.replace("MI", "secret")] {
            let error = KeyPair::from_pem(bad).unwrap_err();
            assert!(matches!(error, KeyError::Unreadable) && !error.to_string().contains("secret"));
        }
    }

    #[test]
    fn a_truncated_public_key_is_refused() {
        let spki = KeyPair::generate().unwrap().spki();
        assert_eq!(PublicKey::from_spki(&spki).unwrap().spki(), spki);
        for length in 0..spki.len() {
            assert_eq!(PublicKey::from_spki(&spki[..length]), Err(PublicKeyError::Unsupported));
        }
        assert_eq!(PublicKey::from_spki(&[&spki[..], &[0]].concat()), Err(PublicKeyError::Unsupported));
    }

    #[test]
    fn a_compressed_point_is_refused() {
        let spki = KeyPair::generate().unwrap().spki();
        let (head, point) = spki.split_at(spki.len() - 65);
        assert_eq!(point[0], UNCOMPRESSED);
        let (x, y) = (&point[1..33], &point[33..]);
        let encoded = |point: &[u8]| {
            let mut key = [head, point].concat();
            // Two lengths change: that of the outer SEQUENCE and that of the BIT STRING.
            let shorter = u8::try_from(65 - point.len()).unwrap();
            key[1] -= shorter;
            key[head.len() - 2] -= shorter;
            key
        };
        let sign = y[31] & 1;
        assert_eq!(PublicKey::from_spki(&encoded(point)).unwrap().spki(), spki);
        assert_eq!(PublicKey::from_spki(&encoded(&[&[2 | sign], x].concat())), Err(PublicKeyError::Compressed));
        assert_eq!(PublicKey::from_spki(&encoded(&[&[6 | sign], x, y].concat())), Err(PublicKeyError::Compressed));
    }
}
