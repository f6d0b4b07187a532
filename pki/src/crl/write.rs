//! Writes the entries, numbers and times of CRLs (RFC 5280 section 5.1). Each entry is written once, into the buffer
//! that becomes the CRL.
//!
//! It never decides what a CRL contains, and never signs one.

use super::{
    encoding::REASON_CODE,
    entry::{RevocationReason, RevokedEntry},
    number::CrlNumber,
};
use crate::{
    der::{self, encode},
    time::Timestamp,
};

/// 2050-01-01 00:00:00 UTC. From here on, times are `GeneralizedTime` (RFC 5280 section 5.1.2.4).
const YEAR_2050: i64 = 2_524_608_000;
/// Size of an entry with the longest serial, the longest time and a reason.
const LONGEST_ENTRY: usize = 2 + (2 + 21) + (2 + 15) + 14;

/// Encoded entries of a CRL: DER, one after the other. Keep them to sign the next CRL without encoding them again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedEntries(Vec<u8>);

impl EncodedEntries {
    /// No entries, with this capacity in bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Appends encoded entries: the result of [`Self::as_der`], or whole entries of it.
    pub fn push_encoded(&mut self, entries: &[u8]) {
        self.0.extend_from_slice(entries);
    }

    /// The buffer with the entries.
    pub(super) fn into_der(self) -> Vec<u8> {
        self.0
    }

    /// The DER of all entries.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

impl Extend<RevokedEntry> for EncodedEntries {
    fn extend<I: IntoIterator<Item = RevokedEntry>>(&mut self, entries: I) {
        for entry in entries {
            push_entry(&mut self.0, &entry);
        }
    }
}

impl FromIterator<RevokedEntry> for EncodedEntries {
    fn from_iter<I: IntoIterator<Item = RevokedEntry>>(entries: I) -> Self {
        let mut encoded = Self::default();
        encoded.extend(entries);
        encoded
    }
}

/// `INTEGER` in its shortest form.
pub(super) fn number(number: CrlNumber) -> Vec<u8> {
    let bytes = number.get().to_be_bytes();
    // The highest bit is the sign, so it must be clear.
    let first = bytes.windows(2).position(|pair| pair[0] != 0 || pair[1] & 0x80 != 0).unwrap_or(bytes.len() - 1);
    encode(der::INTEGER, &bytes[first..])
}

/// The length of an entry's contents in bytes; always less than 128.
fn entry_len(entry: &RevokedEntry) -> usize {
    let time = if entry.revoked_at.unix() < YEAR_2050 { 13 } else { 15 };
    let reason = if entry.reason == RevocationReason::Unspecified { 0 } else { 14 };
    2 + serial_len(entry.serial.magnitude()) + 2 + time + reason
}

/// A positive number whose highest bit is set needs a zero byte in front.
fn serial_len(magnitude: &[u8]) -> usize {
    magnitude.len() + usize::from(magnitude[0] >> 7)
}

/// `SEQUENCE { userCertificate INTEGER, revocationDate Time, crlEntryExtensions OPTIONAL }`
fn push_entry(crl: &mut Vec<u8>, entry: &RevokedEntry) {
    // Built on the stack, because each push to a vector checks its capacity.
    let mut bytes = Short::new();
    bytes.push(&[der::SEQUENCE, short(entry_len(entry))]);
    let serial = entry.serial.magnitude();
    bytes.push(&[der::INTEGER, short(serial_len(serial))]);
    bytes.push(&[0][..serial_len(serial) - serial.len()]);
    bytes.push(serial);
    bytes.push_time(entry.revoked_at);
    // RFC 5280 section 5.3.1: the reason code SHOULD be absent instead of unspecified.
    if entry.reason != RevocationReason::Unspecified {
        bytes.push(&[der::SEQUENCE, 12, der::SEQUENCE, 10, der::OID, 3]);
        bytes.push(REASON_CODE);
        bytes.push(&[der::OCTET_STRING, 3, der::ENUMERATED, 1, entry.reason.code()]);
    }
    crl.extend_from_slice(bytes.as_slice());
}

pub(super) fn push_time(der: &mut Vec<u8>, time: Timestamp) {
    let mut bytes = Short::new();
    bytes.push_time(time);
    der.extend_from_slice(bytes.as_slice());
}

fn short(length: usize) -> u8 {
    u8::try_from(length).expect("an entry has fewer than 128 bytes")
}

/// A buffer for one entry, without allocation.
struct Short {
    bytes: [u8; LONGEST_ENTRY],
    len: usize,
}

impl Short {
    fn new() -> Self {
        Self { bytes: [0; LONGEST_ENTRY], len: 0 }
    }

    fn push(&mut self, more: &[u8]) {
        self.bytes[self.len..self.len + more.len()].copy_from_slice(more);
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
        &self.bytes[..self.len]
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
            let mut bytes = Vec::new();
            push_time(&mut bytes, Timestamp::from_unix(unix));
            (bytes[0], String::from_utf8(bytes[2..].to_vec()).unwrap(), usize::from(bytes[1]) == bytes.len() - 2)
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
        let mut bytes = Vec::new();
        push_entry(&mut bytes, &longest);
        assert_eq!((bytes.len(), der::encoded_len(entry_len(&longest))), (LONGEST_ENTRY, LONGEST_ENTRY));
    }
}
