//! Any text is read as a token or refused. A token encodes to the same text again.

use pki::token::{Secret, Token, TokenId};

pub(crate) fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = text.parse::<TokenId>();
    if let Some(secret) = Secret::from_bearer(&text) {
        assert_eq!(Secret::from_bearer(&secret.to_bearer()), Some(secret));
    }
    match text.parse::<Token>() {
        Ok(token) => {
            assert_eq!(token.url.scheme(), "https");
            assert_eq!(token.encode().parse(), Ok(token));
        }
        // The message must not repeat the text, which may contain most of a secret.
        Err(error) => assert!(error.to_string().is_ascii() && error.to_string().len() < 200),
    }
}
