//! When a certificate is due for renewal: a window of time, as in ACME's renewal information (RFC 9773 section 4.2).
//!
//! It never reads the clock and never draws randomness: the certificate holder picks a time in the window with its own
//! random number.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Timestamp, Validity};

/// The window of time for renewing a certificate; both ends are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// The first second in which to renew.
    pub start: Timestamp,
    /// The last second that leaves enough time for retries.
    pub end: Timestamp,
}

impl Window {
    /// From two thirds to three quarters of a certificate's lifetime, without the time by which it was backdated.
    #[must_use]
    pub fn of(validity: Validity) -> Self {
        let (from, life) = (validity.starts(), validity.lifetime());
        Self { start: from.plus(life * 2 / 3), end: from.plus(life * 3 / 4) }
    }

    /// From `now` on and for at most `within`, but early enough for a certificate of this validity.
    #[must_use]
    pub fn from_now(now: Timestamp, within: Duration, validity: Validity) -> Self {
        let end = now.plus(within).min(Self::of(validity).end).max(now);
        Self { start: now, end }
    }

    /// A second in the window. All are equally likely if `random` is uniform.
    #[must_use]
    pub fn pick(&self, random: u64) -> Timestamp {
        let seconds = self.end.since(self.start).as_secs() + 1;
        self.start.plus(Duration::from_secs(random % seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_795_510_800 + seconds)
    }

    #[test]
    fn a_window_lies_between_two_thirds_and_three_quarters_of_the_life() {
        let of = |seconds: u64| Window::of(Validity::starting(at(0), Duration::from_secs(seconds)));
        assert_eq!(of(90 * 86_400), Window { start: at(60 * 86_400), end: at(5_832_000) });
        assert_eq!(of(40), Window { start: at(26), end: at(30) });
        assert_eq!(of(0), Window { start: at(0), end: at(0) });
    }

    #[test]
    fn a_window_that_was_ordered_begins_now_and_ends_before_the_certificate_does() {
        let validity = Validity::starting(at(0), Duration::from_mins(20));
        let from_now = |now, within| Window::from_now(at(now), Duration::from_secs(within), validity);
        assert_eq!(from_now(10, 60), Window { start: at(10), end: at(70) });
        assert_eq!(from_now(10, 9000), Window { start: at(10), end: at(900) });
        assert_eq!(from_now(1000, 60), Window { start: at(1000), end: at(1000) });
    }

    #[test]
    fn every_second_of_the_window_can_be_picked_and_no_other() {
        let window = Window { start: at(26), end: at(30) };
        let picked: Vec<_> = (0..10).map(|random| window.pick(random)).collect();
        let seconds: Vec<_> = (26..=30).map(at).collect();
        assert_eq!(picked, [seconds.clone(), seconds].concat());
        assert!((at(26)..=at(30)).contains(&window.pick(u64::MAX)));
    }
}
