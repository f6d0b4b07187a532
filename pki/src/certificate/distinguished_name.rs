//! Distinguished names of subjects and issuers, and their comparison.
//!
//! It never decides which names may be certified.

use std::{fmt, sync::Arc};

use x509_parser::prelude::{FromDer, X509Name};

use crate::{
    der::{self, DerError, Reader},
    excerpt::{self, Excerpt},
    name::Visible,
};

/// A distinguished name in DER. `==` compares the encodings; [`Self::is_same`] compares as RFC 5280 does. Clones share
/// one copy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DistinguishedName(Arc<[u8]>);

impl DistinguishedName {
    pub(crate) fn from_der(der: &[u8]) -> Self {
        Self(der.into())
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.0
    }

    /// Whether both names match by RFC 5280 section 7.1. String type, case and white space are ignored.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self == other || matches!((comparable(&self.0), comparable(&other.0)), (Ok(one), Ok(two)) if one == two)
    }
}

/// The attributes of a relative name: each its type in DER and its value. Sorted, because they are a set.
type RelativeName<'a> = Vec<(&'a [u8], Value<'a>)>;

/// The form of a distinguished name that is compared.
fn comparable(name: &[u8]) -> Result<Vec<RelativeName<'_>>, DerError> {
    let mut outer = Reader::new(name);
    let mut relative_names = outer.sequence()?;
    outer.finish()?;
    let mut name = Vec::new();
    while !relative_names.is_empty() {
        let mut attributes = Reader::new(relative_names.expect(der::SET)?);
        let mut set = Vec::new();
        while !attributes.is_empty() {
            let mut attribute = attributes.sequence()?;
            set.push((attribute.expect(der::OID)?, Value::of(attribute.any()?)));
            attribute.finish()?;
        }
        set.sort();
        name.push(set);
    }
    Ok(name)
}

/// An attribute's value.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Value<'a> {
    /// Text, normalized for comparison.
    Text(String),
    /// Anything else, in DER.
    Other(&'a [u8]),
}

impl<'a> Value<'a> {
    fn of(value: der::Element<'a>) -> Self {
        let utf8 = || std::str::from_utf8(value.contents).ok().map(str::to_owned);
        let wide = || {
            let (characters, rest) = value.contents.as_chunks::<2>();
            let characters: Vec<_> = characters.iter().copied().map(u16::from_be_bytes).collect();
            String::from_utf16(&characters).ok().filter(|_| rest.is_empty())
        };
        let text = match value.tag {
            der::UTF8_STRING => utf8(),
            der::PRINTABLE_STRING | der::IA5_STRING => utf8().filter(|text| text.is_ascii()),
            der::BMP_STRING => wide(),
            _ => None,
        };
        let compared = |text: String| text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
        text.map_or(Self::Other(value.encoded), |text| Self::Text(compared(text)))
    }
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match X509Name::from_der(&self.0) {
            // A certificate can contain any name of any length.
            Ok((_, name)) => Excerpt(Visible(&name.to_string()), excerpt::NAME).fmt(f),
            Err(_) => f.write_str("(unreadable name)"),
        }
    }
}

impl fmt::Debug for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DistinguishedName({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last byte of an id-at type, the tag of the value, the value.
    type Attribute<'a> = (u8, u8, &'a [u8]);

    /// Encodes relative names with these attributes.
    fn name(relative_names: &[&[Attribute<'_>]]) -> DistinguishedName {
        let attribute = |(oid, tag, value): &Attribute<'_>| {
            let oid = der::encode(der::OID, &[0x55, 4, *oid]);
            der::encode(der::SEQUENCE, &[oid, der::encode(*tag, value)].concat())
        };
        let set = |attributes: &&[Attribute<'_>]| {
            der::encode(der::SET, &attributes.iter().map(attribute).collect::<Vec<_>>().concat())
        };
        let sets: Vec<_> = relative_names.iter().map(set).collect();
        DistinguishedName::from_der(&der::encode(der::SEQUENCE, &sets.concat()))
    }

    #[test]
    fn the_same_text_in_another_string_type_is_the_same_name() {
        const CN: u8 = 3;
        const O: u8 = 10;
        let of = |tag, text: &[u8]| name(&[&[(CN, tag, text)]]);
        let utf8 = of(der::UTF8_STRING, b"Fleet Root");
        for same in [
            of(der::PRINTABLE_STRING, b"Fleet Root"),
            of(der::PRINTABLE_STRING, b" fleet  ROOT "),
            of(der::BMP_STRING, b"\0F\0l\0e\0e\0t\0 \0R\0o\0o\0t"),
        ] {
            assert!(same != utf8 && same.is_same(&utf8) && utf8.is_same(&same), "{same:?}");
        }
        for other in [
            of(der::UTF8_STRING, b"FleetRoot"),
            of(der::UTF8_STRING, b"Fleet Root 2"),
            of(der::OCTET_STRING, b"Fleet Root"),
            of(der::PRINTABLE_STRING, b"Fleet Root\xff"),
            of(der::BMP_STRING, b"\0F\0l\0e\0e\0t\0 \0R\0o\0o\0t\0"),
            name(&[&[(O, der::UTF8_STRING, b"Fleet Root")]]),
            name(&[&[(CN, der::UTF8_STRING, b"Fleet Root")], &[(O, der::UTF8_STRING, b"Org")]]),
            name(&[]),
            DistinguishedName::from_der(b"junk"),
        ] {
            assert!(!other.is_same(&utf8) && !utf8.is_same(&other), "{other:?}");
        }
        let (cn, o): (Attribute<'_>, Attribute<'_>) = ((CN, der::UTF8_STRING, b"a"), (O, der::UTF8_STRING, b"b"));
        assert!(name(&[&[cn, o]]).is_same(&name(&[&[o, cn]])), "attributes of a set are unordered");
        assert!(!name(&[&[cn], &[o]]).is_same(&name(&[&[o], &[cn]])), "relative names are ordered");
    }

    #[test]
    fn invisible_characters_are_escaped() {
        let name = name(&[&[(3, der::UTF8_STRING, "a\u{202e}b\u{1b}[2J".as_bytes())]]);
        assert_eq!(name.to_string(), "CN=a\\u{202e}b\\u{1b}[2J");
    }
}
