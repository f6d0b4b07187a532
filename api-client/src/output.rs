//! The output of a command: lines on standard output and standard error, and the exit code.
//!
//! It never depends on a command.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use edge::errors::{problem, usage_problem};
use mtls::errors::error_chain;

/// The result of a run, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Something broke.
    Failure,
    /// The command line is wrong.
    Usage,
    /// At least one request failed.
    RequestsFailed,
    /// The authority denied the enrollment, or there already is an identity.
    Refused,
    /// Stopped by Ctrl-C, with a summary of what was sent so far. The code is the one that shells use.
    Interrupted,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::RequestsFailed => 3,
            Self::Refused => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Print {
    /// Whether the output is JSON.
    #[must_use]
    pub fn is_json(self) -> bool {
        self == Self::Json
    }
}

/// Writes a line to standard output.
pub(crate) fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

/// Writes a note for people to standard error.
pub(crate) fn note(what: impl std::fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(io::stderr().lock(), "note: {what}")?)
}

/// The authority denied the enrollment, or there already is an identity.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// The exit code of a failed run, and the text for standard error. The text is empty if the reader closed the pipe, as
/// in `api-client request -n 1000 | head`.
#[must_use]
pub fn explain(error: &anyhow::Error, print: Print) -> (Exit, Option<String>) {
    let is_closed = error.downcast_ref().map(io::Error::kind) == Some(io::ErrorKind::BrokenPipe);
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        let text = usage.to_string();
        return (Exit::Usage, Some(if print.is_json() { usage_problem(&text) } else { text.trim_end().to_owned() }));
    }
    let (exit, kind) = match error.downcast_ref::<Refused>() {
        _ if is_closed => return (Exit::Done, None),
        Some(_) => (Exit::Refused, "/problems/refused"),
        None => (Exit::Failure, "/problems/failed"),
    };
    let why = error_chain(error.as_ref());
    let said = match print {
        Print::Text => format!("error: {why}"),
        Print::Json => problem(kind, &why, exit.code()),
    };
    (exit, Some(said))
}
