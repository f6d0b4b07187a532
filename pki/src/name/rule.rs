//! Rules that all kinds of names share: the length limit and the wording of errors.
//!
//! It never contains the syntax of one kind.

use super::visible::Visible;
use crate::excerpt::{self, Excerpt};

/// Why a text is not a valid name. Each message gives the fault, the name and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("{what} is empty; give {expected}")]
    Empty {
        /// The kind of name.
        what: &'static str,
        /// What is allowed.
        expected: &'static str,
    },
    /// Longer than the standard allows.
    #[error("{what} has {length} characters; at most {limit} are allowed")]
    TooLong {
        /// The kind of name.
        what: &'static str,
        /// Its length in characters.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A character or form that this kind of name does not allow.
    #[error("{what} \"{}\" is not allowed; give {expected}", Visible(name))]
    Malformed {
        /// The kind of name.
        what: &'static str,
        /// The name as given. Invisible characters are escaped when it is printed.
        name: String,
        /// What is allowed.
        expected: &'static str,
    },
}

pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
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
