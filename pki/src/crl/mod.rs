//! Certificate revocation lists (RFC 5280 section 5): what one contains, how it is drafted, and how a
//! received one is verified.
//!
//! It never decides what is revoked, nor whether a list is fresh enough to be used.

mod scope;
mod verify;
pub(crate) mod write;

use std::{fmt, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::{
    scope::{ISSUING_CRL_PATH, ROOT_CRL_PATH, SERVERS_CRL_PATH, servers_crl_url},
    verify::{CrlIssuer, CrlVerifyError, VerifiedCrl, VerifiedDelta, VerifiedList},
};
use crate::{serial::Serial, time::Timestamp};

// The contents of the OBJECT IDENTIFIERs of what is both written and read (RFC 5280 sections 5.2 and 5.3).
/// id-ce-cRLNumber 2.5.29.20
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
/// id-ce-cRLReasons 2.5.29.21
const REASON_CODE: &[u8] = &[0x55, 0x1d, 0x15];
/// id-ce-issuingDistributionPoint 2.5.29.28
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
/// id-ce-deltaCRLIndicator 2.5.29.27
const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 0x1b];
/// id-ce-freshestCRL 2.5.29.46
const FRESHEST_CRL: &[u8] = &[0x55, 0x1d, 0x2e];

/// A CRL number (RFC 5280 section 5.2.3); for one issuer it never goes down.
///
/// The standard allows 20 octets. This is 63 bits, what SQLite stores exactly; a larger one is refused when read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64")]
pub struct CrlNumber(i64);

/// For a list that has none.
impl From<Timestamp> for CrlNumber {
    fn from(this_update: Timestamp) -> Self {
        Self(this_update.unix())
    }
}

/// The number is negative, and so no CRL number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a CRL number is not negative, as {0} is")]
pub struct NegativeNumber(i64);

impl TryFrom<i64> for CrlNumber {
    type Error = NegativeNumber;

    fn try_from(number: i64) -> Result<Self, NegativeNumber> {
        Self::new(number).ok_or(NegativeNumber(number))
    }
}

impl CrlNumber {
    /// The lowest that there can be: no list is less than this.
    pub const NONE: Self = Self(0);
    /// The number of an authority's first CRL.
    pub const FIRST: Self = Self(1);

    /// The highest that an authority goes on from, where it is not its database that says how far it has come: as many others follow.
    pub const HIGHEST_TAKEN_BACK: Self = Self(1 << 62);

    /// From a number that is not negative.
    #[must_use]
    pub fn new(number: i64) -> Option<Self> {
        (number >= 0).then_some(Self(number))
    }

    /// The number itself.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a CRL every nanosecond for 292 years does not reach the end"))
    }
}

impl fmt::Display for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
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

/// Entries as a list has them: in DER, one after the other. Whoever keeps what was written for one list need not read and write it
/// again for the next.
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

    /// All of them.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

impl Extend<RevokedEntry> for EncodedEntries {
    fn extend<I: IntoIterator<Item = RevokedEntry>>(&mut self, entries: I) {
        for entry in entries {
            write::push_entry(&mut self.0, &entry);
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

/// A list with its signature, and where in it its entries lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCrl {
    /// The whole of it.
    pub der: Vec<u8>,
    /// Of all entries, one after the other; empty if there are none.
    pub entries: Range<usize>,
}

/// A complete CRL that is to be signed.
#[derive(Clone, Debug)]
pub struct CrlDraft<R = Vec<RevokedEntry>> {
    /// Its number.
    pub number: CrlNumber,
    /// When it is issued.
    pub this_update: Timestamp,
    /// By when the next one will have been issued.
    pub next_update: Timestamp,
    /// What is revoked.
    pub revoked: R,
}

/// A delta CRL (RFC 5280 section 5.2.4) that is to be signed.
#[derive(Clone, Debug)]
pub struct DeltaDraft<R = Vec<RevokedEntry>> {
    /// Its number. Complete CRLs and deltas are numbered in one sequence: what is issued at the same time has the
    /// same number.
    pub number: CrlNumber,
    /// The number of the complete CRL that it adds to; not higher than `number`.
    pub base: CrlNumber,
    /// When it is issued.
    pub this_update: Timestamp,
    /// By when the next one will have been issued.
    pub next_update: Timestamp,
    /// Everything that was revoked since the base was issued, also what an earlier delta said already.
    pub revoked: R,
}

/// Why a draft is no CRL.
#[derive(Debug, thiserror::Error)]
pub enum CrlError {
    /// It would be stale the moment it is signed.
    #[error("a CRL's nextUpdate ({next_update}) has to be later than its thisUpdate ({this_update})")]
    Period {
        /// The draft's thisUpdate.
        this_update: Timestamp,
        /// The draft's nextUpdate.
        next_update: Timestamp,
    },
    /// It would add to a complete CRL that does not exist yet.
    #[error("delta CRL number {number} cannot add to number {base}, which is later")]
    Base {
        /// The draft's number.
        number: CrlNumber,
        /// The number of the base.
        base: CrlNumber,
    },
    /// The authority publishes no list that covers servers only.
    #[error("this authority has no distribution point for a CRL that covers servers only")]
    NoServersList,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_never_negative_whoever_says_it() {
        assert_eq!(serde_json::from_str::<CrlNumber>("7").unwrap(), CrlNumber::new(7).unwrap());
        assert_eq!(serde_json::to_string(&CrlNumber::FIRST).unwrap(), "1");
        for bad in ["-1", "-9223372036854775808", "9223372036854775808", "1.5"] {
            assert!(serde_json::from_str::<CrlNumber>(bad).is_err(), "{bad}");
        }
    }

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
