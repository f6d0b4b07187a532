//! Trust domains and the URIs in them (SPIFFE-ID section 2.1).
//!
//! It never checks whether a domain exists.

use std::str::FromStr;

use serde::Serialize;

use super::{
    rule::{NameError, check_length, is_name_byte, malformed},
    subject::CommonName,
};

/// The path of the authority's URI.
const AUTHORITY_PATH: &str = "authority";

/// A SPIFFE trust domain, the authority part of a client's URI (`spiffe://TRUST-DOMAIN/client/NAME`; SPIFFE-ID section
/// 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrustDomain(String);

impl TrustDomain {
    const WHAT: &str = "trust domain";
    const EXPECTED: &str =
        "1 to 255 lowercase letters, digits, underscores or hyphens, with dots between them, such as fleet.example";

    /// The URI of the client `name`.
    #[must_use]
    pub fn client_uri(&self, name: &CommonName) -> String {
        format!("spiffe://{}/client/{name}", self.0)
    }

    /// The URI of the authority itself. No other certificate has it.
    #[must_use]
    pub fn authority_uri(&self) -> String {
        format!("spiffe://{}/{AUTHORITY_PATH}", self.0)
    }

    /// Whether this is the URI of an authority, in any trust domain.
    pub(crate) fn is_authority_uri(name: &str) -> bool {
        let path = name.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
        path.is_some_and(|(_, path)| path == AUTHORITY_PATH)
    }

    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let domain = Self::try_from(text.to_owned())?;
        if text.split('.').any(str::is_empty) { Err(malformed(Self::WHAT, Self::EXPECTED, text)) } else { Ok(domain) }
    }
}

/// Reads a stored trust domain. Old authorities may have one with empty labels.
impl TryFrom<String> for TrustDomain {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        check_length(Self::WHAT, Self::EXPECTED, &text, 255)?;
        if text.bytes().all(|c| is_name_byte(c) && !c.is_ascii_uppercase()) {
            Ok(Self(text))
        } else {
            Err(malformed(Self::WHAT, Self::EXPECTED, &text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_domain_has_no_empty_label() {
        assert!("fleet.example".parse::<TrustDomain>().is_ok() && "a_b-1".parse::<TrustDomain>().is_ok());
        for bad in ["", ".", "a.", ".a", "a..b", "A", "a/b", "a b"] {
            assert!(bad.parse::<TrustDomain>().is_err(), "{bad:?} must be refused");
        }
        for old in [".a", "a..b"] {
            assert_eq!(TrustDomain::try_from(old.to_owned()).unwrap().as_str(), old);
        }
        assert!(TrustDomain::try_from("A".to_owned()).is_err());
    }
}
