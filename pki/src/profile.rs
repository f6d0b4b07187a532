//! The kinds of end-entity certificates and their contents (RFC 5280 section 4.2).
//!
//! It never takes anything from a request: everything except names and public key is defined here.

use std::{fmt, time::Duration};

use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};
use serde::{Deserialize, Serialize};

/// A kind of end-entity certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// For a program that opens connections: usage `clientAuth`, named by a URI.
    Client,
    /// For a program that accepts connections: usage `serverAuth`, named by hosts.
    Server,
}

impl Profile {
    /// The lifetime of a certificate that was enrolled with a token: 90 days.
    pub const LIFETIME: Duration = Duration::from_hours(2160);

    /// `client` or `server`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// In TLS 1.3, a certificate's key only signs.
    pub(crate) fn key_usages() -> Vec<KeyUsagePurpose> {
        vec![KeyUsagePurpose::DigitalSignature]
    }

    pub(crate) fn extended_key_usage(self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Self::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown profile {0:?}; use client or server")]
pub struct UnknownProfile(String);

impl std::str::FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        match text {
            "client" => Ok(Self::Client),
            "server" => Ok(Self::Server),
            _ => Err(UnknownProfile(text.to_owned())),
        }
    }
}
