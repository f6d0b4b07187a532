//! Reads what is inside of wrapped errors: the whole chain as one line, the TLS error beneath the HTTP ones, and why one of our own
//! verifiers refused a certificate, which is written here as well.

use std::{error::Error, ffi::OsStr, fmt::Write as _, io, sync::Arc};

use pki::excerpt::{self, Excerpt};
use rustls::{CertificateError, OtherError};
use serde_json::json;

/// An error and everything beneath it as one line, of which no more is shown than of any text of a stranger.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let source_text = refusal(source).map_or_else(|| source.to_string(), ToString::to_string);
        // Many libraries repeat the source's text in their own.
        if !text.contains(&source_text) {
            let _ = write!(text, ": {source_text}");
        }
        next = source.source();
    }
    Excerpt(text, excerpt::TEXT).to_string()
}

/// Why a program did not do what it was asked for, for other programs: a problem document (RFC 9457) without an HTTP status, in one line.
#[must_use]
pub fn problem(kind: &str, detail: &str, exit_code: u8) -> String {
    json!({ "type": kind, "detail": detail, "exitCode": exit_code }).to_string()
}

/// Why a command line could not be read, as [`problem`] has it: `message` is for people, and begins with the reason.
#[must_use]
pub fn usage_problem(message: &str) -> String {
    let reason = message.split("\n\n").next().unwrap_or(message);
    let reason = reason.strip_prefix("error: ").unwrap_or(reason);
    problem("/problems/usage", &reason.split_whitespace().collect::<Vec<_>>().join(" "), 2)
}

/// Whether a command line that could not be read asks for JSON.
pub fn wants_json(arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> bool {
    arguments.into_iter().take_while(|argument| argument.as_ref() != "--").any(|argument| argument.as_ref() == "--json")
}

/// In the form in which a TLS verifier says no; [`refusal`] reads it.
pub(crate) fn refused(why: impl Error + Send + Sync + 'static) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// Why one of our own verifiers refused a certificate: rustls would write that in the form for debugging.
pub(crate) fn refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + Send + Sync + 'static)> {
    match find(error)? {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => Some(&**why),
        _ => None,
    }
}

/// Whether this is why one of our own verifiers refused a certificate.
pub(crate) fn is_refusal<E: Error + 'static>(error: &rustls::Error) -> bool {
    refusal(error).is_some_and(|why| why.downcast_ref::<E>().is_some())
}

/// What a TLS error says, in the words of our own verifier where it was one.
pub(crate) fn in_words(error: &rustls::Error) -> String {
    refusal(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The first error of type `E` in the chain. Looks into an [`io::Error`] too, whose `source` passes over what it wraps.
#[must_use]
pub fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the connection failed")]
    struct Failed(#[source] io::Error);

    #[test]
    fn says_why_our_own_verifier_refused_in_words() {
        let refused = refused(crate::client::NotTheAuthority::OtherServer);
        let text = error_chain(&Failed(io::Error::other(refused)));
        let words = "the connection failed: the server's certificate is of the right root, but not the authority's own";
        assert_eq!(text, words);
        assert_eq!(error_chain(&Failed(io::Error::other("cut"))), "the connection failed: cut");
        assert_eq!(error_chain(&Failed(io::Error::other("failed"))), "the connection failed", "nothing is said twice");
    }

    #[test]
    fn finds_the_tls_error_inside_of_an_io_error() {
        let error = io::Error::other(io::Error::other(rustls::Error::DecryptError));
        assert_eq!(find::<rustls::Error>(&error), Some(&rustls::Error::DecryptError));
        assert!(find::<rustls::Error>(&io::Error::other("none")).is_none());
    }
}
