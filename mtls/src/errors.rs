//! Reads what is inside of wrapped errors: the whole chain as one line, the TLS error beneath the HTTP ones, and why one of our own
//! verifiers refused a certificate, which is written here as well.

use std::{error::Error, ffi::OsStr, fmt::Write as _, io, sync::Arc};

use pki::{
    excerpt::{self, Excerpt},
    time::Timestamp,
};
use rustls::{CertificateError, OtherError};
use rustls_pki_types::UnixTime;
use serde_json::json;

/// An error and everything beneath it as one line, of which no more is shown than of any text of a stranger.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = said(error);
    let mut next = error.source();
    while let Some(source) = next {
        let source_text = refusal(source).map_or_else(|| said(source), ToString::to_string);
        // Many libraries repeat the source's text in their own.
        if !text.contains(&source_text) {
            let _ = write!(text, ": {source_text}");
        }
        next = source.source();
    }
    Excerpt(text, excerpt::TEXT).to_string()
}

/// What one error says, without what is beneath it; one of the TLS library in words, however it is wrapped.
fn said(error: &(dyn Error + 'static)) -> String {
    if error.is::<h2::Error>() {
        // Of what the connection said, it keeps the text alone.
        return words(&error.to_string());
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let tls = error.downcast_ref().or_else(|| wrapped.and_then(|wrapped| wrapped.downcast_ref()));
    tls.map_or_else(|| error.to_string(), in_words)
}

/// A TLS error in words: the library's own text has parts in the form for debugging.
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
            // As `DnsName("localhost")` and `IpAddress(127.0.0.1)`.
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

/// Names of variants (`UnknownIssuer`) as words.
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
    use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};
    use rustls_pki_types::ServerName;

    use super::*;

    #[test]
    fn nobody_reads_how_a_library_spells_its_variants() {
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

    #[test]
    fn a_command_line_that_cannot_be_read_is_a_problem_as_well() {
        let problem = usage_problem(
            "error: a value is required for '--name <NAME>'\n  but none was given\n\nUsage: x [OPTIONS]\n",
        );
        let problem: serde_json::Value = serde_json::from_str(&problem).unwrap();
        assert_eq!(problem["detail"], "a value is required for '--name <NAME>' but none was given");
        assert_eq!((&problem["type"], &problem["exitCode"]), (&"/problems/usage".into(), &2.into()));
        assert!(wants_json(["x", "--json", "y"]) && !wants_json(["x", "--", "--json"]));
    }

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
