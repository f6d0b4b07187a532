//! Why a CRL is not signed, and why a received one is not believed.
//!
//! It never decides either.

use super::number::CrlNumber;
use crate::{
    certificate::DistinguishedName,
    der::DerError,
    serial::{Serial, SerialError},
    signature::SignatureError,
    time::Timestamp,
};

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
    /// The key could not sign.
    #[error("signing failed: {0}")]
    Signing(#[from] rcgen::Error),
}

/// Why a CRL is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlVerifyError {
    /// Not a CRL.
    #[error("not a CRL: {0}")]
    Malformed(#[from] DerError),
    /// A field of it does not follow RFC 5280.
    #[error("not a CRL that follows RFC 5280: {0}")]
    Field(&'static str),
    /// A serial number in it is out of bounds.
    #[error("not a CRL that follows RFC 5280: {0}")]
    Serial(#[from] SerialError),
    /// Another authority's CRL.
    #[error("the CRL was issued by {found}, not by {expected}")]
    OtherIssuer {
        /// Whose CRL was wanted.
        expected: DistinguishedName,
        /// Whose it is.
        found: DistinguishedName,
    },
    /// There is no authority whose CRL would be believed.
    #[error("no authority is known whose CRL could be believed")]
    NoIssuer,
    /// A critical extension, or one that narrows the list: its meaning is unknown here, so the list as a whole is.
    #[error(
        "the CRL has a critical extension that is not supported, or is not complete (a delta, partial or indirect)"
    )]
    CriticalExtension,
    /// Another one of the authority's lists in the place of the partial one that was asked for.
    #[error("the CRL is not the one that covers the certificates with the distribution point {expected}")]
    OtherScope {
        /// The distribution point.
        expected: String,
    },
    /// A complete CRL in the place of a delta.
    #[error("the CRL is complete, and a delta to one was expected")]
    NotDelta,
    /// A delta that removes an entry: whoever was refused would be admitted again. Here, what is revoked stays revoked.
    #[error("the delta CRL takes back the revocation of {0} (removeFromCRL), and revocations are permanent")]
    TakenBack(Serial),
    /// Forged or damaged.
    #[error("the CRL's signature does not hold: {0}")]
    Signature(#[from] SignatureError),
}
