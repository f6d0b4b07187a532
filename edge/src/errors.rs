//! Reads chains of wrapped errors, and writes an error as a problem document for other programs.
//!
//! It never depends on the errors of a particular library: the caller formats one error.

use std::{error::Error, ffi::OsStr, fmt::Write as _, io};

use pki::excerpt::{self, Excerpt};
use serde_json::json;

/// An error and its sources as one line: `first`, then the text of each source, formatted by `text`, unless the line
/// contains it already. The length of the line is bounded, because strangers can choose parts of it.
#[must_use]
pub fn chain(first: String, error: &(dyn Error + 'static), text: impl Fn(&(dyn Error + 'static)) -> String) -> String {
    let mut line = first;
    let mut next = error.source();
    while let Some(source) = next {
        let source_text = text(source);
        // Many libraries repeat the source's text in their own.
        if !line.contains(&source_text) {
            let _ = write!(line, ": {source_text}");
        }
        next = source.source();
    }
    Excerpt(line, excerpt::TEXT).to_string()
}

/// The reason for a program's failure, for other programs: a problem document (RFC 9457) without an HTTP status, in one
/// line.
#[must_use]
pub fn problem(kind: &str, detail: &str, exit_code: u8) -> String {
    json!({ "type": kind, "detail": detail, "exitCode": exit_code }).to_string()
}

/// The problem document for a command line that could not be parsed. `message` is clap's text, which begins with the
/// reason.
#[must_use]
pub fn usage_problem(message: &str) -> String {
    let reason = message.split("\n\n").next().unwrap_or(message);
    let reason = reason.strip_prefix("error: ").unwrap_or(reason);
    problem("/problems/usage", &reason.split_whitespace().collect::<Vec<_>>().join(" "), 2)
}

/// Whether a command line that could not be parsed asks for JSON.
pub fn wants_json(arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> bool {
    arguments.into_iter().take_while(|argument| argument.as_ref() != "--").any(|argument| argument.as_ref() == "--json")
}

/// The first error of type `E` in the chain. It also looks into an [`io::Error`], whose `source` skips the error that
/// it wraps.
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

    #[test]
    fn a_command_line_that_cannot_be_parsed_is_a_problem_document() {
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
    fn a_chain_repeats_no_text() {
        let line = |inner| {
            let error = Failed(io::Error::other(inner));
            chain(error.to_string(), &error, ToString::to_string)
        };
        assert_eq!(line("cut"), "the connection failed: cut");
        assert_eq!(line("failed"), "the connection failed");
    }

    #[test]
    fn finds_the_error_inside_an_io_error() {
        let error = io::Error::other(io::Error::other(Failed(io::ErrorKind::NotFound.into())));
        assert!(find::<Failed>(&error).is_some());
        assert!(find::<Failed>(&io::Error::other("none")).is_none());
    }
}
