//! What a list covers: everything that its issuer has revoked, or only the certificates that name one distribution point
//! (RFC 5280 section 5.2.5).
//!
//! It never decides which of the two a relying party should ask for.

use super::{CrlVerifyError, write};

/// Where an authority publishes, below its CRL URL, the list of its root.
pub const ROOT_CRL_PATH: &str = "/crl/root.crl";
/// Where it publishes, below its CRL URL, the list of everything that its issuing CA has revoked.
pub const ISSUING_CRL_PATH: &str = "/crl/issuing.crl";
/// Where it publishes the list that covers servers only. A client that wants to know about one server does not have to fetch the
/// list of all clients.
pub const SERVERS_CRL_PATH: &str = "/crl/servers.crl";

/// The distribution point of the list that covers servers only, beside that of the complete list. None where the complete list does
/// not lie where our authority publishes it: another CA has no such list.
#[must_use]
pub fn servers_crl_url(crl_url: &str) -> Option<String> {
    crl_url.strip_suffix(ISSUING_CRL_PATH).map(|base| format!("{base}{SERVERS_CRL_PATH}"))
}

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
            // It has to be critical; where a CA forgot that, taking the list for complete would readmit whoever it leaves out.
            Self::Everything => Err(CrlVerifyError::CriticalExtension),
            Self::Point(uri) if critical && value == write::issuing_distribution_point(uri) => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_authoritys_complete_list_has_one_for_servers_beside_it() {
        let beside = |url| servers_crl_url(url);
        assert_eq!(beside("http://ca:8480/crl/issuing.crl").as_deref(), Some("http://ca:8480/crl/servers.crl"));
        assert_eq!(beside("http://ca/pki/crl/issuing.crl").as_deref(), Some("http://ca/pki/crl/servers.crl"));
        assert_eq!(beside("http://crl.example/corporate.crl"), None);
    }
}
