//! The distinguished encoding rules (X.690), as far as CRLs and signed structures need them.
//!
//! The reader borrows and never allocates, so that walking a list of a million entries costs what reading its
//! octets costs. Nothing here interprets values. It is by hand because no library both reads a million entries without allocating and
//! says where in the input each of them is.

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

/// Constructed, context-specific tag `number` (below 31).
pub(crate) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// The octets are not the DER that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not DER: {0}")]
pub struct DerError(&'static str);

/// One element: its tag, its contents and the octets of both with the length between them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) contents: &'a [u8],
    pub(crate) encoded: &'a [u8],
}

/// Reads one element after the other.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element, if there is one.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever it is.
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

    /// The contents of the next element, which must have this tag.
    #[inline]
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], DerError> {
        let element = self.any()?;
        if element.tag == tag { Ok(element.contents) } else { Err(DerError("an element of an unexpected type")) }
    }

    /// The contents of the next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, DerError> {
        if self.peek() == Some(tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    /// The contents of the next element, which must be a SEQUENCE.
    pub(crate) fn sequence_contents(&mut self) -> Result<&'a [u8], DerError> {
        self.expect(SEQUENCE)
    }

    /// A reader of the contents of the next element, which must be a SEQUENCE.
    pub(crate) fn sequence(&mut self) -> Result<Self, DerError> {
        self.sequence_contents().map(Self::new)
    }

    /// The octets of a BIT STRING that has no unused bits.
    pub(crate) fn bit_string(&mut self) -> Result<&'a [u8], DerError> {
        match self.expect(BIT_STRING)?.split_first() {
            Some((0, octets)) => Ok(octets),
            _ => Err(DerError("a bit string that is not whole octets")),
        }
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), DerError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DerError("octets are left over at the end")) }
    }
}

/// A definite length in its shortest form (X.690 section 10.1), and what follows it.
#[inline]
fn read_length(octets: &[u8]) -> Result<(usize, &[u8]), DerError> {
    let (&first, rest) = octets.split_first().ok_or(DerError("it ends early"))?;
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

/// One element with these contents.
pub(crate) fn encode(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(encoded_len(contents.len()));
    push_header(&mut encoded, tag, contents.len());
    encoded.extend_from_slice(contents);
    encoded
}

/// The octets of an element with this many octets of contents.
pub(crate) fn encoded_len(contents: usize) -> usize {
    1 + length_octets(contents) + contents
}

/// Writes the tag and the length of an element whose contents follow.
pub(crate) fn push_header(encoded: &mut Vec<u8>, tag: u8, contents: usize) {
    encoded.push(tag);
    let digits = contents.to_be_bytes();
    match length_octets(contents) {
        1 => encoded.extend_from_slice(&digits[digits.len() - 1..]),
        octets => {
            let digits = &digits[digits.len() - (octets - 1)..];
            encoded.push(0x80 | u8::try_from(digits.len()).expect("a usize has few octets"));
            encoded.extend_from_slice(digits);
        }
    }
}

/// How many octets it takes to write this length (X.690 section 8.1.3, its shortest form).
fn length_octets(length: usize) -> usize {
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
        let refuses = |octets: &[u8]| Reader::new(octets).any().is_err();
        assert!(refuses(&[]) && refuses(&[0x30]) && refuses(&[0x30, 0x02, 0x00]));
        assert!(refuses(&[0x30, 0x80, 0x00, 0x00]), "indefinite length");
        assert!(refuses(&[0x04, 0x81, 0x01, 0x00]), "long form where the short form fits");
        assert!(refuses(&[0x04, 0x85, 0, 0, 0, 0, 1, 0]), "more than four length octets");
        assert!(refuses(&[0x1f, 0x81, 0x00, 0x00]), "high tag number");
    }

    #[test]
    fn lengths_take_as_few_octets_as_they_can() {
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
        fn what_is_encoded_is_read_again(tag in 0u8..31, contents in prop::collection::vec(any::<u8>(), 0..1000)) {
            let encoded = encode(tag, &contents);
            let element = Reader::new(&encoded).any().unwrap();
            prop_assert_eq!((element.tag, element.contents, element.encoded), (tag, &contents[..], &encoded[..]));
            prop_assert_eq!(encoded_len(contents.len()), encoded.len());
        }

        #[test]
        fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&octets);
            let mut read = 0;
            while let Ok(element) = reader.any() {
                read += element.encoded.len();
            }
            prop_assert!(read <= octets.len());
        }
    }
}
