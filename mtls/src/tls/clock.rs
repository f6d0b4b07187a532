//! The process's clock, as a time source for rustls.
//!
//! It never reads the operating system's clock itself.

use std::time::Duration;

use edge::clock::Clock;
use rustls::{Error, time_provider::TimeProvider};
use rustls_pki_types::UnixTime;

/// A clock for a TLS configuration.
#[derive(Clone, Debug)]
pub struct TlsClock(Clock);

impl TlsClock {
    /// Uses this clock.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        Self(clock.clone())
    }
}

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        unix_time(&self.0).ok()
    }
}

/// The current time, for a TLS verifier. A time before 1970 is an error.
pub(crate) fn unix_time(clock: &Clock) -> Result<UnixTime, Error> {
    let seconds = u64::try_from(clock.now().unix()).map_err(|_| Error::FailedToGetCurrentTime)?;
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}
