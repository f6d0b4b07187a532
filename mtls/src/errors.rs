//! TLS errors in words, and a wrapper that carries our verifiers' errors through rustls.
//!
//! It never decides what is refused.

use std::{error::Error, io, sync::Arc};

use edge::errors::{chain, find};
use pki::time::Timestamp;
use rustls::{CertificateError, OtherError};
use rustls_pki_types::UnixTime;

/// An error and its sources as one line. TLS errors are in words.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    chain(said(error), error, |source| refusal(source).map_or_else(|| said(source), ToString::to_string))
}

/// The text of one error without its sources. A TLS error is in words, even if it is wrapped.
fn said(error: &(dyn Error + 'static)) -> String {
    if error.is::<h2::Error>() {
        // h2 keeps the connection's error only as text.
        return words(&error.to_string());
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let tls = error.downcast_ref().or_else(|| wrapped.and_then(|wrapped| wrapped.downcast_ref()));
    tls.map_or_else(|| error.to_string(), in_words)
}

/// A TLS error in words. The library's own text contains debug formatting.
#[must_use]
pub fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => {
            format!("the certificate cannot be trusted: {}", certificate_error(why))
        }
        rustls::Error::AlertReceived(alert) => {
            format!("ended by the peer with the TLS alert: {}", words(&format!("{alert:?}")))
        }
        rustls::Error::Other(OtherError(why)) => why.to_string(),
        error => words(&error.to_string()),
    }
}

/// Why a certificate was refused, in words.
#[must_use]
pub fn certificate_error(why: &CertificateError) -> String {
    let time = |time: &UnixTime| Timestamp::from_unix(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    match why {
        CertificateError::Other(OtherError(why)) => why.to_string(),
        CertificateError::UnknownIssuer => "it was issued by an authority that is not trusted here".to_owned(),
        CertificateError::Expired => "it has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => format!("it has expired at {}", time(not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("it is not valid before {}; is this machine's clock right?", time(not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            // Formatted like `DnsName("localhost")` or `IpAddress(127.0.0.1)`.
            let name = |given: &String| {
                let inner = given.split_once('(').map_or(given.as_str(), |(_, inner)| inner.trim_end_matches(')'));
                inner.trim_matches('"').to_owned()
            };
            let names: Vec<_> = presented.iter().map(name).collect();
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            format!("it is not for {}, but for {names}", expected.to_str())
        }
        why => words(&why.to_string()),
    }
}

/// Splits names of enum variants (`UnknownIssuer`) into words.
fn words(text: &str) -> String {
    let letters: Vec<_> = text.chars().collect();
    let is_lower =
        |index: Option<usize>| index.and_then(|index| letters.get(index)).is_some_and(char::is_ascii_lowercase);
    let mut plain = String::with_capacity(text.len() + 8);
    for (index, letter) in letters.iter().enumerate() {
        let begins_a_word = letter.is_ascii_uppercase() && is_lower(index.checked_sub(1));
        let is_capitalized = letter.is_ascii_uppercase() && is_lower(Some(index + 1));
        if begins_a_word {
            plain.push(' ');
        }
        plain.push(if is_capitalized || begins_a_word { letter.to_ascii_lowercase() } else { *letter });
    }
    plain
}

/// Wraps an error for a TLS verifier to return. [`refusal`] unwraps it.
pub(crate) fn refused(why: impl Error + Send + Sync + 'static) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// The wrapped error of one of our own verifiers. rustls would print it in debug format.
pub(crate) fn refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + Send + Sync + 'static)> {
    match find(error)? {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => Some(&**why),
        _ => None,
    }
}

/// Whether one of our own verifiers refused a certificate with this type of error.
pub(crate) fn is_refusal<E: Error + 'static>(error: &rustls::Error) -> bool {
    refusal(error).is_some_and(|why| why.downcast_ref::<E>().is_some())
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};
    use rustls_pki_types::ServerName;

    use super::*;

    #[test]
    fn enum_variants_of_the_library_are_written_in_words() {
        let expected = ServerName::try_from("db.example").unwrap();
        let presented = vec!["DnsName(\"localhost\")".to_owned(), "IpAddress(127.0.0.1)".to_owned()];
        let name = CertificateError::NotValidForNameContext { expected, presented };
        for (error, text) in [
            (rustls::Error::InvalidCertificate(name), "it is not for db.example, but for localhost, 127.0.0.1"),
            (rustls::Error::InvalidCertificate(CertificateError::BadSignature), "bad signature"),
            (rustls::Error::AlertReceived(AlertDescription::CertificateRevoked), "TLS alert: certificate revoked"),
            (rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType), "invalid content type"),
            (rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), "no cipher suites in common"),
        ] {
            for said in [error_chain(&error), error_chain(&io::Error::new(io::ErrorKind::InvalidData, error.clone()))] {
                assert!(said.contains(text), "{text:?} is not in {said:?}");
                assert!(!said.contains(&format!("{error:?}")) && !said.contains("Context"), "{said:?}");
            }
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the connection failed")]
    struct Failed(#[source] io::Error);

    #[test]
    fn the_reason_of_our_own_verifier_is_in_the_text() {
        let refused = refused(crate::tls::connecting::NotTheAuthority::OtherServer);
        let text = error_chain(&Failed(io::Error::other(refused)));
        let words = "the connection failed: the server's certificate is of the right root, but not the authority's own";
        assert_eq!(text, words);
        assert_eq!(error_chain(&Failed(io::Error::other("cut"))), "the connection failed: cut");
        assert_eq!(error_chain(&Failed(io::Error::other("failed"))), "the connection failed", "no text is repeated");
    }

    #[test]
    fn finds_the_tls_error_inside_of_an_io_error() {
        let error = io::Error::other(io::Error::other(rustls::Error::DecryptError));
        assert_eq!(find::<rustls::Error>(&error), Some(&rustls::Error::DecryptError));
        assert!(find::<rustls::Error>(&io::Error::other("none")).is_none());
    }
}
