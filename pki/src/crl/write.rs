//! Writes and signs CRLs (RFC 5280 section 5.1): the entries of a list are written once, into the one buffer that becomes the CRL,
//! and signed where they lie.
//!
//! It never decides what is in a list.

use rcgen::{SignatureAlgorithm, SigningKey as _};
use rustls_pki_types::{AlgorithmIdentifier, alg_id};

use super::{
    CRL_NUMBER, CrlDraft, CrlError, CrlNumber, DELTA_CRL_INDICATOR, DeltaDraft, EncodedEntries, FRESHEST_CRL,
    ISSUING_DISTRIBUTION_POINT, REASON_CODE, RevocationReason, RevokedEntry, SignedCrl,
};
use crate::{
    certificate::DistinguishedName,
    der::{self, encode},
    issuing::IssuingError,
    time::Timestamp,
};

/// id-ce-authorityKeyIdentifier 2.5.29.35, the contents of its OBJECT IDENTIFIER
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
/// `[0] IMPLICIT OCTET STRING`, and `[6] IMPLICIT IA5String` of a `GeneralName`.
const KEY_IDENTIFIER: u8 = 0x80;
const URI: u8 = 0x86;
/// 2050-01-01 00:00:00 UTC: from here on, times are `GeneralizedTime` (RFC 5280 section 5.1.2.4).
const YEAR_2050: i64 = 2_524_608_000;
/// An entry with the longest serial, the longest time and a reason.
const LONGEST_ENTRY: usize = 2 + (2 + 21) + (2 + 15) + 14;
/// What follows the signed body: algorithm and signature, with an RSA key of 4096 bits.
const LONGEST_END: usize = 17 + 5 + 512;

/// Whose list it is, and with which key it is signed.
pub(crate) struct Signer<'a> {
    pub(crate) name: &'a DistinguishedName,
    pub(crate) key_id: &'a [u8],
    pub(crate) key: &'a rcgen::KeyPair,
}

/// A complete CRL; `delta_url` is where the deltas to it are found.
pub(crate) fn complete(
    signer: &Signer<'_>,
    draft: CrlDraft<EncodedEntries>,
    delta_url: Option<&str>,
) -> Result<SignedCrl, IssuingError> {
    let mut extensions = common_extensions(signer, draft.number);
    if let Some(url) = delta_url {
        extensions.extend(extension(FRESHEST_CRL, false, &distribution_points(url)));
    }
    sign(signer, [draft.this_update, draft.next_update], &extensions, draft.revoked)
}

/// A complete CRL of the certificates that name this distribution point, and of no others (RFC 5280 section 5.2.5).
pub(crate) fn of_point(
    signer: &Signer<'_>,
    draft: CrlDraft<EncodedEntries>,
    uri: &str,
) -> Result<SignedCrl, IssuingError> {
    let mut extensions = common_extensions(signer, draft.number);
    extensions.extend(extension(ISSUING_DISTRIBUTION_POINT, true, &issuing_distribution_point(uri)));
    sign(signer, [draft.this_update, draft.next_update], &extensions, draft.revoked)
}

/// A delta CRL. It says nothing of where the next one is: RFC 5280 section 5.2.6 forbids that.
pub(crate) fn delta(signer: &Signer<'_>, draft: DeltaDraft<EncodedEntries>) -> Result<SignedCrl, IssuingError> {
    if draft.base > draft.number {
        return Err(CrlError::Base { number: draft.number, base: draft.base }.into());
    }
    let mut extensions = common_extensions(signer, draft.number);
    extensions.extend(extension(DELTA_CRL_INDICATOR, true, &number(draft.base)));
    sign(signer, [draft.this_update, draft.next_update], &extensions, draft.revoked)
}

fn sign(
    signer: &Signer<'_>,
    [this_update, next_update]: [Timestamp; 2],
    extensions: &[u8],
    EncodedEntries(mut crl): EncodedEntries,
) -> Result<SignedCrl, IssuingError> {
    if next_update <= this_update {
        return Err(CrlError::Period { this_update, next_update }.into());
    }
    let algorithm = algorithm_identifier(signer.key.algorithm())?;
    let algorithm = encode(der::SEQUENCE, algorithm.as_ref());
    let mut head = encode(der::INTEGER, &[1]);
    head.extend_from_slice(&algorithm);
    head.extend_from_slice(signer.name.der());
    push_time(&mut head, this_update);
    push_time(&mut head, next_update);
    let tail = encode(der::context(0), &encode(der::SEQUENCE, extensions));

    let entries_len = crl.len();
    // RFC 5280 section 5.1.2.6: without entries, the list of them is absent.
    let list_len = if entries_len == 0 { 0 } else { der::encoded_len(entries_len) };
    let body_len = head.len() + list_len + tail.len();

    // The outermost length includes the signature's, which is not known before it is made, so its place is guessed.
    let mut front = Vec::new();
    der::push_header(&mut front, der::SEQUENCE, der::encoded_len(body_len) + LONGEST_END);
    let start = front.len();
    der::push_header(&mut front, der::SEQUENCE, body_len);
    front.extend_from_slice(&head);
    if entries_len > 0 {
        der::push_header(&mut front, der::SEQUENCE, entries_len);
    }
    let before_entries = front.len() - start;
    // The entries are moved once, where they lie: that takes a fraction of what signing them does, and no second buffer.
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
    // Of the same length, but where the guess lies just beyond a power of 256.
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

/// What RFC 5280 section 5.2 requires in every CRL.
fn common_extensions(signer: &Signer<'_>, own: CrlNumber) -> Vec<u8> {
    let key_id = encode(der::SEQUENCE, &encode(KEY_IDENTIFIER, signer.key_id));
    [extension(AUTHORITY_KEY_IDENTIFIER, false, &key_id), extension(CRL_NUMBER, false, &number(own))].concat()
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { encode(der::BOOLEAN, &[0xff]) } else { Vec::new() };
    encode(der::SEQUENCE, &[encode(der::OID, oid), critical, encode(der::OCTET_STRING, value)].concat())
}

fn number(number: CrlNumber) -> Vec<u8> {
    let octets = number.get().to_be_bytes();
    // The shortest form keeps the highest bit clear: it is the sign.
    let first = octets.windows(2).position(|pair| pair[0] != 0 || pair[1] & 0x80 != 0).unwrap_or(octets.len() - 1);
    encode(der::INTEGER, &octets[first..])
}

/// `CRLDistributionPoints` with one URI (RFC 5280 section 4.2.1.13).
fn distribution_points(uri: &str) -> Vec<u8> {
    encode(der::SEQUENCE, &distribution_point(uri))
}

/// `IssuingDistributionPoint` with the name of the distribution point and nothing else (RFC 5280 section 5.2.5). It is written as one
/// of `CRLDistributionPoints` is.
pub(super) fn issuing_distribution_point(uri: &str) -> Vec<u8> {
    distribution_point(uri)
}

/// `SEQUENCE { distributionPoint [0] { fullName [0] { uniformResourceIdentifier [6] } } }`
fn distribution_point(uri: &str) -> Vec<u8> {
    let full_name = encode(der::context(0), &encode(URI, uri.as_bytes()));
    encode(der::SEQUENCE, &encode(der::context(0), &full_name))
}

/// The contents of an entry, in octets; always fewer than 128.
fn entry_len(entry: &RevokedEntry) -> usize {
    let time = if entry.revoked_at.unix() < YEAR_2050 { 13 } else { 15 };
    let reason = if entry.reason == RevocationReason::Unspecified { 0 } else { 14 };
    2 + serial_len(entry.serial.magnitude()) + 2 + time + reason
}

/// A zero octet keeps a number positive whose highest bit is set.
fn serial_len(magnitude: &[u8]) -> usize {
    magnitude.len() + usize::from(magnitude[0] >> 7)
}

/// `SEQUENCE { userCertificate INTEGER, revocationDate Time, crlEntryExtensions OPTIONAL }`
pub(super) fn push_entry(crl: &mut Vec<u8>, entry: &RevokedEntry) {
    // Put together on the stack, because each growth of a vector asks whether it has room.
    let mut octets = Short::new();
    octets.push(&[der::SEQUENCE, short(entry_len(entry))]);
    let serial = entry.serial.magnitude();
    octets.push(&[der::INTEGER, short(serial_len(serial))]);
    octets.push(&[0][..serial_len(serial) - serial.len()]);
    octets.push(serial);
    octets.push_time(entry.revoked_at);
    // RFC 5280 section 5.3.1: the reason code SHOULD be absent instead of unspecified.
    if entry.reason != RevocationReason::Unspecified {
        octets.push(&[der::SEQUENCE, 12, der::SEQUENCE, 10, der::OID, 3]);
        octets.push(REASON_CODE);
        octets.push(&[der::OCTET_STRING, 3, der::ENUMERATED, 1, entry.reason.code()]);
    }
    crl.extend_from_slice(octets.as_slice());
}

fn push_time(der: &mut Vec<u8>, time: Timestamp) {
    let mut octets = Short::new();
    octets.push_time(time);
    der.extend_from_slice(octets.as_slice());
}

fn short(length: usize) -> u8 {
    u8::try_from(length).expect("an entry has fewer than 128 octets")
}

/// As much as one entry takes, without an allocation.
struct Short {
    octets: [u8; LONGEST_ENTRY],
    len: usize,
}

impl Short {
    fn new() -> Self {
        Self { octets: [0; LONGEST_ENTRY], len: 0 }
    }

    fn push(&mut self, more: &[u8]) {
        self.octets[self.len..self.len + more.len()].copy_from_slice(more);
        self.len += more.len();
    }

    /// `UTCTime` (`YYMMDDHHMMSSZ`) until 2049, `GeneralizedTime` (`YYYYMMDDHHMMSSZ`) after it.
    fn push_time(&mut self, time: Timestamp) {
        let moment = time.to_offset();
        let (year, month, day) = moment.to_calendar_date();
        let year = u8::try_from(year / 100).ok().zip(u8::try_from(year % 100).ok());
        let (century, year) = year.expect("a Timestamp lies within the years 1970 to 9999");
        if time.unix() < YEAR_2050 {
            self.push(&[der::UTC_TIME, 13]);
        } else {
            self.push(&[der::GENERALIZED_TIME, 15]);
            self.push(&digits(century));
        }
        let (hour, minute, second) = moment.to_hms();
        for field in [year, u8::from(month), day, hour, minute, second] {
            self.push(&digits(field));
        }
        self.push(b"Z");
    }

    fn as_slice(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

fn digits(number: u8) -> [u8; 2] {
    [b'0' + number / 10, b'0' + number % 10]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_shortest_form() {
        for (value, expected) in [
            (0, &[2, 1, 0][..]),
            (1, &[2, 1, 1]),
            (127, &[2, 1, 0x7f]),
            (128, &[2, 2, 0, 0x80]),
            (256, &[2, 2, 1, 0]),
            (0xffff, &[2, 3, 0, 0xff, 0xff]),
            (i64::MAX, &[2, 8, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ] {
            assert_eq!(number(CrlNumber::new(value).unwrap()), expected, "{value}");
        }
    }

    #[test]
    fn times_have_two_digits_for_the_year_until_2049() {
        let written = |unix| {
            let mut octets = Vec::new();
            push_time(&mut octets, Timestamp::from_unix(unix));
            (octets[0], String::from_utf8(octets[2..].to_vec()).unwrap(), usize::from(octets[1]) == octets.len() - 2)
        };
        assert_eq!(written(0), (der::UTC_TIME, "700101000000Z".into(), true));
        assert_eq!(written(YEAR_2050 - 1), (der::UTC_TIME, "491231235959Z".into(), true));
        assert_eq!(written(YEAR_2050), (der::GENERALIZED_TIME, "20500101000000Z".into(), true));
        assert_eq!(written(Timestamp::MAX.unix()), (der::GENERALIZED_TIME, "99991231235959Z".into(), true));
    }

    #[test]
    fn the_longest_entry_fits_and_is_as_long_as_was_said() {
        let longest = RevokedEntry {
            serial: crate::serial::Serial::from_magnitude(&[0xff; 20]).unwrap(),
            revoked_at: Timestamp::MAX,
            reason: RevocationReason::KeyCompromise,
        };
        let mut octets = Vec::new();
        push_entry(&mut octets, &longest);
        assert_eq!((octets.len(), der::encoded_len(entry_len(&longest))), (LONGEST_ENTRY, LONGEST_ENTRY));
    }
}
