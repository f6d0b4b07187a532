//! How the state of the feed is stored: at once if it matters, else from time to time. It also notices changes by other
//! processes.
//!
//! It never decides which instances are expected.

use std::time::Duration;

use pki::time::Timestamp;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info};

use super::{Feed, instance::Unwritten};
use crate::store::StoreError;

/// How often to check whether another process has changed the database.
const LOOK_OUT: Duration = Duration::from_millis(100);
/// After how long it is stored which instances left and which confirmed, ...
const WRITE_SOON: Duration = Duration::from_secs(1);
/// ... and that an instance is still there: a sync of the disk for each heartbeat would be a waste.
const WRITE_LATE: Duration = Duration::from_secs(30);
/// How much more than the elapsed time the clock may advance between two checks.
const JUMP: Duration = Duration::from_mins(1);

impl Feed {
    /// Stores every change before it returns. It completes even if the caller stops waiting, and concurrent callers
    /// share one transaction.
    pub(super) async fn write_now(&self) -> Result<(), StoreError> {
        let feed = self.clone();
        tokio::spawn(async move { feed.write(Unwritten::Change).await }).await.expect("writing does not panic")
    }

    /// Stores everything.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.write(Unwritten::Presence).await
    }

    /// Stores pending changes, if they are at least this urgent.
    async fn write(&self, urgency: Unwritten) -> Result<(), StoreError> {
        let _writing = self.0.writing.lock().await;
        let (records, gone) = self.registry().take_unwritten(urgency);
        if records.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let written = self.0.store.record_relying_parties(&records, &gone).await;
        if written.is_err() {
            self.registry().give_back(&records, gone);
        }
        written
    }

    /// Removes instances that cannot admit anybody any more. That is permanent, so a clock that may be set back must
    /// not cause it.
    fn expire(&self, steadiness: &mut Steadiness) {
        if !steadiness.is_steady(self.0.clock.now(), Instant::now(), self.0.list_lifetime) {
            return;
        }
        for gone in self.registry().expire(self.0.lists_end, self.0.clock.now()) {
            let until = gone.admits_until.map(tracing::field::display);
            info!(
                relying_party = %gone.name, instance = %gone.instance.short(), last_seen = %gone.last_seen, until,
                "a relying party that is gone can admit nobody any more, so it does not have to confirm any more"
            );
        }
    }
}

/// Whether the clock advances like the elapsed time. After a jump ahead, it is trusted once it has held for as long as
/// a CRL is valid. Before that it could be set back, and an instance that was removed because of it would admit clients
/// while nobody waits for its confirmation.
#[derive(Debug, Default)]
struct Steadiness {
    last: Option<(Timestamp, Instant)>,
    jumped_at: Option<Instant>,
}

impl Steadiness {
    fn is_steady(&mut self, now: Timestamp, at: Instant, list_lifetime: Duration) -> bool {
        if let Some((before, looked_at)) = self.last.replace((now, at))
            && now.since(before) > at.duration_since(looked_at) + JUMP
        {
            self.jumped_at = Some(at);
        }
        self.jumped_at.take_if(|jumped_at| at.duration_since(*jumped_at) > list_lifetime);
        self.jumped_at.is_none()
    }
}

/// Notices changes by other processes, and stores which instances are there. Runs until it is dropped.
pub(crate) async fn keep_told(feed: Feed) {
    let report = |result: Result<(), StoreError>| {
        // The check logs that the files were replaced, so it is not logged again here.
        if let Err(error) = result.or_else(|error| if error.is_replaced() { Ok(()) } else { Err(error) }) {
            error!(%error, "the feed cannot use the database and will retry");
        }
    };
    let mut looking = tokio::time::interval(LOOK_OUT);
    let mut soon = tokio::time::interval(WRITE_SOON);
    let mut late = tokio::time::interval(WRITE_LATE);
    for interval in [&mut looking, &mut soon, &mut late] {
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let (mut look_out, mut steadiness) = (None, Steadiness::default());
    loop {
        tokio::select! {
            _ = looking.tick() => {
                let looked = async {
                    if look_out.is_none() {
                        look_out = Some(feed.0.store.look_out().await?);
                    }
                    let Some(look_out) = look_out.as_mut() else { return Ok(()) };
                    if look_out.has_changed().await? { feed.refresh().await } else { Ok(()) }
                };
                let looked = looked.await;
                if looked.is_err() {
                    look_out = None;
                }
                report(looked);
            }
            _ = soon.tick() => report(feed.write(Unwritten::Change).await),
            _ = late.tick() => {
                feed.expire(&mut steadiness);
                report(feed.flush().await);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_ahead_is_trusted_after_the_life_of_a_crl() {
        let (start, began, life) = (Timestamp::from_unix(1_795_510_800), Instant::now(), Duration::from_hours(24));
        let mut steadiness = Steadiness::default();
        let mut looks = |passed: u64, clock: u64| {
            let [passed, clock] = [passed, clock].map(Duration::from_secs);
            steadiness.is_steady(start.plus(clock), began + passed, life)
        };
        assert!(looks(0, 0) && looks(30, 30) && looks(60, 115), "set right by a little");
        let day = 86_400;
        assert!(!looks(90, 2 * day), "ahead by two days");
        assert!(!looks(120, 2 * day + 30));
        assert!(!looks(150, 150), "and right again");
        assert!(!looks(day, day));
        assert!(looks(day + 120, day + 120));
    }
}
