//! Staleness (now > nextUpdate): what a relying party does about it, and the two lines in the log that say when it begins and
//! when it ends.
//!
//! It never refuses anybody; [`LiveSet::check`] does.

use std::{collections::HashMap, fmt, time::Duration};

use edge::clock::Clock;
use pki::{certificate::IssuerId, time::Timestamp};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Freshness, ListInForce, LiveSet};

/// What happens to clients when the CRL that they are judged by is stale. Readiness turns off in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStaleCrl {
    /// They are refused: who was revoked since nextUpdate is not known.
    #[default]
    Refuse,
    /// They go on being judged by the stale CRL for so long, and are refused from then on. Whom it revokes is refused throughout;
    /// who was revoked since is not.
    Grace(Duration),
}

impl OnStaleCrl {
    /// The last second in which clients are judged by a CRL with this nextUpdate.
    #[must_use]
    pub fn admits_until(self, next_update: Timestamp) -> Timestamp {
        next_update.plus(self.grace())
    }

    /// For how long clients are judged by a stale CRL.
    pub(crate) fn grace(self) -> Duration {
        match self {
            Self::Refuse => Duration::ZERO,
            Self::Grace(grace) => grace,
        }
    }

    /// What happens to clients now, if a CRL with this nextUpdate is stale.
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
    /// By grace they are judged by the stale CRL until then.
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

/// Looks at the age of every list, and logs when one becomes stale and when a current one has taken its place.
#[derive(Debug)]
pub(crate) struct StalenessLog {
    live: LiveSet,
    clock: Clock,
    interval: Duration,
    /// The stale lists that were reported, and since when they are.
    reported: HashMap<IssuerId, Timestamp>,
}

impl StalenessLog {
    /// One that looks this often.
    pub(crate) fn new(live: LiveSet, clock: Clock, interval: Duration) -> Self {
        Self { live, clock, interval, reported: HashMap::new() }
    }

    /// Looks for ever.
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
                        "CRL stale, so this service is not ready; is its authority running, can the CRL be fetched, is this \
                         machine's clock right?"
                    );
                    self.reported.insert(issuer, good_until);
                }
                Some(_) => {}
            }
        }
    }
}
