//! The kinds of end-entity certificates, and what each contains (RFC 5280 section 4.2).
//!
//! Everything that is not a name or a public key comes from here and from nowhere else.

use std::{fmt, time::Duration};

use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};
use serde::{Deserialize, Serialize};

/// A kind of end-entity certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// For whoever opens a connection: usage `clientAuth`, named by a URI.
    Client,
    /// For whoever accepts one: usage `serverAuth`, named by the hosts it is reached by.
    Server,
}

impl Profile {
    /// How long a certificate lives that was enrolled with a token: 90 days.
    pub const LIFETIME: Duration = Duration::from_hours(2160);

    /// `client` or `server`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// TLS 1.3 certificates sign and do nothing else.
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

/// The text names no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile {0:?} does not exist; there are client and server")]
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
