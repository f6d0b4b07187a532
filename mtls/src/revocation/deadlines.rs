//! Ends connections because time has passed: the client's chain has expired, or its CRL is stale and any grace is over.
//! This happens without a request.
//!
//! It never decides who may be served; [`LiveSet`] does.

use std::time::Duration;

use edge::clock::Clock;
use tokio::time::sleep;
use tracing::info;

use super::{EndReason, LiveSet};

/// How often it checks in the second before something ends. Clocks have whole seconds here, and the connection must end
/// soon after the last valid one.
const CLOSE: Duration = Duration::from_millis(20);

/// Checks the clock repeatedly.
#[derive(Debug)]
pub(crate) struct Deadlines {
    live: LiveSet,
    clock: Clock,
    interval: Duration,
}

impl Deadlines {
    /// Checks at least once an interval, because a clock may jump.
    pub(crate) fn new(live: LiveSet, clock: Clock, interval: Duration) -> Self {
        Self { live, clock, interval }
    }

    /// Never returns.
    pub(crate) async fn run(self) {
        loop {
            self.live.note_lead(self.clock.lead());
            let now = self.clock.now();
            for reason in [EndReason::Expired, EndReason::NoFreshCrl] {
                let ended = self.live.end_overdue(reason, now);
                if ended > 0 {
                    info!(ended, why = reason.as_str(), "connections ended");
                }
            }
            let is_close = self.live.next_deadline(now).is_some_and(|next| next <= now.plus(Duration::from_secs(1)));
            sleep(if is_close { self.interval.min(CLOSE) } else { self.interval }).await;
        }
    }
}
