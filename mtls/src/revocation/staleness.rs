//! Staleness (now > nextUpdate): the policy of a relying party, and the log lines when it begins and ends.
//!
//! It never refuses anybody; [`LiveSet::check`] does.

use std::{collections::HashMap, fmt, time::Duration};

use edge::clock::Clock;
use pki::{certificate::IssuerId, time::Timestamp};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Freshness, ListInForce, LiveSet};

/// What happens to clients when their CRL is stale. Readiness turns off in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStaleCrl {
    /// They are refused, because revocations since nextUpdate are unknown.
    #[default]
    Refuse,
    /// The stale CRL still decides for this long. After that they are refused. Certificates that it revokes are refused
    /// throughout; later revocations are unknown.
    Grace(Duration),
}

impl OnStaleCrl {
    /// The last second in which a CRL with this nextUpdate decides about clients.
    #[must_use]
    pub fn admits_until(self, next_update: Timestamp) -> Timestamp {
        next_update.plus(self.grace())
    }

    /// How long a stale CRL still decides about clients.
    pub(crate) fn grace(self) -> Duration {
        match self {
            Self::Refuse => Duration::ZERO,
            Self::Grace(grace) => grace,
        }
    }

    /// What happens to clients now if a CRL with this nextUpdate is stale. `None` if it is not stale.
    pub(super) fn stale(self, next_update: Timestamp, now: Timestamp) -> Option<Stale> {
        let until = self.admits_until(next_update);
        (now > next_update).then_some(if now > until { Stale::Refused } else { Stale::JudgedUntil(until) })
    }
}

/// What happens to clients while their CRL is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// They are refused.
    Refused,
    /// The stale CRL decides about them until then.
    JudgedUntil(Timestamp),
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::JudgedUntil(until) => write!(f, "judged by the stale CRL until {until}, and refused from then on"),
        }
    }
}

/// Checks the age of every CRL. Logs when one becomes stale, and when it is current again.
#[derive(Debug)]
pub(crate) struct StalenessLog {
    live: LiveSet,
    clock: Clock,
    interval: Duration,
    /// The stale CRLs that were logged, and since when they are stale.
    reported: HashMap<IssuerId, Timestamp>,
}

impl StalenessLog {
    /// Checks once an interval.
    pub(crate) fn new(live: LiveSet, clock: Clock, interval: Duration) -> Self {
        Self { live, clock, interval, reported: HashMap::new() }
    }

    /// Never returns.
    pub(crate) async fn run(mut self) {
        loop {
            self.look();
            sleep(self.interval).await;
        }
    }

    fn look(&mut self) {
        let now = self.clock.now();
        for Freshness { issuer, list } in self.live.freshness() {
            let Some(ListInForce { number, good_until, .. }) = list else { continue };
            match self.live.policy().stale(good_until, now) {
                None => {
                    if let Some(since) = self.reported.remove(&issuer) {
                        info!(%issuer, %number, %since, until = %good_until, "CRL current again");
                    }
                }
                Some(clients) if !self.reported.contains_key(&issuer) => {
                    warn!(
                        %issuer,
                        %number,
                        since = %good_until,
                        %clients,
                        "CRL stale, so this service is not ready; is its authority running, can the CRL be fetched, \
                         is this machine's clock right?"
                    );
                    self.reported.insert(issuer, good_until);
                }
                Some(_) => {}
            }
        }
    }
}
