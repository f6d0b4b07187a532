//! The patterns of names and hosts that a token allows.
//!
//! It never decides what a token allows; it only compares.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::{
    host::{Host, is_dns_name},
    rule::{NameError, check_length, is_name_byte, malformed},
    subject::CommonName,
};

/// A pattern of common names: the characters of a [`CommonName`], and `*` for any run of characters.
///
/// Parse the pattern of a new token with [`FromStr`]. A stored pattern may begin with any character, because names once
/// could: read it with [`TryFrom<String>`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(String);

impl NamePattern {
    const WHAT: &str = "name pattern";
    const EXPECTED: &str = "a name in which * stands for any characters, a letter, a digit or * first, such as web-*";

    /// The pattern that matches every name.
    #[must_use]
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether it matches `name`.
    #[must_use]
    pub fn allows(&self, name: &CommonName) -> bool {
        glob(self.0.as_bytes(), name.as_str().as_bytes())
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
        if text.bytes().all(|c| is_name_byte(c) || c == b'*') {
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

/// A pattern of hosts.
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

    /// Whether it matches `host`.
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

/// Converts an IPv4-mapped IPv6 network to IPv4, as [`Host`] does with addresses.
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

/// Whether `text` matches `pattern`, in which `*` stands for any run of bytes. It needs constant space and backtracks
/// only to the last star, so no pattern makes it slow.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_old_pattern_is_read_but_cannot_be_created() {
        for old in ["--dry-run", "_x*", ".x"] {
            assert!(old.parse::<NamePattern>().is_err(), "{old:?} must be refused");
            assert_eq!(NamePattern::try_from(old.to_owned()).unwrap().to_string(), old);
        }
        assert!("*-x".parse::<NamePattern>().is_ok() && NamePattern::try_from("a b".to_owned()).is_err());
    }

    #[test]
    fn host_patterns_match_exactly() {
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
    fn a_mapped_ipv4_address_matches_as_ipv4() {
        assert_eq!("::ffff:10.0.0.1".parse(), "10.0.0.1".parse::<Host>());
        assert_eq!("::FFFF:a00:1".parse(), "10.0.0.1".parse::<Host>());
        assert_eq!(
            "::10.0.0.1".parse(),
            Ok(Host::Ip("::a00:1".parse().unwrap())),
            "IPv4-compatible addresses are deprecated and are not IPv4"
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

    proptest! {
        #[test]
        fn every_common_name_is_a_pattern_that_matches_it(name in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}") {
            prop_assert!(NamePattern::any().allows(&name.parse().unwrap()));
            prop_assert!(name.parse::<NamePattern>().unwrap().allows(&name.parse().unwrap()));
        }

        #[test]
        fn a_star_matches_any_run(
            head in "[a-z]{0,5}", middle in "[a-z0-9]{0,5}", tail in "[a-z]{1,5}", fill in "[a-z]{0,5}",
        ) {
            let pattern: NamePattern = format!("{head}*{middle}*{tail}").parse().unwrap();
            let name: CommonName = format!("{head}{fill}{middle}{fill}{tail}").parse().unwrap();
            prop_assert!(pattern.allows(&name));
            let longer: CommonName = format!("{name}0").parse().unwrap();
            prop_assert!(!pattern.allows(&longer), "the tail is anchored");
        }
    }
}
