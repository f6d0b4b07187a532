//! Writes the entries, numbers and times of CRLs (RFC 5280 section 5.1): each entry is written once, into the buffer
//! that becomes the CRL.
//!
//! It never decides what is in a list, and never signs one.

use super::{
    encoding::REASON_CODE,
    entry::{RevocationReason, RevokedEntry},
    number::CrlNumber,
};
use crate::{
    der::{self, encode},
    time::Timestamp,
};

/// 2050-01-01 00:00:00 UTC: from here on, times are `GeneralizedTime` (RFC 5280 section 5.1.2.4).
const YEAR_2050: i64 = 2_524_608_000;
/// An entry with the longest serial, the longest time and a reason.
const LONGEST_ENTRY: usize = 2 + (2 + 21) + (2 + 15) + 14;

/// Entries as a list has them: in DER, one after the other. Whoever keeps what was written for one list need not read
/// and write it again for the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedEntries(Vec<u8>);

impl EncodedEntries {
    /// None yet, with room for so many octets.
    #[must_use]
    pub fn with_capacity(octets: usize) -> Self {
        Self(Vec::with_capacity(octets))
    }

    /// Appends what was written before, as it is. It has to be what [`Self::as_der`] gave, or whole entries of it.
    pub fn push_encoded(&mut self, entries: &[u8]) {
        self.0.extend_from_slice(entries);
    }

    /// The buffer that they are in.
    pub(super) fn into_der(self) -> Vec<u8> {
        self.0
    }

    /// All of them.
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
    let octets = number.get().to_be_bytes();
    // The shortest form keeps the highest bit clear: it is the sign.
    let first = octets.windows(2).position(|pair| pair[0] != 0 || pair[1] & 0x80 != 0).unwrap_or(octets.len() - 1);
    encode(der::INTEGER, &octets[first..])
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
fn push_entry(crl: &mut Vec<u8>, entry: &RevokedEntry) {
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

pub(super) fn push_time(der: &mut Vec<u8>, time: Timestamp) {
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
