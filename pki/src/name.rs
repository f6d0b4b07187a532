//! The names that certificates carry, and the patterns by which a token allows them.
//!
//! It never decides who may have a name; [`crate::policy`] does.

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::excerpt::{self, Excerpt};

/// Why something is not a name. Each message says what is wrong, with which name, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("{what} is empty; give {expected}")]
    Empty {
        /// Which kind of name.
        what: &'static str,
        /// What it may look like.
        expected: &'static str,
    },
    /// Longer than the standard allows.
    #[error("{what} has {length} characters; at most {limit} are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Its length in characters.
        length: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// A character or a form that the kind of name does not have.
    #[error("{what} \"{}\" is not allowed; give {expected}", Visible(name))]
    Malformed {
        /// Which kind of name.
        what: &'static str,
        /// The name as given (printed with what cannot be seen escaped).
        name: String,
        /// What it may look like.
        expected: &'static str,
    },
}

/// A common name: 1 to 64 of the characters `A-Z a-z 0-9 . _ -`, the first a letter or a digit (the bound is RFC 5280's
/// `ub-common-name`).
///
/// The characters are those of a SPIFFE path segment, because the name becomes one in a client's
/// subject alternative name. The first character keeps a name from being taken for an option on a command line, as in
/// `xargs ca-daemon revoke`.
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
        if text.bytes().all(is_name_octet) && text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
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

/// An organization name: 1 to 64 characters (RFC 5280's `ub-organization-name`) that can be seen, no space at either end.
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
        expected: "1 to 64 characters that can be seen, such as My Organization",
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

/// How a text is written that people read in certificates.
struct VisibleText {
    what: &'static str,
    expected: &'static str,
    limit: usize,
}

impl VisibleText {
    /// One that is new.
    fn read(&self, text: &str) -> Result<String, NameError> {
        let read = self.recorded(text.to_owned())?;
        if text.chars().all(is_visible) { Ok(read) } else { Err(malformed(self.what, self.expected, text)) }
    }

    /// One that was recorded: direction marks and invisible characters were once allowed.
    fn recorded(&self, text: String) -> Result<String, NameError> {
        check_length(self.what, self.expected, &text, self.limit)?;
        if text.chars().any(char::is_control) || text.trim() != text {
            return Err(malformed(self.what, self.expected, &text));
        }
        Ok(text)
    }
}

/// What the common names of an authority's certificates begin with: 1 to 48 characters that can be seen, no space at either end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthorityName(String);

impl AuthorityName {
    const TEXT: VisibleText = VisibleText {
        what: "authority name",
        expected: "1 to 48 characters that can be seen, such as Fleet",
        limit: 48,
    };
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

/// A host that a server certificate is for: a DNS name (lowercase, no wildcard) or an IP address.
///
/// An IPv4 address is one in whatever form it was given: `::ffff:10.0.0.1` is read as `10.0.0.1`. Some programs would take a certificate
/// for the former for one for the latter, and others cannot read it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name in the preferred syntax of RFC 1034 section 3.5, as RFC 5280 section 4.2.1.6 demands.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl Host {
    const WHAT: &str = "host";
    const EXPECTED: &str = "a DNS name of letters, digits, hyphens and dots (international names in their xn-- form, no wildcard) or an IP address";

    /// `localhost` and `127.0.0.1`, what a server is reached by where nothing else was said.
    #[must_use]
    pub fn local() -> Vec<Self> {
        vec![Self::Dns("localhost".to_owned()), Self::Ip(IpAddr::from([127, 0, 0, 1]))]
    }
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_length(Self::WHAT, Self::EXPECTED, text, 253)?;
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        if is_dns_name(text) {
            Ok(Self::Dns(text.to_ascii_lowercase()))
        } else {
            Err(malformed(Self::WHAT, Self::EXPECTED, text))
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl Serialize for Host {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The path of the URI that names the authority.
const AUTHORITY_PATH: &str = "authority";

/// A SPIFFE trust domain: the authority part of the URI that names a client
/// (`spiffe://TRUST-DOMAIN/client/NAME`; SPIFFE-ID section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrustDomain(String);

impl TrustDomain {
    const WHAT: &str = "trust domain";
    const EXPECTED: &str =
        "1 to 255 lowercase letters, digits, underscores or hyphens, with dots between them, such as fleet.example";

    /// The URI that names the client `name`.
    #[must_use]
    pub fn client_uri(&self, name: &CommonName) -> String {
        format!("spiffe://{}/client/{name}", self.0)
    }

    /// The URI that names the authority itself, and nobody else.
    #[must_use]
    pub fn authority_uri(&self) -> String {
        format!("spiffe://{}/{AUTHORITY_PATH}", self.0)
    }

    /// Whether this is the URI that names an authority, of whatever trust domain.
    pub(crate) fn is_authority_uri(name: &str) -> bool {
        let path = name.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
        path.is_some_and(|(_, path)| path == AUTHORITY_PATH)
    }

    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let domain = Self::try_from(text.to_owned())?;
        if text.split('.').any(str::is_empty) { Err(malformed(Self::WHAT, Self::EXPECTED, text)) } else { Ok(domain) }
    }
}

/// One that was recorded: authorities were once founded with empty labels, and keep them.
impl TryFrom<String> for TrustDomain {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        check_length(Self::WHAT, Self::EXPECTED, &text, 255)?;
        if text.bytes().all(|c| is_name_octet(c) && !c.is_ascii_uppercase()) {
            Ok(Self(text))
        } else {
            Err(malformed(Self::WHAT, Self::EXPECTED, &text))
        }
    }
}

/// Which common names a token allows: the characters of a [`CommonName`], and `*` for any run of them.
///
/// A pattern for a new token is parsed with [`FromStr`]. One that was recorded may begin with any of the characters, because
/// names once could: it is read with [`TryFrom<String>`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(String);

impl NamePattern {
    const WHAT: &str = "name pattern";
    const EXPECTED: &str = "a name in which * stands for any characters, a letter, a digit or * first, such as web-*";

    /// The pattern that allows every name.
    #[must_use]
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether it allows `name`.
    #[must_use]
    pub fn allows(&self, name: &CommonName) -> bool {
        glob(self.0.as_bytes(), name.0.as_bytes())
    }
}

impl FromStr for NamePattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let pattern = Self::try_from(text.to_owned())?;
        if text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '*') {
            Ok(pattern)
        } else {
            Err(malformed(Self::WHAT, Self::EXPECTED, text))
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for NamePattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        check_length(Self::WHAT, Self::EXPECTED, &text, 64)?;
        if text.bytes().all(|c| is_name_octet(c) || c == b'*') {
            Ok(Self(text))
        } else {
            Err(malformed(Self::WHAT, Self::EXPECTED, &text))
        }
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.0
    }
}

/// Which hosts a token allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// `*`: every DNS name and every address.
    Any,
    /// Exactly this DNS name.
    Exact(String),
    /// `*.DOMAIN`: every DNS name below the domain, at any depth, and not the domain itself.
    Below(String),
    /// An address or a network in CIDR notation.
    Network(IpNet),
}

impl HostPattern {
    const WHAT: &str = "host pattern";
    const EXPECTED: &str =
        "a DNS name, *.DOMAIN for every name below a domain, an IP address, a network such as 10.0.0.0/8, or * for any";

    /// Whether it allows `host`.
    #[must_use]
    pub fn allows(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exact(allowed), Host::Dns(name)) => name == allowed,
            (Self::Below(domain), Host::Dns(name)) => {
                name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Self::Network(network), Host::Ip(address)) => network.contains(address),
            _ => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_length(Self::WHAT, Self::EXPECTED, text, 255)?;
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(canonical(network)));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.to_canonical().into()));
        }
        let (below, domain) = match text.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, text),
        };
        if !is_dns_name(domain) {
            return Err(malformed(Self::WHAT, Self::EXPECTED, text));
        }
        let domain = domain.to_ascii_lowercase();
        Ok(if below { Self::Below(domain) } else { Self::Exact(domain) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Below(domain) => write!(f, "*.{domain}"),
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => network.addr().fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

/// The IPv4 network that is written as an IPv6 one, as [`Host`] has addresses.
fn canonical(network: IpNet) -> IpNet {
    let v4 = |address: IpAddr| if let IpAddr::V4(address) = address.to_canonical() { Some(address) } else { None };
    match network {
        IpNet::V6(mapped) => v4(mapped.network().into())
            .zip(mapped.prefix_len().checked_sub(96))
            .and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok())
            .map_or(network, IpNet::V4),
        IpNet::V4(_) => network,
    }
}

fn is_name_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'_' | b'-')
}

/// The preferred name syntax of RFC 1034 section 3.5 with the leading digits of RFC 1123 section 2.1. The last
/// label is not all digits, so that a mistyped IPv4 address does not pass for a name.
fn is_dns_name(text: &str) -> bool {
    let label_is_fine = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253
        && text.split('.').all(label_is_fine)
        && !text.rsplit('.').next().is_some_and(|last| last.bytes().all(|c| c.is_ascii_digit()))
}

/// Whether `text` matches `pattern`, in which `*` stands for any run of octets; linear in space, and it goes
/// back to the last star only, so no pattern makes it slow.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            p = star_p + 1;
            t = star_t + 1;
            star = Some((star_p, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

fn check_length(what: &'static str, expected: &'static str, text: &str, limit: usize) -> Result<(), NameError> {
    match text.chars().count() {
        0 => Err(NameError::Empty { what, expected }),
        length if length > limit => Err(NameError::TooLong { what, length, limit }),
        _ => Ok(()),
    }
}

/// Whether a character shows itself and nothing else: no control, no direction mark, nothing without a width of its own, no space but
/// the usual one. Marks that are written above or below a letter are a part of it.
fn is_visible(c: char) -> bool {
    /// What the standard library takes for printable and shows nothing, or chooses how another character looks (Unicode's
    /// `Default_Ignorable_Code_Point`; the blank of braille).
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

fn malformed(what: &'static str, expected: &'static str, text: &str) -> NameError {
    NameError::Malformed { what, name: Excerpt(text, excerpt::NAME).to_string(), expected }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn common_names_that_are_not_allowed() {
        let options = ["-", "-x", "--dry-run", "_x", ".x", ".", ".."];
        for bad in
            ["", "a b", "a\nb", "a\0b", "*", "é", "mail@example.org", "a/b", &"x".repeat(300)].iter().chain(&options)
        {
            let error = bad.parse::<CommonName>().expect_err(bad);
            assert!(!error.to_string().contains(char::is_control), "{error} must be one printable line");
        }
        assert_eq!(
            "mail@example.org".parse::<CommonName>().unwrap_err().to_string(),
            "name \"mail@example.org\" is not allowed; give 1 to 64 letters, digits, dots, underscores or hyphens, a letter or a digit first, \
             such as client_1"
        );
        assert!("x".repeat(64).parse::<CommonName>().is_ok());
    }

    #[test]
    fn a_pattern_of_a_token_from_before_is_read_and_no_new_one_is_made() {
        for old in ["--dry-run", "_x*", ".x"] {
            assert!(old.parse::<NamePattern>().is_err(), "{old:?} would allow no name");
            assert_eq!(NamePattern::try_from(old.to_owned()).unwrap().to_string(), old);
        }
        assert!("*-x".parse::<NamePattern>().is_ok() && NamePattern::try_from("a b".to_owned()).is_err());
    }

    #[test]
    fn hosts_are_dns_names_or_addresses() {
        assert_eq!("LocalHost".parse(), Ok(Host::Dns("localhost".into())));
        assert_eq!("::1".parse(), Ok(Host::Ip("::1".parse().unwrap())));
        assert_eq!("xn--bcher-kva.example".parse(), Ok(Host::Dns("xn--bcher-kva.example".into())));
        for bad in [
            "",
            "*",
            "*.example.org",
            "a_b",
            "-a.example",
            "a..b",
            "example.org.",
            "bücher.example",
            "1.2.3.400",
            "a b",
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad:?} must be refused");
        }
        assert!(format!("{}.example", "a".repeat(64)).parse::<Host>().is_err());
    }

    #[test]
    fn host_patterns_allow_what_they_say_and_nothing_else() {
        let allows = |pattern: &str, host: &str| {
            pattern.parse::<HostPattern>().expect(pattern).allows(&host.parse().expect(host))
        };
        assert!(allows("*", "a.example") && allows("*", "10.1.2.3"));
        assert!(allows("*.edge.fleet", "a.edge.fleet") && allows("*.edge.fleet", "a.b.EDGE.fleet"));
        assert!(!allows("*.edge.fleet", "edge.fleet") && !allows("*.edge.fleet", "badedge.fleet"));
        assert!(allows("10.0.0.0/8", "10.1.2.3") && !allows("10.0.0.0/8", "11.1.2.3"));
        assert!(allows("::1", "::1") && !allows("::1", "::2"));
        assert!(allows("localhost", "localhost") && !allows("localhost", "127.0.0.1"));
        for text in ["*", "*.edge.fleet", "10.0.0.0/8", "127.0.0.1", "a.example"] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_ipv4_address_is_one_however_it_is_written() {
        assert_eq!("::ffff:10.0.0.1".parse(), "10.0.0.1".parse::<Host>());
        assert_eq!("::FFFF:a00:1".parse(), "10.0.0.1".parse::<Host>());
        assert_eq!(
            "::10.0.0.1".parse(),
            Ok(Host::Ip("::a00:1".parse().unwrap())),
            "deprecated, and nobody's IPv4 address"
        );
        let allows = |pattern: &str, host: &str| {
            pattern.parse::<HostPattern>().expect(pattern).allows(&host.parse().expect(host))
        };
        for pattern in ["::/0", "::/96", "::ffff:0:0/95"] {
            assert!(!allows(pattern, "::ffff:10.0.0.1") && !allows(pattern, "10.0.0.1"), "{pattern}");
        }
        for pattern in ["10.0.0.0/8", "::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "*"] {
            assert!(allows(pattern, "::ffff:10.0.0.1") && allows(pattern, "10.0.0.1"), "{pattern}");
        }
        assert!(!allows("::ffff:10.0.0.0/104", "11.0.0.1") && allows("::/0", "2001:db8::1"));
        assert_eq!("::ffff:10.0.0.0/104".parse::<HostPattern>().unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn a_trust_domain_has_no_empty_label() {
        assert!("fleet.example".parse::<TrustDomain>().is_ok() && "a_b-1".parse::<TrustDomain>().is_ok());
        for bad in ["", ".", "a.", ".a", "a..b", "A", "a/b", "a b"] {
            assert!(bad.parse::<TrustDomain>().is_err(), "{bad:?} must be refused");
        }
        for old in [".a", "a..b"] {
            assert_eq!(TrustDomain::try_from(old.to_owned()).unwrap().as_str(), old);
        }
        assert!(TrustDomain::try_from("A".to_owned()).is_err());
    }

    #[test]
    fn what_cannot_be_seen_is_no_part_of_a_name_and_is_shown_as_what_it_is() {
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

    #[test]
    fn organizations_are_printable() {
        assert!("My Organization".parse::<Organization>().is_ok());
        assert!("Müller & Söhne".parse::<Organization>().is_ok());
        for bad in ["", " a", "a ", "a\u{7}b", &"x".repeat(65)] {
            assert!(bad.parse::<Organization>().is_err(), "{bad:?} must be refused");
        }
    }

    proptest! {
        #[test]
        fn a_common_name_is_what_was_given_or_refused(text in ".{0,80}") {
            match text.parse::<CommonName>() {
                Ok(name) => prop_assert_eq!(name.as_str(), text),
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
            }
        }

        #[test]
        fn every_allowed_common_name_is_read(name in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}") {
            prop_assert!(name.parse::<CommonName>().is_ok());
            prop_assert!(NamePattern::any().allows(&name.parse().unwrap()));
            prop_assert!(name.parse::<NamePattern>().unwrap().allows(&name.parse().unwrap()));
        }

        #[test]
        fn a_pattern_allows_what_fills_its_stars(head in "[a-z]{0,5}", middle in "[a-z0-9]{0,5}", tail in "[a-z]{1,5}", fill in "[a-z]{0,5}") {
            let pattern: NamePattern = format!("{head}*{middle}*{tail}").parse().unwrap();
            let name: CommonName = format!("{head}{fill}{middle}{fill}{tail}").parse().unwrap();
            prop_assert!(pattern.allows(&name));
            let longer: CommonName = format!("{name}0").parse().unwrap();
            prop_assert!(!pattern.allows(&longer), "the tail is anchored");
        }

        #[test]
        fn any_text_is_a_host_or_refused(text in ".{0,300}") {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.to_string().parse(), Ok(host));
            }
        }
    }
}
