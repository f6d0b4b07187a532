//! Distinguishes visible characters from invisible ones, and escapes the latter.
//!
//! It never shortens a text; [`crate::excerpt`] does.

use std::fmt::{self, Write as _};

/// Whether a character is visible: no control character, no direction mark, nothing of zero width, no space but U+0020.
/// A combining mark counts as part of the letter before it.
pub(super) fn is_visible(c: char) -> bool {
    /// Characters that the standard library considers printable, but that display nothing or only modify another
    /// character (Unicode's `Default_Ignorable_Code_Point`, and the blank of braille).
    fn is_ignorable(c: char) -> bool {
        matches!(
            c,
            '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2800}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}'
        )
    }
    // `escape_debug` escapes unprintable characters, and combining marks without a letter before them.
    let is_printable = matches!(c, '"' | '\'' | '\\') || format!("a{c}").escape_debug().nth(1) == Some(c);
    is_printable && !is_ignorable(c)
}

/// Text for a terminal, on one line. An invisible character is shown as its escape, such as `\u{202e}`.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a>(pub &'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|c| if is_visible(c) { f.write_char(c) } else { write!(f, "{}", c.escape_unicode()) })
    }
}
