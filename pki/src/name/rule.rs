//! What all kinds of names have in common: how long they may be, and how a refusal is put into words.
//!
//! It never knows the form of one kind.

use super::visible::Visible;
use crate::excerpt::{self, Excerpt};

/// Why something is not a name. Each message says what is wrong, with which name, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("{what} is empty; give {expected}")]
    Empty {
        /// Which kind of name.
        what: &'static str,
        /// What it may look like.
        expected: &'static str,
    },
    /// Longer than the standard allows.
    #[error("{what} has {length} characters; at most {limit} are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Its length in characters.
        length: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// A character or a form that the kind of name does not have.
    #[error("{what} \"{}\" is not allowed; give {expected}", Visible(name))]
    Malformed {
        /// Which kind of name.
        what: &'static str,
        /// The name as given (printed with what cannot be seen escaped).
        name: String,
        /// What it may look like.
        expected: &'static str,
    },
}

pub(super) fn is_name_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'_' | b'-')
}

pub(super) fn check_length(
    what: &'static str,
    expected: &'static str,
    text: &str,
    limit: usize,
) -> Result<(), NameError> {
    match text.chars().count() {
        0 => Err(NameError::Empty { what, expected }),
        length if length > limit => Err(NameError::TooLong { what, length, limit }),
        _ => Ok(()),
    }
}

pub(super) fn malformed(what: &'static str, expected: &'static str, text: &str) -> NameError {
    NameError::Malformed { what, name: Excerpt(text, excerpt::NAME).to_string(), expected }
}
