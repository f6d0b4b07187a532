//! Limits the length of text from a peer before it is shown in a log, an error or on a screen. A name in a certificate
//! may have 60 KB, and several times that when its characters are escaped.
//!
//! It never escapes characters.

use std::fmt::{self, Display, Write};

/// The limit for one name, in bytes.
pub const NAME: usize = 200;
/// The limit for a text that is assembled from several parts, such as an error, in bytes.
pub const TEXT: usize = 1000;

/// A text and its limit in bytes. The number of bytes cut off is appended.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<T>(pub T, pub usize);

impl<T: Display> Display for Excerpt<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cut = Cut { into: f, left: self.1, lost: 0 };
        write!(cut, "{}", self.0)?;
        let lost = cut.lost;
        if lost == 0 { Ok(()) } else { write!(f, "... ({lost} bytes more)") }
    }
}

struct Cut<'a, 'b> {
    into: &'a mut fmt::Formatter<'b>,
    left: usize,
    lost: usize,
}

impl Write for Cut<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // After the first cut, everything else is cut too.
        let most = if self.lost > 0 { 0 } else { self.left };
        let taken = text.floor_char_boundary(most.min(text.len()));
        self.left -= taken;
        self.lost += text.len() - taken;
        self.into.write_str(&text[..taken])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters_and_the_rest_is_counted() {
        assert_eq!(Excerpt("short", 5).to_string(), "short");
        assert_eq!(Excerpt("longer", 5).to_string(), "longe... (1 bytes more)");
        assert_eq!(Excerpt("Zoë", 3).to_string(), "Zo... (2 bytes more)");
        assert_eq!(Excerpt(format_args!("{}{}", "ab", "é!"), 3).to_string(), "ab... (3 bytes more)");
        assert_eq!(Excerpt("", 0).to_string(), "");
    }
}
