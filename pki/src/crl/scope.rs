//! What a list covers: everything that its issuer has revoked, or only the certificates that name one distribution
//! point (RFC 5280 section 5.2.5).
//!
//! It never decides which of the two a relying party should ask for.

use super::{encoding::issuing_distribution_point, error::CrlVerifyError};

/// What the list of an issuer has to cover to be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All that it has issued: the list has no issuing distribution point.
    Everything,
    /// The certificates that name this distribution point, which the list names as well.
    Point(String),
}

impl Scope {
    /// What to do about an issuing distribution point: it is the expected one, octet for octet, or the list is refused.
    pub(super) fn check_point(&self, critical: bool, value: &[u8]) -> Result<(), CrlVerifyError> {
        match self {
            // It has to be critical; where a CA forgot that, taking the list for complete would readmit whoever it
            // leaves out.
            Self::Everything => Err(CrlVerifyError::CriticalExtension),
            Self::Point(uri) if critical && value == issuing_distribution_point(uri) => Ok(()),
            Self::Point(_) => Err(self.other()),
        }
    }

    /// A list without an issuing distribution point covers everything.
    pub(super) fn check_absent(&self) -> Result<(), CrlVerifyError> {
        match self {
            Self::Everything => Ok(()),
            Self::Point(_) => Err(self.other()),
        }
    }

    fn other(&self) -> CrlVerifyError {
        match self {
            Self::Everything => CrlVerifyError::CriticalExtension,
            Self::Point(expected) => CrlVerifyError::OtherScope { expected: expected.clone() },
        }
    }
}
