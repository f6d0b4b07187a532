//! The current time. This is the only place that reads the operating system's clock.
//!
//! It never decides by the time. Other code receives the time as an argument, and tests pass a clock that they set.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use pki::time::Timestamp;

/// The zero of the monotonic clock.
static STEADY: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A source of the current time. Clones have the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<Hands>),
}

#[derive(Debug)]
struct Hands {
    /// Since 1970-01-01 UTC.
    seconds: AtomicI64,
    /// By how many seconds it was set forward in total. Negative if it was set back.
    lead: AtomicI64,
}

/// How far a clock is ahead of the monotonic clock, in milliseconds. Setting the clock changes it, and the passing of
/// time does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lead(i64);

impl Lead {
    /// A lead of this many milliseconds.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// In milliseconds.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.0
    }

    /// How far the clock was set back since it had the earlier lead.
    #[must_use]
    pub fn set_back_since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(earlier.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

impl Clock {
    /// The operating system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that does not advance until it is [`set`](Self::set).
    #[must_use]
    pub fn manual(now: Timestamp) -> Self {
        let hands = Hands { seconds: AtomicI64::new(now.unix()), lead: AtomicI64::new(0) };
        Self(Source::Manual(Arc::new(hands)))
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                #[expect(clippy::disallowed_methods, reason = "this is the edge at which time enters")]
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                Timestamp::from_unix(i64::try_from(now).unwrap_or(i64::MAX))
            }
            Source::Manual(hands) => Timestamp::from_unix(hands.seconds.load(Ordering::Relaxed)),
        }
    }

    /// How far it is ahead of the monotonic clock.
    #[must_use]
    pub fn lead(&self) -> Lead {
        match &self.0 {
            Source::System => {
                let steady = STEADY.elapsed();
                #[expect(clippy::disallowed_methods, reason = "this is the edge at which time enters")]
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
                Lead(millis(now) - millis(steady))
            }
            Source::Manual(hands) => Lead(hands.lead.load(Ordering::Relaxed).saturating_mul(1000)),
        }
    }

    /// Sets a manual clock and all its clones. Does not affect the system's clock.
    pub fn set(&self, now: Timestamp) {
        if let Source::Manual(hands) = &self.0 {
            let before = hands.seconds.swap(now.unix(), Ordering::Relaxed);
            hands.lead.fetch_add(now.unix() - before, Ordering::Relaxed);
        }
    }

    /// Advances a manual clock and all its clones as time does, which does not count as setting them. Does not affect
    /// the system's clock.
    pub fn pass(&self, time: Duration) {
        if let Source::Manual(hands) = &self.0 {
            hands.seconds.store(self.now().plus(time).unix(), Ordering::Relaxed);
        }
    }
}
