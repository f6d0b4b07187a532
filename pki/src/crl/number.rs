//! CRL numbers (RFC 5280 section 5.2.3).
//!
//! It never chooses the next number of an authority.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A CRL number (RFC 5280 section 5.2.3). For one issuer it never goes down.
///
/// The standard allows 20 octets. This type has 63 bits, which SQLite stores exactly. Reading a larger number is an
/// error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64")]
pub struct CrlNumber(i64);

/// The number of a CRL that has none: its thisUpdate.
impl From<Timestamp> for CrlNumber {
    fn from(this_update: Timestamp) -> Self {
        Self(this_update.unix())
    }
}

/// The number is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a CRL number cannot be negative; got {0}")]
pub struct NegativeNumber(i64);

impl TryFrom<i64> for CrlNumber {
    type Error = NegativeNumber;

    fn try_from(number: i64) -> Result<Self, NegativeNumber> {
        Self::new(number).ok_or(NegativeNumber(number))
    }
}

impl CrlNumber {
    /// Lower than the number of any CRL.
    pub const NONE: Self = Self(0);
    /// The number of an authority's first CRL.
    pub const FIRST: Self = Self(1);

    /// The highest number that an authority accepts from a source other than its own database. It leaves half of the
    /// range for the CRLs that follow.
    pub const HIGHEST_TAKEN_BACK: Self = Self(1 << 62);

    /// From a number that is not negative.
    #[must_use]
    pub fn new(number: i64) -> Option<Self> {
        (number >= 0).then_some(Self(number))
    }

    /// The value.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^63 CRLs are never signed"))
    }
}

impl fmt::Display for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_number_is_refused() {
        assert_eq!(serde_json::from_str::<CrlNumber>("7").unwrap(), CrlNumber::new(7).unwrap());
        assert_eq!(serde_json::to_string(&CrlNumber::FIRST).unwrap(), "1");
        for bad in ["-1", "-9223372036854775808", "9223372036854775808", "1.5"] {
            assert!(serde_json::from_str::<CrlNumber>(bad).is_err(), "{bad}");
        }
    }
}
