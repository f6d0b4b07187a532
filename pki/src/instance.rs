//! Identifies one run of a relying party by a secret that it draws when it starts. Several instances may share a
//! certificate or a name.
//!
//! It never draws randomness and never stores anything.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::token::Secret;

/// The public name of an instance: the first 16 bytes of the SHA-256 of its secret, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId([u8; 16]);

/// The text is not an instance id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an instance id is 32 hexadecimal digits, as `ca-daemon relying-parties --json` prints it")]
pub struct InstanceIdError;

impl InstanceId {
    /// The number of digits that are shown in lists.
    const SHORT: usize = 8;

    /// The id that belongs to this secret.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        let hash = secret.hash();
        let (id, _) = hash.as_bytes().split_first_chunk().expect("SHA-256 has 32 bytes");
        Self(*id)
    }

    /// Its first digits, as shown in lists.
    #[must_use]
    pub fn short(&self) -> String {
        let mut id = self.to_string();
        id.truncate(Self::SHORT);
        id
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for InstanceId {
    type Err = InstanceIdError;

    fn from_str(text: &str) -> Result<Self, InstanceIdError> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InstanceIdError);
        }
        u128::from_str_radix(text, 16).map(|id| Self(id.to_be_bytes())).map_err(|_| InstanceIdError)
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InstanceIdError;

    fn try_from(text: String) -> Result<Self, InstanceIdError> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.to_string()
    }
}

/// Joins several secrets into one header value. [`read_secrets`] reads it.
#[must_use]
pub fn write_secrets<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Zeroizing<String> {
    let texts: Vec<_> = secrets.into_iter().map(Secret::to_bearer).collect();
    let texts: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
    Zeroizing::new(texts.join(","))
}

/// Reads at most `most` secrets that are separated by commas. `None` if there are more, or if one is malformed.
#[must_use]
pub fn read_secrets(text: &str, most: usize) -> Option<Vec<Secret>> {
    let mut texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    let secrets: Option<Vec<_>> = texts.by_ref().take(most).map(Secret::from_bearer).collect();
    secrets.filter(|_| texts.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_follows_from_its_secret_and_does_not_reveal_it() {
        let secret = Secret::from_bytes([7; 32]);
        let id = InstanceId::of(&secret);
        let text = id.to_string();
        assert!(text.len() == 32 && text.starts_with(&id.short()) && id.short().len() == 8);
        assert_eq!(text.parse(), Ok(id));
        assert_ne!(id, InstanceId::of(&Secret::from_bytes([8; 32])));
        assert!(!secret.to_bearer().contains(&text));
        for bad in ["", "07", "+0000000000000000000000000000000", "zz000000000000000000000000000000"] {
            assert_eq!(bad.parse::<InstanceId>(), Err(InstanceIdError), "{bad}");
        }
    }

    #[test]
    fn secrets_round_trip_up_to_the_limit() {
        let secrets = [7, 8, 9].map(|byte| Secret::from_bytes([byte; 32]));
        let text = write_secrets(&secrets);
        assert_eq!(read_secrets(&text, 3).as_deref(), Some(&secrets[..]));
        assert_eq!(read_secrets(&text, 2), None);
        assert_eq!(read_secrets("", 2), Some(Vec::new()));
        assert_eq!(read_secrets("secret", 2), None);
    }
}
