//! Why a CRL cannot be signed, and why a received one is refused.
//!
//! It never makes either decision.

use super::number::CrlNumber;
use crate::{
    certificate::DistinguishedName,
    der::DerError,
    serial::{Serial, SerialError},
    signature::SignatureError,
    time::Timestamp,
};

/// Why a draft cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum CrlError {
    /// It would already be stale when signed.
    #[error("a CRL's nextUpdate ({next_update}) must be later than its thisUpdate ({this_update})")]
    Period {
        /// The draft's thisUpdate.
        this_update: Timestamp,
        /// The draft's nextUpdate.
        next_update: Timestamp,
    },
    /// The complete CRL that it refers to does not exist yet.
    #[error("delta CRL number {number} cannot be based on the later number {base}")]
    Base {
        /// The draft's number.
        number: CrlNumber,
        /// The number of the base.
        base: CrlNumber,
    },
    /// The authority has no CRL that covers servers only.
    #[error("this authority has no distribution point for a CRL that covers servers only")]
    NoServersList,
    /// The key could not sign.
    #[error("signing failed: {0}")]
    Signing(#[from] rcgen::Error),
}

/// Why a CRL is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlVerifyError {
    /// Not a CRL.
    #[error("not a CRL: {0}")]
    Malformed(#[from] DerError),
    /// A field that does not follow RFC 5280.
    #[error("not a CRL that follows RFC 5280: {0}")]
    Field(&'static str),
    /// A serial number out of bounds.
    #[error("not a CRL that follows RFC 5280: {0}")]
    Serial(#[from] SerialError),
    /// Issued by another authority.
    #[error("the CRL was issued by {found}, not by {expected}")]
    OtherIssuer {
        /// The expected issuer.
        expected: DistinguishedName,
        /// The issuer in the CRL.
        found: DistinguishedName,
    },
    /// There is no authority whose CRLs are accepted.
    #[error("no authority is configured whose CRLs are accepted")]
    NoIssuer,
    /// An unknown critical extension, or one that limits what the CRL covers. Then the meaning of the whole CRL is
    /// unknown.
    #[error(
        "the CRL has a critical extension that is not supported, or is not complete (a delta, partial or indirect)"
    )]
    CriticalExtension,
    /// A different CRL of the same authority instead of the expected partial one.
    #[error("the CRL is not the one that covers the certificates with the distribution point {expected}")]
    OtherScope {
        /// The expected distribution point.
        expected: String,
    },
    /// A complete CRL instead of a delta.
    #[error("the CRL is complete; a delta CRL was expected")]
    NotDelta,
    /// A delta that removes an entry. It would readmit a revoked certificate, and revocations are permanent.
    #[error("the delta CRL removes the entry of {0} (removeFromCRL); revocations are permanent")]
    TakenBack(Serial),
    /// Forged or damaged.
    #[error("the CRL's signature is not valid: {0}")]
    Signature(#[from] SignatureError),
}
