//! The entries of a list: which certificate, since when and why.
//!
//! It never decides what is revoked.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{serial::Serial, time::Timestamp};

/// One revoked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedEntry {
    /// Which one.
    pub serial: Serial,
    /// Since when.
    pub revoked_at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// Why a certificate was revoked (RFC 5280 section 5.3.1), without the two that make no sense for a
/// revocation that is permanent (`certificateHold`, `removeFromCRL`) and the one for attribute certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationReason {
    /// No reason given; written into a CRL by leaving the reason out.
    #[default]
    Unspecified,
    /// Somebody else has the private key.
    KeyCompromise,
    /// Somebody else has the private key of the CA.
    CaCompromise,
    /// The subject's name or affiliation changed.
    AffiliationChanged,
    /// Another certificate has taken its place.
    Superseded,
    /// No longer needed.
    CessationOfOperation,
    /// What the certificate allowed is no longer allowed.
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// Every reason there is.
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

    /// Whether somebody else may have the private key, so that the public key is not to be certified again.
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

/// The text names no reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reason {given:?} does not exist; there are {}", RevocationReason::ALL.map(RevocationReason::as_str).join(", "))]
pub struct UnknownReason {
    given: String,
}

impl FromStr for RevocationReason {
    type Err = UnknownReason;

    /// Takes the hyphenated name and RFC 5280's own spelling (`keyCompromise`), in any case.
    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        let plain = |name: &str| name.replace('-', "").to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|reason| plain(reason.as_str()) == plain(text))
            .ok_or_else(|| UnknownReason { given: text.to_owned() })
    }
}

/// What a draft revokes.
///
/// A source of its own (a computation, say) avoids a copy of a million entries.
pub trait RevokedEntries {
    /// Every entry, in the order in which the list has them.
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

/// Entries that come out of an iterator, which is cloned to go through them.
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
        assert_eq!(RevocationReason::from_code(6), None, "a revocation is permanent, there is no hold");
        assert!("stolen".parse::<RevocationReason>().unwrap_err().to_string().contains("key-compromise"));
    }
}
