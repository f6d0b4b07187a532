//! What time it is: the one place that asks the operating system.
//!
//! Everything below the edges receives the time as an argument; tests hand in a clock that they set.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use pki::time::Timestamp;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// A source of the current time; clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Seconds since 1970-01-01 UTC.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The operating system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is [`set`](Self::set).
    #[must_use]
    pub fn manual(now: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(now.unix()))))
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                #[expect(clippy::disallowed_methods, reason = "this is the edge at which time enters")]
                let now = UnixTime::now().as_secs();
                Timestamp::from_unix(i64::try_from(now).unwrap_or(i64::MAX))
            }
            Source::Manual(seconds) => Timestamp::from_unix(seconds.load(Ordering::Relaxed)),
        }
    }

    /// Sets a manual clock and all its clones; the system's clock is left alone.
    pub fn set(&self, now: Timestamp) {
        if let Source::Manual(seconds) = &self.0 {
            seconds.store(now.unix(), Ordering::Relaxed);
        }
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.now().unix()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
