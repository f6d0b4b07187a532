//! Certificate serial numbers (RFC 5280 section 4.1.2.2).
//!
//! It never draws randomness; the octets of a new serial are an argument.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The most octets that RFC 5280 allows in a serial number.
const MAX_OCTETS: usize = 20;

/// A positive serial number of 1 to 20 octets, without leading zeros.
///
/// Written as lowercase hexadecimal; read as other tools write it, too: in either case, with colons or spaces, after `0x` or `serial=`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial {
    // Right-aligned, so that comparing the arrays compares the numbers.
    octets: [u8; MAX_OCTETS],
}

/// Why something is not a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// The number is zero, negative or there is none.
    #[error("a serial number is greater than zero")]
    NotPositive,
    /// More than 20 octets.
    #[error("a serial number has at most 20 octets")]
    TooLong,
    /// Not hexadecimal.
    #[error("a serial number is written in hexadecimal, such as 5f0c3a or 5F:0C:3A")]
    NotHexadecimal,
}

impl Serial {
    /// Zero, which no certificate should have and the roots of some authorities do.
    pub(crate) const OF_OLD_ROOTS: Self = Self { octets: [0; MAX_OCTETS] };

    /// A new serial out of 16 random octets, of which 126 bits are kept: the number is positive, and the
    /// second highest bit is set so that every serial has the same length.
    #[must_use]
    pub fn from_random(mut octets: [u8; 16]) -> Self {
        octets[0] = octets[0] & 0x7f | 0x40;
        Self::from_magnitude(&octets).expect("16 octets with a bit set are a positive number")
    }

    /// From an unsigned big-endian number; leading zeros are dropped.
    #[inline]
    pub fn from_magnitude(octets: &[u8]) -> Result<Self, SerialError> {
        let first = octets.iter().position(|octet| *octet != 0).ok_or(SerialError::NotPositive)?;
        let significant = &octets[first..];
        let start = MAX_OCTETS.checked_sub(significant.len()).ok_or(SerialError::TooLong)?;
        let mut octets = [0; MAX_OCTETS];
        match <&[u8; 16]>::try_from(significant) {
            // The usual length, and lists have a million of them: a copy of known length is a few instructions.
            Ok(usual) => octets[MAX_OCTETS - 16..].copy_from_slice(usual),
            Err(_) => octets[start..].copy_from_slice(significant),
        }
        Ok(Self { octets })
    }

    /// From the contents octets of a DER INTEGER (two's complement, big-endian).
    #[inline]
    pub fn from_der_integer(contents: &[u8]) -> Result<Self, SerialError> {
        match contents.first() {
            None => Err(SerialError::NotPositive),
            Some(first) if first & 0x80 != 0 => Err(SerialError::NotPositive),
            Some(_) => Self::from_magnitude(contents),
        }
    }

    /// The number, unsigned, big-endian, without leading zeros.
    #[must_use]
    pub fn magnitude(&self) -> &[u8] {
        let first = self.octets.iter().position(|octet| *octet != 0).unwrap_or(MAX_OCTETS - 1);
        &self.octets[first..]
    }

    /// The number itself, if it fits into 128 bits (every serial that [`Self::from_random`] makes does).
    #[inline]
    #[must_use]
    pub fn to_u128(self) -> Option<u128> {
        let (high, low) = self.octets.split_last_chunk::<16>()?;
        (high == [0; MAX_OCTETS - 16]).then(|| u128::from_be_bytes(*low))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.magnitude().iter().try_for_each(|octet| write!(f, "{octet:02x}"))
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
        /// `serial=5F0C3A` as `openssl x509 -serial` prints it, and C's mark of hexadecimal.
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
        let octets: Vec<u8> =
            digits.rchunks(2).rev().map(|pair| pair.iter().fold(0, |octet, digit| octet << 4 | digit)).collect();
        Self::from_magnitude(&octets)
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
    fn reads_what_openssl_prints() {
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
    fn refuses_what_is_no_serial() {
        assert_eq!("".parse::<Serial>(), Err(SerialError::NotPositive));
        assert_eq!("00".parse::<Serial>(), Err(SerialError::NotPositive));
        assert_eq!("client_1".parse::<Serial>(), Err(SerialError::NotHexadecimal));
        assert_eq!("1".repeat(41).parse::<Serial>(), Err(SerialError::TooLong));
        assert_eq!(Serial::from_der_integer(&[0x80]), Err(SerialError::NotPositive));
        assert_eq!(Serial::from_der_integer(&[]), Err(SerialError::NotPositive));
    }

    #[test]
    fn is_a_number_where_it_fits_into_128_bits() {
        let number = |octets: &[u8]| Serial::from_magnitude(octets).unwrap().to_u128();
        assert_eq!(number(&[1]), Some(1));
        assert_eq!(number(&[0xff; 16]), Some(u128::MAX));
        assert_eq!(number(&[&[1][..], &[0; 16]].concat()), None);
        assert_eq!(number(&[0xff; 20]), None);
    }

    proptest! {
        #[test]
        fn a_random_serial_is_positive_and_always_sixteen_octets(octets: [u8; 16]) {
            let serial = Serial::from_random(octets);
            prop_assert_eq!(serial.magnitude().len(), 16);
            prop_assert!(serial.magnitude()[0] & 0x80 == 0);
            prop_assert_eq!(Serial::from_der_integer(serial.magnitude()), Ok(serial));
            let number = serial.to_u128().expect("16 octets");
            prop_assert_eq!(&number.to_be_bytes()[..], serial.magnitude());
        }

        #[test]
        fn text_and_number_are_the_same_serial(octets in prop::collection::vec(any::<u8>(), 1..=20)) {
            if let Ok(serial) = Serial::from_magnitude(&octets) {
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
        fn any_text_is_read_or_refused_without_panic(text in ".{0,64}") {
            let _ = text.parse::<Serial>();
        }
    }
}
