//! The hosts in server certificates: DNS names and addresses.
//!
//! It never resolves a name.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::Serialize;

use super::rule::{NameError, check_length, malformed};

/// A host in a server certificate: a DNS name (lowercase, no wildcard) or an IP address.
///
/// `::ffff:10.0.0.1` is read as the IPv4 address `10.0.0.1`. Some programs treat the two as the same address, others
/// cannot read the first form in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name in the preferred syntax of RFC 1034 section 3.5, which RFC 5280 section 4.2.1.6 requires.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl Host {
    const WHAT: &str = "host";
    const EXPECTED: &str = "a DNS name of letters, digits, hyphens and dots (international names in their xn-- form, \
        no wildcard) or an IP address";

    /// `localhost` and `127.0.0.1`, the default hosts of a server.
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

/// The preferred name syntax of RFC 1034 section 3.5, with the leading digits of RFC 1123 section 2.1. The last label
/// may not be all digits, so a mistyped IPv4 address is not accepted as a name.
pub(super) fn is_dns_name(text: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,300}") {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.to_string().parse(), Ok(host));
            }
        }
    }
}
