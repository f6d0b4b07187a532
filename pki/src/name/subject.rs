//! The names in a certificate's subject: common names, organizations and names of authorities.
//!
//! It never decides who may have a name; [`crate::policy`] does.

use std::{fmt, str::FromStr};

use serde::Serialize;

use super::{
    rule::{NameError, check_length, is_name_byte, malformed},
    visible::is_visible,
};

/// A common name: 1 to 64 of the characters `A-Z a-z 0-9 . _ -`, the first a letter or a digit. The limit is
/// `ub-common-name` of RFC 5280.
///
/// The characters are those of a SPIFFE path segment, because a client's URI contains the name. The first character
/// cannot be a hyphen, so that a name is never parsed as an option, as in `xargs ca-daemon revoke`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct CommonName(String);

impl CommonName {
    const WHAT: &str = "name";
    const EXPECTED: &str =
        "1 to 64 letters, digits, dots, underscores or hyphens, a letter or a digit first, such as client_1";

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommonName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_length(Self::WHAT, Self::EXPECTED, text, 64)?;
        if text.bytes().all(is_name_byte) && text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(malformed(Self::WHAT, Self::EXPECTED, text))
        }
    }
}

impl fmt::Display for CommonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An organization name: 1 to 64 visible characters (`ub-organization-name` of RFC 5280), without a space at either
/// end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Organization(String);

impl Organization {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Organization {
    const TEXT: VisibleText = VisibleText {
        what: "organization",
        expected: "1 to 64 visible characters, such as My Organization",
        limit: 64,
    };
}

impl FromStr for Organization {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::TEXT.read(text).map(Self)
    }
}

impl TryFrom<String> for Organization {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::TEXT.recorded(text).map(Self)
    }
}

impl fmt::Display for Organization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first part of the common names in an authority's certificates: 1 to 48 visible characters, without a space at
/// either end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthorityName(String);

impl AuthorityName {
    const TEXT: VisibleText =
        VisibleText { what: "authority name", expected: "1 to 48 visible characters, such as Fleet", limit: 48 };
}

impl FromStr for AuthorityName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::TEXT.read(text).map(Self)
    }
}

impl TryFrom<String> for AuthorityName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::TEXT.recorded(text).map(Self)
    }
}

impl fmt::Display for AuthorityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rules for a text with visible characters only.
struct VisibleText {
    what: &'static str,
    expected: &'static str,
    limit: usize,
}

impl VisibleText {
    /// Checks a new text.
    fn read(&self, text: &str) -> Result<String, NameError> {
        let read = self.recorded(text.to_owned())?;
        if text.chars().all(is_visible) { Ok(read) } else { Err(malformed(self.what, self.expected, text)) }
    }

    /// Checks a stored text. Direction marks and invisible characters were once allowed.
    fn recorded(&self, text: String) -> Result<String, NameError> {
        check_length(self.what, self.expected, &text, self.limit)?;
        if text.chars().any(char::is_control) || text.trim() != text {
            return Err(malformed(self.what, self.expected, &text));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::visible::Visible, *};

    #[test]
    fn invalid_common_names_are_refused() {
        let options = ["-", "-x", "--dry-run", "_x", ".x", ".", ".."];
        for bad in
            ["", "a b", "a\nb", "a\0b", "*", "é", "mail@example.org", "a/b", &"x".repeat(300)].iter().chain(&options)
        {
            let error = bad.parse::<CommonName>().expect_err(bad);
            assert!(!error.to_string().contains(char::is_control), "{error} must be one printable line");
        }
        assert_eq!(
            "mail@example.org".parse::<CommonName>().unwrap_err().to_string(),
            "name \"mail@example.org\" is not allowed; give 1 to 64 letters, digits, dots, underscores or hyphens, a letter \
             or a digit first, such as client_1"
        );
        assert!("x".repeat(64).parse::<CommonName>().is_ok());
    }

    #[test]
    fn organizations_are_printable() {
        assert!("My Organization".parse::<Organization>().is_ok());
        assert!("Müller & Söhne".parse::<Organization>().is_ok());
        for bad in ["", " a", "a ", "a\u{7}b", &"x".repeat(65)] {
            assert!(bad.parse::<Organization>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn invisible_characters_are_refused_and_shown_escaped() {
        for c in [
            '\u{202e}',
            '\u{2066}',
            '\u{200b}',
            '\u{200d}',
            '\u{feff}',
            '\u{ad}',
            '\u{a0}',
            '\u{3164}',
            '\u{115f}',
            '\u{fe0f}',
            '\u{e0041}',
            '\u{2028}',
            '\u{e000}',
            '\u{1b}',
            '\u{85}',
        ] {
            let name = format!("Org{c}x");
            for error in [name.parse::<Organization>().unwrap_err(), name.parse::<AuthorityName>().unwrap_err()] {
                assert!(!error.to_string().contains(c), "{error}");
            }
            assert_eq!(Visible(&name).to_string(), format!("Org\\u{{{:x}}}x", u32::from(c)));
            assert_eq!(Organization::try_from(name).is_ok(), !c.is_control());
        }
        for good in [
            "Mu\u{308}ller & S\u{f6}hne",
            "\"Quoted\" O'Neill \\ Co.",
            "\u{682a}\u{5f0f}\u{4f1a}\u{793e}",
            "\u{1f510} Locks",
        ] {
            assert_eq!(good.parse::<Organization>().unwrap().as_str(), good);
            assert_eq!(Visible(good).to_string(), good);
        }
    }

    proptest! {
        #[test]
        fn a_common_name_is_kept_unchanged_or_refused(text in ".{0,80}") {
            match text.parse::<CommonName>() {
                Ok(name) => prop_assert_eq!(name.as_str(), text),
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
            }
        }

        #[test]
        fn every_valid_common_name_is_read(name in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}") {
            prop_assert!(name.parse::<CommonName>().is_ok());
        }
    }
}
