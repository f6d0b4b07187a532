//! The two authorities of one installation, the kinds of their CRLs, and the paths where both are served.
//!
//! It never contains the host, which is in an authority's settings.

use std::fmt;

use pki::crl::{ISSUING_CRL_PATH, ROOT_CRL_PATH, SERVERS_CRL_PATH};
use serde::{Deserialize, Serialize};

/// The two authorities of one installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Issuer {
    /// Signs the issuing CA and nothing else.
    Root,
    /// Signs end-entity certificates.
    Issuing,
}

impl Issuer {
    pub(crate) const ALL: [Self; 2] = [Self::Root, Self::Issuing];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
        }
    }

    /// The option of `ca-daemon crl` that selects it; empty for the default.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Root => " --root",
            Self::Issuing => "",
        }
    }

    /// The path of its CRL.
    pub(crate) fn crl_path(self) -> &'static str {
        match self {
            Self::Root => ROOT_CRL_PATH,
            Self::Issuing => ISSUING_CRL_PATH,
        }
    }

    /// The path of its delta CRL. The root has none: it revokes only CAs, which are few.
    pub(crate) fn delta_path(self) -> Option<&'static str> {
        match self {
            Self::Root => None,
            Self::Issuing => Some("/crl/issuing-delta.crl"),
        }
    }

    /// The path of its list of servers. The root has none: it revokes only CAs.
    pub(crate) fn servers_path(self) -> Option<&'static str> {
        match self {
            Self::Root => None,
            Self::Issuing => Some(SERVERS_CRL_PATH),
        }
    }

    /// The path of its certificate.
    pub(crate) fn certificate_path(self) -> &'static str {
        match self {
            Self::Root => "/ca/root.crt",
            Self::Issuing => "/ca/issuing.crt",
        }
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a CRL covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrlKind {
    /// Everything that is revoked.
    Complete,
    /// What was added since a base CRL (RFC 5280 section 5.2.4).
    Delta,
    /// Revoked server certificates only (RFC 5280 section 5.2.5).
    Servers,
}
