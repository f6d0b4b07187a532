//! Enrollment tokens: one string that says where the authority is, how to recognize it, and that its bearer may enroll.
//!
//! It never draws randomness and never stores anything; at rest there is only [`SecretHash`].

use std::{fmt, str::FromStr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::{certificate::Fingerprint, digest::sha256};

/// What every token begins with, so that secret scanners and people recognize one.
pub const PREFIX: &str = "catoken_";
const FORMAT: u8 = 1;
const CHECKSUM: usize = 4;

/// A token.
///
/// As text: `catoken_`, then base64url without padding (RFC 4648 section 5) of one octet with the format's number, the 32-octet
/// root fingerprint, the 32-octet secret, the authority's URL, and the first 4 octets of the SHA-256 of all that
/// (so that a token that lost a character is told from one that was never issued).
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The authority's HTTPS address.
    pub url: Url,
    /// The SHA-256 of the root certificate that the authority's own certificate has to chain to.
    pub root: Fingerprint,
    /// What shows that the bearer may enroll.
    pub secret: Secret,
}

/// The text is not a token. It is never repeated in the message: it may be most of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else, or a token cut at its beginning.
    #[error("not an enrollment token: it does not begin with {PREFIX}; check that it was copied whole")]
    Prefix,
    /// Characters lost or changed.
    #[error("the enrollment token is damaged; check that it was copied whole")]
    Damaged,
    /// From a newer release.
    #[error("the enrollment token has format {0}, and this program knows format {FORMAT}; use a newer release")]
    Format(u8),
    /// The address in it is no HTTPS URL.
    #[error("the enrollment token names an address that is not an https URL")]
    Url,
}

impl Token {
    /// The token as the text that is handed out, wiped from memory when dropped.
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

    /// Reads a token; white space around it, as files and pasting leave it, is not part of it.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let octets = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Damaged)?);
        let (body, checksum) =
            octets.len().checked_sub(CHECKSUM).map(|end| octets.split_at(end)).ok_or(TokenError::Damaged)?;
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
        Ok(Self { url, root: Fingerprint(*root), secret: Secret::from_octets(*secret) })
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

/// The secret in a token: 32 random octets, so a fast hash protects it at rest. Wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// From 32 random octets.
    #[must_use]
    pub fn from_octets(octets: [u8; 32]) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// As it stands in an `Authorization: Bearer` header (RFC 6750 section 2.1): base64url without padding.
    #[must_use]
    pub fn to_bearer(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()))
    }

    /// Reads what [`Self::to_bearer`] writes, or the whole token that it is a part of: what a person has in hand.
    #[must_use]
    pub fn from_bearer(text: &str) -> Option<Self> {
        if text.starts_with(PREFIX) {
            return text.parse().ok().map(|token: Token| token.secret);
        }
        let octets = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        octets.as_slice().try_into().ok().map(Self::from_octets)
    }

    /// What is stored in its place.
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
    /// From its 32 octets.
    #[must_use]
    pub fn from_octets(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// Its octets.
    #[must_use]
    pub fn as_octets(&self) -> &[u8; 32] {
        &self.0
    }

    /// The name by which people and the store know the token: its first 6 octets in hexadecimal.
    #[must_use]
    pub fn id(&self) -> TokenId {
        let digits = self.0[..6].iter().fold(0, |id, octet| id << 8 | u64::from(*octet));
        TokenId(format!("{digits:012x}"))
    }

    /// Whether both are the same, in time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

/// The public name of a token: 12 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(String);

/// The text is no token id.
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
        if text.len() == 12 && text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
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
            secret: Secret::from_octets(secret),
        }
    }

    #[test]
    fn says_what_is_wrong_without_repeating_the_secret() {
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
        fn what_is_encoded_is_read_again(secret: [u8; 32]) {
            let token = token(secret);
            prop_assert_eq!(token.encode().parse(), Ok(token.clone()));
            prop_assert_eq!(Secret::from_bearer(&token.secret.to_bearer()), Some(token.secret.clone()));
            prop_assert_eq!(Secret::from_bearer(&token.encode()), Some(token.secret.clone()));
            prop_assert_eq!(Secret::from_bearer(&token.encode()[..60]), None);
            prop_assert!(token.secret.hash().matches(&SecretHash::from_octets(*token.secret.hash().as_octets())));
        }

        #[test]
        fn one_changed_character_is_noticed(secret: [u8; 32], at in 8usize..100, to in "[A-Za-z0-9_-]") {
            let text = token(secret).encode();
            let mut changed = text.to_string();
            changed.replace_range(at..=at, &to);
            prop_assert!(changed == *text || changed.parse::<Token>().is_err());
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = text.parse::<Token>();
            let _ = format!("catoken_{text}").parse::<Token>();
        }
    }
}
