//! What a CRL covers: everything that its issuer has revoked, or only the certificates with one distribution point (RFC
//! 5280 section 5.2.5).
//!
//! It never decides which of the two a relying party needs.

use super::{encoding::issuing_distribution_point, error::CrlVerifyError};

/// What a CRL has to cover to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything that the issuer has revoked. The CRL has no issuing distribution point.
    Everything,
    /// Certificates with this distribution point. The CRL must have it as issuing distribution point.
    Point(String),
}

impl Scope {
    /// Accepts an issuing distribution point that equals the expected one byte for byte.
    pub(super) fn check_point(&self, critical: bool, value: &[u8]) -> Result<(), CrlVerifyError> {
        match self {
            // The extension must be critical. If it is not, the CRL is refused all the same: treating a partial CRL as
            // complete would readmit the certificates that it does not list.
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
