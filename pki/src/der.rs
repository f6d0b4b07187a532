//! The distinguished encoding rules (X.690), as far as CRLs and signed structures need them.
//!
//! It never interprets values. It never allocates when reading, so scanning a list of a million entries costs no more
//! than reading its bytes. It is written by hand because no library reads entries without allocating and also reports
//! their positions in the input.

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const IA5_STRING: u8 = 0x16;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const BMP_STRING: u8 = 0x1e;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// Tag of a constructed, context-specific element with this number (below 31).
pub(crate) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// The bytes are not the expected DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not DER: {0}")]
pub struct DerError(&'static str);

/// One element: its tag, its contents, and its complete encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) contents: &'a [u8],
    pub(crate) encoded: &'a [u8],
}

/// Reads elements in sequence.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element, if there is one.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, of any type.
    #[inline]
    pub(crate) fn any(&mut self) -> Result<Element<'a>, DerError> {
        let (&tag, after_tag) = self.rest.split_first().ok_or(DerError("it ends early"))?;
        if tag & 0x1f == 0x1f {
            return Err(DerError("a tag number above 30"));
        }
        let (length, after_length) = read_length(after_tag)?;
        let contents = after_length.get(..length).ok_or(DerError("an element is longer than what encloses it"))?;
        let header = self.rest.len() - after_length.len();
        let (encoded, rest) = self.rest.split_at(header + length);
        self.rest = rest;
        Ok(Element { tag, contents, encoded })
    }

    /// The contents of the next element. Fails unless it has this tag.
    #[inline]
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], DerError> {
        let element = self.any()?;
        if element.tag == tag { Ok(element.contents) } else { Err(DerError("an element of an unexpected type")) }
    }

    /// The contents of the next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, DerError> {
        if self.peek() == Some(tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    /// The contents of the next element. Fails unless it is a SEQUENCE.
    pub(crate) fn sequence_contents(&mut self) -> Result<&'a [u8], DerError> {
        self.expect(SEQUENCE)
    }

    /// A reader of the contents of the next element. Fails unless it is a SEQUENCE.
    pub(crate) fn sequence(&mut self) -> Result<Self, DerError> {
        self.sequence_contents().map(Self::new)
    }

    /// The bytes of a BIT STRING without unused bits.
    pub(crate) fn bit_string(&mut self) -> Result<&'a [u8], DerError> {
        match self.expect(BIT_STRING)?.split_first() {
            Some((0, bytes)) => Ok(bytes),
            _ => Err(DerError("a bit string with unused bits")),
        }
    }

    /// Fails if there are bytes left.
    pub(crate) fn finish(self) -> Result<(), DerError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DerError("there are bytes after the end")) }
    }
}

/// Reads a definite length in its shortest form (X.690 section 10.1). Returns it and the bytes that follow.
#[inline]
fn read_length(bytes: &[u8]) -> Result<(usize, &[u8]), DerError> {
    let (&first, rest) = bytes.split_first().ok_or(DerError("it ends early"))?;
    if first < 0x80 {
        return Ok((usize::from(first), rest));
    }
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 {
        return Err(DerError("an indefinite or excessive length"));
    }
    let (digits, rest) = rest.split_at_checked(count).ok_or(DerError("it ends early"))?;
    let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
    if length < 0x80 || digits[0] == 0 {
        return Err(DerError("a length that is not in its shortest form"));
    }
    Ok((length, rest))
}

/// Encodes one element with these contents.
pub(crate) fn encode(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(encoded_len(contents.len()));
    push_header(&mut encoded, tag, contents.len());
    encoded.extend_from_slice(contents);
    encoded
}

/// The encoded size of an element with this many bytes of contents.
pub(crate) fn encoded_len(contents: usize) -> usize {
    1 + length_bytes(contents) + contents
}

/// Writes the tag and length of an element. Its contents have to follow.
pub(crate) fn push_header(encoded: &mut Vec<u8>, tag: u8, contents: usize) {
    encoded.push(tag);
    let digits = contents.to_be_bytes();
    match length_bytes(contents) {
        1 => encoded.extend_from_slice(&digits[digits.len() - 1..]),
        bytes => {
            let digits = &digits[digits.len() - (bytes - 1)..];
            encoded.push(0x80 | u8::try_from(digits.len()).expect("a usize has few bytes"));
            encoded.extend_from_slice(digits);
        }
    }
}

/// The number of bytes that encode this length in its shortest form (X.690 section 8.1.3).
fn length_bytes(length: usize) -> usize {
    if length < 0x80 { 1 } else { 1 + (usize::BITS - length.leading_zeros()).div_ceil(8) as usize }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_elements_in_turn() {
        let mut reader = Reader::new(&[0x30, 0x03, 0x02, 0x01, 0x05, 0x01, 0x01, 0xff]);
        let mut inner = reader.sequence().unwrap();
        assert_eq!(inner.expect(INTEGER), Ok(&[5][..]));
        assert_eq!(inner.finish(), Ok(()));
        assert_eq!(reader.optional(INTEGER), Ok(None));
        assert_eq!(reader.optional(BOOLEAN), Ok(Some(&[0xff][..])));
        assert!(reader.is_empty());
    }

    #[test]
    fn refuses_what_is_ber_or_cut_short() {
        let refuses = |bytes: &[u8]| Reader::new(bytes).any().is_err();
        assert!(refuses(&[]) && refuses(&[0x30]) && refuses(&[0x30, 0x02, 0x00]));
        assert!(refuses(&[0x30, 0x80, 0x00, 0x00]), "indefinite length");
        assert!(refuses(&[0x04, 0x81, 0x01, 0x00]), "long form where the short form fits");
        assert!(refuses(&[0x04, 0x85, 0, 0, 0, 0, 1, 0]), "more than four length bytes");
        assert!(refuses(&[0x1f, 0x81, 0x00, 0x00]), "high tag number");
    }

    #[test]
    fn lengths_are_encoded_in_the_shortest_form() {
        for (length, expected) in [
            (0, &[0x30, 0][..]),
            (0x7f, &[0x30, 0x7f]),
            (0x80, &[0x30, 0x81, 0x80]),
            (0xff, &[0x30, 0x81, 0xff]),
            (0x100, &[0x30, 0x82, 1, 0]),
            (0xffff, &[0x30, 0x82, 0xff, 0xff]),
            (0x0001_0000, &[0x30, 0x83, 1, 0, 0]),
            (0x0100_0000, &[0x30, 0x84, 1, 0, 0, 0]),
        ] {
            let mut header = Vec::new();
            push_header(&mut header, SEQUENCE, length);
            assert_eq!((&header[..], encoded_len(length)), (expected, expected.len() + length));
        }
    }

    proptest! {
        #[test]
        fn encoding_round_trips(tag in 0u8..31, contents in prop::collection::vec(any::<u8>(), 0..1000)) {
            let encoded = encode(tag, &contents);
            let element = Reader::new(&encoded).any().unwrap();
            prop_assert_eq!((element.tag, element.contents, element.encoded), (tag, &contents[..], &encoded[..]));
            prop_assert_eq!(encoded_len(contents.len()), encoded.len());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            let mut read = 0;
            while let Ok(element) = reader.any() {
                read += element.encoded.len();
            }
            prop_assert!(read <= bytes.len());
        }
    }
}
