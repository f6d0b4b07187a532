//! The two authorities of one installation, the kinds of their CRLs, and the paths at which both are served.
//!
//! It never knows the host: an authority's settings do.

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

    /// How `ca-daemon crl` is told of which one: by nothing, or by this option.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Root => " --root",
            Self::Issuing => "",
        }
    }

    /// Where its CRL is served.
    pub(crate) fn crl_path(self) -> &'static str {
        match self {
            Self::Root => ROOT_CRL_PATH,
            Self::Issuing => ISSUING_CRL_PATH,
        }
    }

    /// Where its delta CRL is served. The root has none: what it revokes are CAs, few enough to list in full.
    pub(crate) fn delta_path(self) -> Option<&'static str> {
        match self {
            Self::Root => None,
            Self::Issuing => Some("/crl/issuing-delta.crl"),
        }
    }

    /// Where its CRL is served that covers servers only. What the root revokes are CAs.
    pub(crate) fn servers_path(self) -> Option<&'static str> {
        match self {
            Self::Root => None,
            Self::Issuing => Some(SERVERS_CRL_PATH),
        }
    }

    /// Where its certificate is served.
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

/// What a CRL of an issuer lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrlKind {
    /// Everything that is revoked.
    Complete,
    /// What was added since a complete one (RFC 5280 section 5.2.4).
    Delta,
    /// Which servers are revoked (RFC 5280 section 5.2.5).
    Servers,
}
