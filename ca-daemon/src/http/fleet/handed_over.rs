//! Lists in PEM, as a relying party hands them over: decoded while they arrive, and no more of them than is taken.
//!
//! It never judges a list; its signature does.

use base64::{Engine as _, engine::general_purpose::STANDARD};

const BEGIN: &[u8] = b"-----BEGIN X509 CRL-----";
const END: &[u8] = b"-----END X509 CRL-----";
/// The longest line of PEM that is read; our own are of 64 bytes (RFC 7468 section 2).
const MAX_LINE: usize = 128;
/// The most lists that a relying party has: a complete one and a delta of each authority, and as many to spare.
const MAX_LISTS: usize = 8;

/// What was decoded so far.
#[derive(Debug, Default)]
pub(in crate::http) struct Armored {
    lists: Vec<Vec<u8>>,
    is_inside: bool,
    line: Vec<u8>,
}

/// It is no PEM, or of something else.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct Unreadable;

impl Armored {
    /// Takes what has arrived next.
    pub(in crate::http) fn push(&mut self, text: &[u8]) -> Result<(), Unreadable> {
        for piece in text.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > MAX_LINE {
                return Err(Unreadable);
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line()?;
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), Unreadable> {
        let line = self.line.trim_ascii();
        match (line, self.is_inside) {
            (b"", _) => {}
            (BEGIN, false) if self.lists.len() < MAX_LISTS => {
                self.lists.push(Vec::new());
                self.is_inside = true;
            }
            (END, true) => self.is_inside = false,
            (line, true) => {
                let list = self.lists.last_mut().ok_or(Unreadable)?;
                STANDARD.decode_vec(line, list).map_err(|_| Unreadable)?;
            }
            _ => return Err(Unreadable),
        }
        self.line.clear();
        Ok(())
    }

    /// The lists in DER.
    pub(in crate::http) fn finish(mut self) -> Result<Vec<Vec<u8>>, Unreadable> {
        self.end_line()?;
        if self.is_inside || self.lists.is_empty() { Err(Unreadable) } else { Ok(self.lists) }
    }
}

#[cfg(test)]
mod tests {
    use pki::pem;

    use super::*;

    fn read(text: &[u8], size: usize) -> Result<Vec<Vec<u8>>, Unreadable> {
        let mut armored = Armored::default();
        text.chunks(size).try_for_each(|chunk| armored.push(chunk))?;
        armored.finish()
    }

    #[test]
    fn lists_are_read_however_they_were_cut() {
        let lists = [vec![1; 1000], vec![2; 47], vec![3; 48]];
        let text: String = lists.iter().map(|list| pem::crl(list)).collect();
        for size in [1, 63, 64, 65, 1000, text.len()] {
            assert_eq!(read(text.as_bytes(), size).unwrap(), lists);
        }
        assert_eq!(read(text.replace('\n', "\r\n").as_bytes(), 100).unwrap(), lists);
    }

    #[test]
    fn what_is_no_list_is_refused_as_soon_as_it_shows() {
        for text in [&[0; 4096][..], b"no CRL\n", b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN X509 CRL-----\n!\n"] {
            assert_eq!(Armored::default().push(text), Err(Unreadable));
        }
        assert!(read(b"", 1).is_err() && read(b"-----BEGIN X509 CRL-----\nAAAA\n", 9).is_err());
        assert!(read(pem::crl(&[1]).repeat(MAX_LISTS + 1).as_bytes(), 999).is_err());
    }
}
