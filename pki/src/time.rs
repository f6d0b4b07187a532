//! Points in time as certificates and CRLs express them: whole seconds, UTC.
//!
//! It never reads the clock; callers pass `now` in.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A point in time: whole seconds since 1970-01-01 00:00:00 UTC, at most 9999-12-31 23:59:59
/// (the last moment that RFC 5280 section 4.1.2.5 can express). Arithmetic saturates at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 9999-12-31 23:59:59 UTC.
    pub const MAX: Self = Self(253_402_300_799);
    /// 1970-01-01 00:00:00 UTC.
    pub const MIN: Self = Self(0);

    /// The moment `seconds` after 1970-01-01 UTC, moved into the range that can be expressed.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Self {
        Self(seconds.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn unix(self) -> i64 {
        self.0
    }

    /// This moment moved later by `duration`; parts of a second are dropped.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self::from_unix(self.0.saturating_add(seconds))
    }

    /// This moment moved earlier by `duration`; parts of a second are dropped.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self::from_unix(self.0.saturating_sub(seconds))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    pub(crate) fn to_offset(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0).expect("a Timestamp lies within the years 1970 to 9999")
    }

    /// RFC 3339, for machines: `2026-11-24T09:00:00Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        self.to_offset().format(&Rfc3339).expect("RFC 3339 expresses the years 0 to 9999")
    }
}

/// For people: `2026-11-24 09:00:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339().replacen('T', " ", 1))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = OffsetDateTime::parse(&text, &Rfc3339).map_err(serde::de::Error::custom)?;
        Ok(Self::from_unix(parsed.unix_timestamp()))
    }
}

/// The validity of a certificate (RFC 5280 section 4.1.2.5); both ends are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Validity {
    /// The first second in which the certificate is valid.
    pub not_before: Timestamp,
    /// The last second in which the certificate is valid.
    pub not_after: Timestamp,
}

impl Validity {
    /// Clocks in containers and CI differ, so a new certificate has to be valid on clocks that are behind.
    pub const BACKDATE: Duration = Duration::from_mins(1);

    /// From [`Self::BACKDATE`] before `now` until `lifetime` after `now`.
    #[must_use]
    pub fn starting(now: Timestamp, lifetime: Duration) -> Self {
        Self { not_before: now.minus(Self::BACKDATE), not_after: now.plus(lifetime) }
    }

    /// When the validity was meant to begin: without the time by which it is backdated.
    #[must_use]
    pub fn starts(&self) -> Timestamp {
        self.not_before.plus(Self::BACKDATE).min(self.not_after)
    }

    /// The intended length of the validity.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.not_after.since(self.starts())
    }

    /// The part within `outer`, because a certificate never outlives its issuer.
    #[must_use]
    pub fn within(self, outer: Self) -> Self {
        Self { not_before: self.not_before.max(outer.not_before), not_after: self.not_after.min(outer.not_after) }
    }

    /// Whether `now` is within it.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_printed_for_people_and_for_machines() {
        let moment = Timestamp::from_unix(1_795_510_800);
        assert_eq!(moment.to_string(), "2026-11-24 09:00:00Z");
        assert_eq!(serde_json::to_string(&moment).unwrap(), "\"2026-11-24T09:00:00Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>("\"2026-11-24T09:00:00Z\"").unwrap(), moment);
    }

    #[test]
    fn arithmetic_stays_within_what_rfc_5280_can_express() {
        assert_eq!(Timestamp::MAX.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_unix(5).minus(Duration::from_secs(9)), Timestamp::MIN);
        assert_eq!(Timestamp::from_unix(i64::MAX).to_string(), "9999-12-31 23:59:59Z");
        assert_eq!(Timestamp::from_unix(5).since(Timestamp::from_unix(9)), Duration::ZERO);
    }

    #[test]
    fn a_certificate_is_valid_a_minute_ago_and_never_outlives_its_issuer() {
        let now = Timestamp::from_unix(1_000_000);
        let issuer = Validity { not_before: now, not_after: now.plus(Duration::from_secs(100)) };
        let leaf = Validity::starting(now, Duration::from_secs(500));
        assert!(leaf.contains(now.minus(Duration::from_mins(1))));
        assert!(!leaf.contains(now.minus(Duration::from_secs(61))));
        assert_eq!(leaf.within(issuer), issuer);
    }
}
