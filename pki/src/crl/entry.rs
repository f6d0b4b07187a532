//! The entries of a CRL: serial number, time and reason.
//!
//! It never decides what is revoked.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{serial::Serial, time::Timestamp};

/// One revoked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedEntry {
    /// Its serial number.
    pub serial: Serial,
    /// When it was revoked.
    pub revoked_at: Timestamp,
    /// The reason.
    pub reason: RevocationReason,
}

/// Why a certificate was revoked (RFC 5280 section 5.3.1). `certificateHold` and `removeFromCRL` are left out because a
/// revocation is permanent, and `aACompromise` because it is for attribute certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationReason {
    /// No reason given. The reason is left out of the CRL.
    #[default]
    Unspecified,
    /// Someone else may have the private key.
    KeyCompromise,
    /// Someone else may have the CA's private key.
    CaCompromise,
    /// The subject's name or affiliation changed.
    AffiliationChanged,
    /// A newer certificate replaces it.
    Superseded,
    /// No longer needed.
    CessationOfOperation,
    /// The holder lost the privileges that the certificate gave.
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// The name in RFC 5280, hyphenated: `key-compromise`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::CaCompromise => "ca-compromise",
            Self::AffiliationChanged => "affiliation-changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }

    /// Whether someone else may have the private key. If so, the public key may not be certified again.
    #[must_use]
    pub fn is_compromise(self) -> bool {
        matches!(self, Self::KeyCompromise | Self::CaCompromise)
    }

    /// The `CRLReason` code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::PrivilegeWithdrawn => 9,
        }
    }

    /// The reason with this `CRLReason` code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason {given:?}; use one of {}", RevocationReason::ALL.map(RevocationReason::as_str).join(", "))]
pub struct UnknownReason {
    given: String,
}

impl FromStr for RevocationReason {
    type Err = UnknownReason;

    /// Accepts the hyphenated name and the spelling of RFC 5280 (`keyCompromise`), in any case.
    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        let plain = |name: &str| name.replace('-', "").to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|reason| plain(reason.as_str()) == plain(text))
            .ok_or_else(|| UnknownReason { given: text.to_owned() })
    }
}

/// The entries of a draft.
///
/// Implement it to generate entries without copying a million of them.
pub trait RevokedEntries {
    /// All entries, in the order of the CRL.
    fn entries(&self) -> impl Iterator<Item = RevokedEntry>;
}

impl RevokedEntries for Vec<RevokedEntry> {
    fn entries(&self) -> impl Iterator<Item = RevokedEntry> {
        self.iter().copied()
    }
}

impl RevokedEntries for &[RevokedEntry] {
    fn entries(&self) -> impl Iterator<Item = RevokedEntry> {
        self.iter().copied()
    }
}

/// Entries from an iterator. It is cloned for each pass.
#[derive(Clone, Copy, Debug)]
pub struct Streamed<I>(pub I);

impl<I: Iterator<Item = RevokedEntry> + Clone> RevokedEntries for Streamed<I> {
    fn entries(&self) -> impl Iterator<Item = RevokedEntry> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_named_as_in_the_standard() {
        for reason in RevocationReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(RevocationReason::from_code(reason.code()), Some(reason));
        }
        assert_eq!("keyCompromise".parse(), Ok(RevocationReason::KeyCompromise));
        assert_eq!(RevocationReason::from_code(6), None, "certificateHold is not supported");
        assert!("stolen".parse::<RevocationReason>().unwrap_err().to_string().contains("key-compromise"));
    }
}
