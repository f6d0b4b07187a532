//! Certificate serial numbers (RFC 5280 section 4.1.2.2).
//!
//! It never draws randomness; the bytes of a new serial number are an argument.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest serial number that RFC 5280 allows, in bytes.
const MAX_BYTES: usize = 20;

/// A positive serial number of 1 to 20 bytes, without leading zeros.
///
/// Written as lowercase hexadecimal. Other tools' forms are read too: either case, with colons or spaces, after `0x` or
/// `serial=`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial {
    // Right-aligned, so that comparing the arrays compares the numbers.
    bytes: [u8; MAX_BYTES],
}

/// Why something is not a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// Zero, negative or empty.
    #[error("a serial number is greater than zero")]
    NotPositive,
    /// More than 20 bytes.
    #[error("a serial number has at most 20 bytes")]
    TooLong,
    /// Not hexadecimal.
    #[error("a serial number is written in hexadecimal, such as 5f0c3a or 5F:0C:3A")]
    NotHexadecimal,
}

impl Serial {
    /// Zero. RFC 5280 forbids it, but some old roots have it.
    pub(crate) const OF_OLD_ROOTS: Self = Self { bytes: [0; MAX_BYTES] };

    /// Makes a serial number from 16 random bytes and keeps 126 of their bits. The highest bit is cleared to make the
    /// number positive; the next one is set so that all serial numbers have the same length.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[0] = bytes[0] & 0x7f | 0x40;
        Self::from_magnitude(&bytes).expect("16 bytes with a bit set are a positive number")
    }

    /// From an unsigned big-endian number. Leading zeros are dropped.
    #[inline]
    pub fn from_magnitude(bytes: &[u8]) -> Result<Self, SerialError> {
        let first = bytes.iter().position(|byte| *byte != 0).ok_or(SerialError::NotPositive)?;
        let significant = &bytes[first..];
        let start = MAX_BYTES.checked_sub(significant.len()).ok_or(SerialError::TooLong)?;
        let mut bytes = [0; MAX_BYTES];
        match <&[u8; 16]>::try_from(significant) {
            // The usual length. A copy of constant length takes a few instructions, which counts for a CRL of a million
            // entries.
            Ok(usual) => bytes[MAX_BYTES - 16..].copy_from_slice(usual),
            Err(_) => bytes[start..].copy_from_slice(significant),
        }
        Ok(Self { bytes })
    }

    /// From the contents octets (X.690) of a DER INTEGER: two's complement, big-endian.
    #[inline]
    pub fn from_der_integer(contents: &[u8]) -> Result<Self, SerialError> {
        match contents.first() {
            None => Err(SerialError::NotPositive),
            Some(first) if first & 0x80 != 0 => Err(SerialError::NotPositive),
            Some(_) => Self::from_magnitude(contents),
        }
    }

    /// The number as unsigned big-endian bytes, without leading zeros.
    #[must_use]
    pub fn magnitude(&self) -> &[u8] {
        let first = self.bytes.iter().position(|byte| *byte != 0).unwrap_or(MAX_BYTES - 1);
        &self.bytes[first..]
    }

    /// The number, if it fits into 128 bits, as all serial numbers of [`Self::from_random`] do.
    #[inline]
    #[must_use]
    pub fn to_u128(self) -> Option<u128> {
        let (high, low) = self.bytes.split_last_chunk::<16>()?;
        (high == [0; MAX_BYTES - 16]).then(|| u128::from_be_bytes(*low))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.magnitude().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        /// `serial=5F0C3A` is the output of `openssl x509 -serial`; `0x` marks hexadecimal.
        const PREFIXES: [&str; 2] = ["serial=", "0x"];
        let without = |text: &'_ str, prefix: &str| match text.split_at_checked(prefix.len()) {
            Some((head, rest)) if head.eq_ignore_ascii_case(prefix) => rest.len(),
            _ => text.len(),
        };
        let mut text = text.trim();
        for prefix in PREFIXES {
            text = text[text.len() - without(text, prefix)..].trim_start();
        }
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| !matches!(c, ':' | ' '))
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(SerialError::NotHexadecimal))
            .collect::<Result<_, _>>()?;
        let bytes: Vec<u8> =
            digits.rchunks(2).rev().map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        Self::from_magnitude(&bytes)
    }
}

impl Serialize for Serial {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Serial {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_output_of_openssl_is_read() {
        let serial: Serial = "5F:0C:3A".parse().unwrap();
        assert_eq!(serial.to_string(), "5f0c3a");
        assert_eq!("0f0c3a".parse::<Serial>().unwrap(), "F0C3A".parse().unwrap());
        for other in
            ["serial=5F0C3A", "SERIAL=0x5f0c3a\n", "0X5F0C3A", " 5f 0c 3a ", "            5f:0c:3a", "0x 5f:0C:3a"]
        {
            assert_eq!(other.parse(), Ok(serial), "{other:?}");
        }
        for bad in ["serial=", "0x", "serial=serial=5f", "0x0x5f", "x5f", "5f-0c", "serial=-5F"] {
            assert!(bad.parse::<Serial>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn malformed_serial_numbers_are_refused() {
        assert_eq!("".parse::<Serial>(), Err(SerialError::NotPositive));
        assert_eq!("00".parse::<Serial>(), Err(SerialError::NotPositive));
        assert_eq!("client_1".parse::<Serial>(), Err(SerialError::NotHexadecimal));
        assert_eq!("1".repeat(41).parse::<Serial>(), Err(SerialError::TooLong));
        assert_eq!(Serial::from_der_integer(&[0x80]), Err(SerialError::NotPositive));
        assert_eq!(Serial::from_der_integer(&[]), Err(SerialError::NotPositive));
    }

    #[test]
    fn short_numbers_convert_to_128_bits() {
        let number = |bytes: &[u8]| Serial::from_magnitude(bytes).unwrap().to_u128();
        assert_eq!(number(&[1]), Some(1));
        assert_eq!(number(&[0xff; 16]), Some(u128::MAX));
        assert_eq!(number(&[&[1][..], &[0; 16]].concat()), None);
        assert_eq!(number(&[0xff; 20]), None);
    }

    proptest! {
        #[test]
        fn a_random_serial_is_positive_and_always_sixteen_bytes(bytes: [u8; 16]) {
            let serial = Serial::from_random(bytes);
            prop_assert_eq!(serial.magnitude().len(), 16);
            prop_assert!(serial.magnitude()[0] & 0x80 == 0);
            prop_assert_eq!(Serial::from_der_integer(serial.magnitude()), Ok(serial));
            let number = serial.to_u128().expect("16 bytes");
            prop_assert_eq!(&number.to_be_bytes()[..], serial.magnitude());
        }

        #[test]
        fn text_and_der_round_trip(bytes in prop::collection::vec(any::<u8>(), 1..=20)) {
            if let Ok(serial) = Serial::from_magnitude(&bytes) {
                prop_assert_eq!(serial.to_string().parse(), Ok(serial));
            }
        }

        #[test]
        fn order_is_numeric(a: u64, b: u64) {
            let serial = |n: u64| Serial::from_magnitude(&n.to_be_bytes());
            if let (Ok(x), Ok(y)) = (serial(a), serial(b)) {
                prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,64}") {
            let _ = text.parse::<Serial>();
        }
    }
}
