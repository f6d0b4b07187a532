//! Enrollment tokens. A token contains the authority's address, the fingerprint of its root and a secret.
//!
//! It never draws randomness and never stores anything. Only the [`SecretHash`] is made to be stored.

use std::{fmt, str::FromStr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::{certificate::Fingerprint, digest::sha256};

/// The first characters of every token, so that secret scanners and people recognize it.
pub const PREFIX: &str = "catoken_";
const FORMAT: u8 = 1;
const CHECKSUM: usize = 4;

/// An enrollment token.
///
/// As text: `catoken_`, then base64url without padding (RFC 4648 section 5) of: one byte format number, 32 bytes root
/// fingerprint, 32 bytes secret, the authority's URL, and the first 4 bytes of the SHA-256 of all that. The checksum
/// distinguishes a damaged token from one that was never issued.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The authority's HTTPS address.
    pub url: Url,
    /// The SHA-256 of the root certificate. The authority's server certificate has to chain to it.
    pub root: Fingerprint,
    /// Proves that the bearer may enroll.
    pub secret: Secret,
}

/// The text is not a token. No message repeats the text, because it may contain most of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token, or its beginning is missing.
    #[error("not an enrollment token: it does not begin with {PREFIX}; check that it was copied whole")]
    Prefix,
    /// Characters are missing or changed.
    #[error("the enrollment token is damaged; check that it was copied whole")]
    Damaged,
    /// From a newer release.
    #[error("the enrollment token has format {0}, but this program supports only format {FORMAT}; use a newer release")]
    Format(u8),
    /// Its address is not an HTTPS URL.
    #[error("the enrollment token contains an address that is not an https URL")]
    Url,
}

impl Token {
    /// The token as text, wiped from memory when dropped.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        let mut body = Zeroizing::new(vec![FORMAT]);
        body.extend_from_slice(&self.root.0);
        body.extend_from_slice(self.secret.0.as_slice());
        body.extend_from_slice(self.url.as_str().as_bytes());
        let checksum = sha256(&body);
        body.extend_from_slice(&checksum[..CHECKSUM]);
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(body.as_slice())))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    /// Reads a token. White space around it is ignored, because files and pasting add some.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Damaged)?);
        let (body, checksum) =
            bytes.len().checked_sub(CHECKSUM).map(|end| bytes.split_at(end)).ok_or(TokenError::Damaged)?;
        if sha256(body)[..CHECKSUM] != *checksum {
            return Err(TokenError::Damaged);
        }
        let (format, rest) = body.split_first().ok_or(TokenError::Damaged)?;
        if *format != FORMAT {
            return Err(TokenError::Format(*format));
        }
        let (root, rest) = rest.split_first_chunk::<32>().ok_or(TokenError::Damaged)?;
        let (secret, url) = rest.split_first_chunk::<32>().ok_or(TokenError::Damaged)?;
        let url = std::str::from_utf8(url).ok().and_then(|text| Url::parse(text).ok()).ok_or(TokenError::Url)?;
        if url.scheme() != "https" || url.host().is_none() {
            return Err(TokenError::Url);
        }
        Ok(Self { url, root: Fingerprint(*root), secret: Secret::from_bytes(*secret) })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.secret.hash().id())
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

/// The secret in a token: 32 random bytes. They cannot be guessed, so a fast hash protects them at rest. Wiped from
/// memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// From 32 random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The value for an `Authorization: Bearer` header (RFC 6750 section 2.1): base64url without padding.
    #[must_use]
    pub fn to_bearer(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()))
    }

    /// Reads the output of [`Self::to_bearer`], or a whole token that contains the secret.
    #[must_use]
    pub fn from_bearer(text: &str) -> Option<Self> {
        if text.starts_with(PREFIX) {
            return text.parse().ok().map(|token: Token| token.secret);
        }
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        bytes.as_slice().try_into().ok().map(Self::from_bytes)
    }

    /// The hash that is stored instead of the secret.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(sha256(self.0.as_slice()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// The SHA-256 of a token's secret.
#[derive(Clone, Debug)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// From its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The token's public id: the first 6 bytes in hexadecimal.
    #[must_use]
    pub fn id(&self) -> TokenId {
        let digits = self.0[..6].iter().fold(0, |id, byte| id << 8 | u64::from(*byte));
        TokenId(format!("{digits:012x}"))
    }

    /// Compares in constant time.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

/// The public name of a token: 12 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(String);

/// The text is not a token id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token id is 12 hexadecimal digits, as `ca-daemon token list` prints it")]
pub struct TokenIdError;

impl TokenId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenId {
    type Err = TokenIdError;

    fn from_str(text: &str) -> Result<Self, TokenIdError> {
        if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(TokenIdError)
        }
    }
}

impl TryFrom<String> for TokenId {
    type Error = TokenIdError;

    fn try_from(text: String) -> Result<Self, TokenIdError> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(secret: [u8; 32]) -> Token {
        Token {
            url: "https://localhost:8440".parse().unwrap(),
            root: Fingerprint([7; 32]),
            secret: Secret::from_bytes(secret),
        }
    }

    #[test]
    fn errors_do_not_repeat_the_secret() {
        let text = token([9; 32]).encode();
        assert_eq!(text.parse(), Ok(token([9; 32])));
        assert_eq!(format!("\n {} \n", *text).parse(), Ok(token([9; 32])));
        assert_eq!("hello".parse::<Token>(), Err(TokenError::Prefix));
        assert_eq!(text[..text.len() - 1].parse::<Token>(), Err(TokenError::Damaged));
        assert_eq!(text.replace("catoken_AQ", "catoken_AR").parse::<Token>(), Err(TokenError::Damaged));
        assert_eq!("catoken_".parse::<Token>(), Err(TokenError::Damaged));
    }

    #[test]
    fn never_appears_in_debug_output() {
        let token = token([9; 32]);
        let bearer = token.secret.to_bearer();
        let debug = format!("{token:?} {:?}", token.secret);
        assert!(!debug.contains(bearer.as_str()) && debug.contains(token.secret.hash().id().as_str()));
    }

    proptest! {
        #[test]
        fn encoding_round_trips(secret: [u8; 32]) {
            let token = token(secret);
            prop_assert_eq!(token.encode().parse(), Ok(token.clone()));
            prop_assert_eq!(Secret::from_bearer(&token.secret.to_bearer()), Some(token.secret.clone()));
            prop_assert_eq!(Secret::from_bearer(&token.encode()), Some(token.secret.clone()));
            prop_assert_eq!(Secret::from_bearer(&token.encode()[..60]), None);
            prop_assert!(token.secret.hash().matches(&SecretHash::from_bytes(*token.secret.hash().as_bytes())));
        }

        #[test]
        fn a_changed_character_is_detected(secret: [u8; 32], at in 8usize..100, to in "[A-Za-z0-9_-]") {
            let text = token(secret).encode();
            let mut changed = text.to_string();
            changed.replace_range(at..=at, &to);
            prop_assert!(changed == *text || changed.parse::<Token>().is_err());
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}") {
            let _ = text.parse::<Token>();
            let _ = format!("catoken_{text}").parse::<Token>();
        }
    }
}
