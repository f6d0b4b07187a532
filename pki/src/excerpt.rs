//! Cuts what somebody else has written before it is shown: in a log, in an error, on a screen. A name in a certificate may have 60 KB, and
//! many times that once each of its characters is escaped.
//!
//! It never decides how characters are written.

use std::fmt::{self, Display, Write};

/// The most bytes of one name that are shown.
pub const NAME: usize = 200;
/// The most bytes that are shown of what several parts were put together to, as errors are.
pub const TEXT: usize = 1000;

/// A text, and the most bytes of it that are shown: the rest is counted.
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
        // Once something is lost, so is all that follows.
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
    fn what_is_longer_is_cut_between_characters_and_counted() {
        assert_eq!(Excerpt("short", 5).to_string(), "short");
        assert_eq!(Excerpt("longer", 5).to_string(), "longe... (1 bytes more)");
        assert_eq!(Excerpt("Zoë", 3).to_string(), "Zo... (2 bytes more)");
        assert_eq!(Excerpt(format_args!("{}{}", "ab", "é!"), 3).to_string(), "ab... (3 bytes more)");
        assert_eq!(Excerpt("", 0).to_string(), "");
    }
}
