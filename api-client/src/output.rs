//! What a command leaves behind: lines on standard output and standard error, and the exit code.
//!
//! It never knows the commands.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use edge::errors::{problem, usage_problem};
use mtls::errors::error_chain;

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Something broke.
    Failure,
    /// The command line makes no sense.
    Usage,
    /// At least one request failed.
    RequestsFailed,
    /// The authority said no, or there is an identity already.
    Refused,
    /// Stopped by Ctrl-C, with a summary of what was sent so far; the code is a shell's for that.
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

/// For whom the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    /// People.
    Text,
    /// Programs.
    Json,
}

impl Print {
    /// Whether programs read it.
    #[must_use]
    pub fn is_json(self) -> bool {
        self == Self::Json
    }
}

/// Writes a line to standard output.
pub(crate) fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

/// Writes what else there is to know for people to standard error.
pub(crate) fn note(what: impl std::fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(io::stderr().lock(), "note: {what}")?)
}

/// The authority said no, or there is an identity already.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// How a program ends that did not do what it was asked for, and what is to be said on standard error: nothing, where
/// whoever reads the output has seen enough (`api-client request -n 1000 | head`).
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
