//! Signs CRLs (RFC 5280 section 5.1). The fields of a draft are added around its encoded entries in the same buffer.
//!
//! It never decides what a CRL contains, and never stores a key.

use std::ops::Range;

use rcgen::{SignatureAlgorithm, SigningKey};
use rustls_pki_types::{AlgorithmIdentifier, alg_id};

use super::{
    encoding::{
        CRL_NUMBER, DELTA_CRL_INDICATOR, FRESHEST_CRL, ISSUING_DISTRIBUTION_POINT, distribution_points,
        issuing_distribution_point,
    },
    entry::RevokedEntry,
    error::CrlError,
    number::CrlNumber,
    write::{EncodedEntries, number, push_time},
};
use crate::{
    certificate::DistinguishedName,
    der::{self, encode},
    time::Timestamp,
};

/// id-ce-authorityKeyIdentifier 2.5.29.35, the contents of its OBJECT IDENTIFIER
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
/// `[0] IMPLICIT OCTET STRING`
const KEY_IDENTIFIER: u8 = 0x80;
/// Upper bound for what follows the signed body, algorithm and signature: that of a 4096-bit RSA key.
const LONGEST_END: usize = 17 + 5 + 512;

/// A signed CRL, and the position of its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCrl {
    /// The complete DER.
    pub der: Vec<u8>,
    /// The range of all entries, one after the other. Empty if there are none.
    pub entries: Range<usize>,
}

/// A complete CRL to be signed.
#[derive(Clone, Debug)]
pub struct CrlDraft<R = Vec<RevokedEntry>> {
    /// Its number.
    pub number: CrlNumber,
    /// When it is issued.
    pub this_update: Timestamp,
    /// When the next one will have been issued at the latest.
    pub next_update: Timestamp,
    /// The revoked certificates.
    pub revoked: R,
}

/// A delta CRL (RFC 5280 section 5.2.4) to be signed.
#[derive(Clone, Debug)]
pub struct DeltaDraft<R = Vec<RevokedEntry>> {
    /// Its number. Complete CRLs and deltas share one sequence; those issued at the same time have the same number.
    pub number: CrlNumber,
    /// The number of the complete CRL that it refers to; not higher than `number`.
    pub base: CrlNumber,
    /// When it is issued.
    pub this_update: Timestamp,
    /// When the next one will have been issued at the latest.
    pub next_update: Timestamp,
    /// Everything that was revoked since the base was issued, including the entries of earlier deltas.
    pub revoked: R,
}

/// The issuer and its key.
pub(crate) struct Signer<'a> {
    pub(crate) name: &'a DistinguishedName,
    pub(crate) key_id: &'a [u8],
    pub(crate) key: &'a dyn SigningKey,
}

/// Signs a complete CRL. `delta_url` is the URL of its deltas.
pub(crate) fn complete(
    signer: &Signer<'_>,
    draft: CrlDraft<EncodedEntries>,
    delta_url: Option<&str>,
) -> Result<SignedCrl, CrlError> {
    let mut extensions = common_extensions(signer, draft.number);
    if let Some(url) = delta_url {
        extensions.extend(extension(FRESHEST_CRL, false, &distribution_points(url)));
    }
    sign(signer, [draft.this_update, draft.next_update], &extensions, draft.revoked)
}

/// Signs a complete CRL of only the certificates with this distribution point (RFC 5280 section 5.2.5).
pub(crate) fn of_point(signer: &Signer<'_>, draft: CrlDraft<EncodedEntries>, uri: &str) -> Result<SignedCrl, CrlError> {
    let mut extensions = common_extensions(signer, draft.number);
    extensions.extend(extension(ISSUING_DISTRIBUTION_POINT, true, &issuing_distribution_point(uri)));
    sign(signer, [draft.this_update, draft.next_update], &extensions, draft.revoked)
}

/// Signs a delta CRL. It has no URL of deltas: RFC 5280 section 5.2.6 forbids that.
pub(crate) fn delta(signer: &Signer<'_>, draft: DeltaDraft<EncodedEntries>) -> Result<SignedCrl, CrlError> {
    if draft.base > draft.number {
        return Err(CrlError::Base { number: draft.number, base: draft.base });
    }
    let mut extensions = common_extensions(signer, draft.number);
    extensions.extend(extension(DELTA_CRL_INDICATOR, true, &number(draft.base)));
    sign(signer, [draft.this_update, draft.next_update], &extensions, draft.revoked)
}

fn sign(
    signer: &Signer<'_>,
    [this_update, next_update]: [Timestamp; 2],
    extensions: &[u8],
    entries: EncodedEntries,
) -> Result<SignedCrl, CrlError> {
    if next_update <= this_update {
        return Err(CrlError::Period { this_update, next_update });
    }
    let mut crl = entries.into_der();
    let algorithm = algorithm_identifier(signer.key.algorithm())?;
    let algorithm = encode(der::SEQUENCE, algorithm.as_ref());
    let mut head = encode(der::INTEGER, &[1]);
    head.extend_from_slice(&algorithm);
    head.extend_from_slice(signer.name.der());
    push_time(&mut head, this_update);
    push_time(&mut head, next_update);
    let tail = encode(der::context(0), &encode(der::SEQUENCE, extensions));

    let entries_len = crl.len();
    // RFC 5280 section 5.1.2.6: without entries, the field is absent.
    let list_len = if entries_len == 0 { 0 } else { der::encoded_len(entries_len) };
    let body_len = head.len() + list_len + tail.len();

    // The outermost length includes the signature, whose length is known only after signing. So the header's size is a
    // guess.
    let mut front = Vec::new();
    der::push_header(&mut front, der::SEQUENCE, der::encoded_len(body_len) + LONGEST_END);
    let start = front.len();
    der::push_header(&mut front, der::SEQUENCE, body_len);
    front.extend_from_slice(&head);
    if entries_len > 0 {
        der::push_header(&mut front, der::SEQUENCE, entries_len);
    }
    let before_entries = front.len() - start;
    // Moves the entries once, within the buffer. That takes a fraction of the time of signing and needs no second
    // buffer.
    crl.reserve_exact(front.len() + tail.len() + LONGEST_END);
    crl.splice(..0, front);
    crl.extend_from_slice(&tail);

    let signature = signer.key.sign(&crl[start..])?;
    crl.extend_from_slice(&algorithm);
    der::push_header(&mut crl, der::BIT_STRING, 1 + signature.len());
    crl.push(0);
    crl.extend_from_slice(&signature);

    let mut header = Vec::new();
    der::push_header(&mut header, der::SEQUENCE, crl.len() - start);
    let first = header.len() + before_entries;
    // The header has the guessed size, unless the guess was just beyond a power of 256.
    crl.splice(..start, header);
    Ok(SignedCrl { der: crl, entries: first..first + entries_len })
}

fn algorithm_identifier(algorithm: &SignatureAlgorithm) -> Result<AlgorithmIdentifier, rcgen::Error> {
    [
        (&rcgen::PKCS_ECDSA_P256_SHA256, alg_id::ECDSA_SHA256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, alg_id::ECDSA_SHA384),
        (&rcgen::PKCS_ECDSA_P521_SHA512, alg_id::ECDSA_SHA512),
        (&rcgen::PKCS_ED25519, alg_id::ED25519),
        (&rcgen::PKCS_RSA_SHA256, alg_id::RSA_PKCS1_SHA256),
        (&rcgen::PKCS_RSA_SHA384, alg_id::RSA_PKCS1_SHA384),
        (&rcgen::PKCS_RSA_SHA512, alg_id::RSA_PKCS1_SHA512),
    ]
    .into_iter()
    .find_map(|(known, identifier)| (known == algorithm).then_some(identifier))
    .ok_or(rcgen::Error::UnsupportedSignatureAlgorithm)
}

/// The extensions that RFC 5280 section 5.2 requires in every CRL.
fn common_extensions(signer: &Signer<'_>, own: CrlNumber) -> Vec<u8> {
    let key_id = encode(der::SEQUENCE, &encode(KEY_IDENTIFIER, signer.key_id));
    [extension(AUTHORITY_KEY_IDENTIFIER, false, &key_id), extension(CRL_NUMBER, false, &number(own))].concat()
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { encode(der::BOOLEAN, &[0xff]) } else { Vec::new() };
    encode(der::SEQUENCE, &[encode(der::OID, oid), critical, encode(der::OCTET_STRING, value)].concat())
}
