//! Types for command line values that no other module has.
//!
//! It never depends on the command that uses them.

use std::{
    ffi::OsStr,
    str::FromStr,
    time::{Duration, UNIX_EPOCH},
};

use clap::{
    Arg, Command, Error,
    builder::{PossibleValue, TypedValueParser},
};
use pki::{crl::RevocationReason, time::Timestamp};
use url::Url;

/// A duration above zero: `90d`, `12h`, `15m`, `30s`, combined as in `1h 30m`, or a plain number of days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Span(pub(in crate::cli) Duration);

/// The text is no such duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is not a duration; give days such as 90 or 90d, hours such as 12h, minutes such as 30m, more than zero"
)]
pub(in crate::cli) struct SpanError {
    given: String,
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let error = || SpanError { given: text.to_owned() };
        let duration = match text.parse::<u64>() {
            Ok(days) => days.checked_mul(24 * 60 * 60).map(Duration::from_secs).ok_or_else(error)?,
            Err(_) => humantime::parse_duration(text).map_err(|_| error())?,
        };
        // Certificates have whole seconds, so less than one would be zero.
        if duration.as_secs() == 0 { Err(error()) } else { Ok(Self(duration)) }
    }
}

/// A duration above zero with its unit. A plain number is refused, because it could be taken for hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Period(pub(in crate::cli) Duration);

/// The text is no such duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum PeriodError {
    #[error("{0} needs a unit: {0}h for hours, {0}d for days")]
    NoUnit(String),
    #[error("{0:?} is not a duration; give hours such as 12h, minutes such as 30m, days such as 90d, more than zero")]
    Unclear(String),
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(PeriodError::NoUnit(text.to_owned()));
        }
        let Span(span) = text.parse().map_err(|SpanError { given }| PeriodError::Unclear(given))?;
        Ok(Self(span))
    }
}

/// A point in time: `2026-11-24T09:00:00Z`, `2026-11-24 09:00:00`, `2026-11-24`, or how long ago: `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Moment {
    At(Timestamp),
    Ago(Duration),
}

impl Moment {
    pub(in crate::cli) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.minus(ago),
        }
    }
}

/// The text is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is not a time; give one in UTC such as 2026-11-24T09:00:00Z or 2026-11-24, or how long ago, such as 2h"
)]
pub(in crate::cli) struct MomentError {
    given: String,
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let whole = if text.len() == "2026-11-24".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
        let at = humantime::parse_rfc3339_weak(&whole).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let at = at.ok_or_else(|| MomentError { given: text.to_owned() })?;
        Ok(Self::At(Timestamp::from_unix(i64::try_from(at.as_secs()).unwrap_or(i64::MAX))))
    }
}

/// Parses a reason for a revocation, and lists the values for shell completion.
#[derive(Clone)]
pub(in crate::cli) struct Reasons;

impl TypedValueParser for Reasons {
    type Value = RevocationReason;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<RevocationReason, Error> {
        RevocationReason::from_str.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(RevocationReason::ALL.iter().map(|reason| PossibleValue::new(reason.as_str()))))
    }
}

/// Why a URL cannot be an address of the authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {expected}")]
pub(in crate::cli) struct AddressError {
    given: String,
    expected: &'static str,
}

/// The address of enrollment: `https`, a host, optionally a port.
pub(in crate::cli) fn https_url(text: &str) -> Result<Url, AddressError> {
    let error = || AddressError { given: text.to_owned(), expected: "an address such as https://ca.example:8440" };
    let url = address(text, "https").ok_or_else(error)?;
    if url.path() == "/" { Ok(url) } else { Err(error()) }
}

/// The address of CRLs, which is in every certificate. It is `http`, because a CRL is signed, and a client may need it
/// to check a TLS certificate (RFC 5280 section 8). It may have a path.
pub(in crate::cli) fn http_url(text: &str) -> Result<Url, AddressError> {
    let error = || AddressError { given: text.to_owned(), expected: "an address such as http://ca.example:8480" };
    address(text, "http").ok_or_else(error)
}

fn address(text: &str, scheme: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    (url.scheme() == scheme && url.has_host() && plain).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_without_a_unit_are_days() {
        let hours = |text: &str| text.parse::<Span>().map(|span| span.0.as_secs() / 3600);
        assert_eq!(hours("90"), Ok(2160));
        assert_eq!(hours("90d"), Ok(2160));
        assert_eq!(hours("12h"), Ok(12));
        for bad in ["0", "0h", "500ms", "-1", "", "soon", "99999999999999999999", "1.5"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn periods_name_their_unit() {
        assert_eq!("24h".parse(), Ok(Period(Duration::from_hours(24))));
        assert_eq!("24".parse::<Period>().unwrap_err().to_string(), "24 needs a unit: 24h for hours, 24d for days");
        for bad in ["0h", "", "soon", "-1h"] {
            assert!(matches!(bad.parse::<Period>(), Err(PeriodError::Unclear(_))), "{bad:?} must be refused");
        }
    }

    #[test]
    fn moments_are_dates_or_how_long_ago() {
        let now = Timestamp::from_unix(1_795_510_800);
        let resolve = |text: &str| text.parse::<Moment>().map(|moment| moment.resolve(now).to_string());
        assert_eq!(resolve("2026-11-24T09:00:00Z").unwrap(), "2026-11-24 09:00:00Z");
        assert_eq!(resolve("2026-11-24 08:30:00").unwrap(), "2026-11-24 08:30:00Z");
        assert_eq!(resolve("2026-11-24").unwrap(), "2026-11-24 00:00:00Z");
        assert_eq!(resolve("90m").unwrap(), "2026-11-24 07:30:00Z");
        for bad in ["", "yesterday", "2026", "24.11.2026", "-1h"] {
            assert!(resolve(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn addresses_have_the_right_scheme_and_nothing_secret() {
        assert!(https_url("https://localhost:8440").is_ok() && http_url("http://ca.example/pki").is_ok());
        for bad in ["localhost:8440", "http://localhost", "https://u:p@localhost", "https://localhost/x", "https://"] {
            assert!(https_url(bad).is_err(), "{bad:?} must be refused");
        }
        assert!(http_url("https://localhost").is_err() && http_url("http://localhost?a").is_err());
    }
}
