//! Which characters can be seen, and how text that has others is shown.
//!
//! It never cuts a text; [`crate::excerpt`] does.

use std::fmt::{self, Write as _};

/// Whether a character shows itself and nothing else: no control, no direction mark, nothing without a width of its
/// own, no space but the usual one. Marks that are written above or below a letter are a part of it.
pub(super) fn is_visible(c: char) -> bool {
    /// What the standard library takes for printable and shows nothing, or chooses how another character looks
    /// (Unicode's `Default_Ignorable_Code_Point`; the blank of braille).
    fn is_ignorable(c: char) -> bool {
        matches!(
            c,
            '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2800}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}'
        )
    }
    // It escapes what cannot be printed, and marks that have no letter before them.
    let is_printable = matches!(c, '"' | '\'' | '\\') || format!("a{c}").escape_debug().nth(1) == Some(c);
    is_printable && !is_ignorable(c)
}

/// Text as it can be shown on a terminal: what cannot be seen stands there as `\u{202e}`, on one line.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a>(pub &'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|c| if is_visible(c) { f.write_char(c) } else { write!(f, "{}", c.escape_unicode()) })
    }
}
