//! Delays the confirmation of a CRL that is in force and on disk until the connections that it ended are gone, and
//! those that ended before it.
//!
//! It never delays the keeper, which goes on to newer CRLs. Those are confirmed after this one, or instead of it.

use tokio::sync::watch;

use super::{LiveSet, Progress};

/// Forwards the progress of one keeper when the connections that it ended can send nothing any more.
#[derive(Debug)]
pub(crate) struct Settling {
    live: LiveSet,
    brought: watch::Receiver<Progress>,
    settled: watch::Sender<Progress>,
}

impl Settling {
    pub(crate) fn new(live: LiveSet, brought: watch::Receiver<Progress>, settled: watch::Sender<Progress>) -> Self {
        Self { live, brought, settled }
    }

    /// Runs as long as the keeper exists.
    pub(crate) async fn run(mut self) {
        loop {
            let brought = *self.brought.borrow();
            // Read after the swap, so that it includes the connections that the swap ended.
            let gone = self.live.ended_are_gone();
            let passed = tokio::select! {
                biased;
                // A number that does not stand for this CRL any more is withdrawn at once.
                withdrawn = self.brought.wait_for(|newer| newer.settled.is_none()) => match withdrawn {
                    Ok(withdrawn) => *withdrawn,
                    Err(_) => return,
                },
                () = gone => brought,
            };
            self.settled.send_if_modified(|settled| std::mem::replace(settled, passed) != passed);
            if self.brought.wait_for(|newer| *newer != passed).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pki::{crl::CrlNumber, time::Timestamp};

    use super::*;
    use crate::revocation::{EndReason, Registration};

    fn progress(number: Option<i64>) -> Progress {
        Progress { settled: number.map(|number| CrlNumber::new(number).unwrap()), ended: 0 }
    }

    /// A connection that has to end.
    fn ending(live: &LiveSet) -> Registration {
        let registration = live.watch(Arc::new([]), Timestamp::MIN);
        assert_eq!(live.end_overdue(EndReason::Expired, Timestamp::MAX), 1);
        registration
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_is_passed_on_when_its_ended_connections_are_gone_and_newer_numbers_do_not_delay_it() {
        let live = LiveSet::new(Vec::new());
        let (brought, bring) = watch::channel(progress(Some(1)));
        let (settle, mut settled) = watch::channel(progress(None));
        tokio::spawn(Settling::new(live.clone(), bring, settle).run());
        let settles = async |settled: &mut watch::Receiver<Progress>, number| {
            settled.wait_for(|settled| *settled == progress(number)).await.unwrap();
        };
        settles(&mut settled, Some(1)).await;

        let first = ending(&live);
        brought.send_replace(progress(Some(2)));
        // The clock is paused, so this returns when no task can make progress.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let second = ending(&live);
        brought.send_replace(progress(Some(3)));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(*settled.borrow(), progress(Some(1)), "an ended connection is not gone");
        drop(first);
        settles(&mut settled, Some(2)).await;
        brought.send_replace(progress(None));
        settles(&mut settled, None).await;
        brought.send_replace(progress(Some(4)));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(*settled.borrow(), progress(None));
        drop(second);
        settles(&mut settled, Some(4)).await;
    }
}
