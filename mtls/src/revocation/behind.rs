//! Checks that an announced CRL is in force in time. While it is late, nobody is admitted.
//!
//! It never fetches anything. The keeper fetches, and reports what is in force.

use std::{collections::VecDeque, time::Duration};

use pki::{certificate::IssuerId, crl::CrlNumber, wire::Current};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::{Barrier, LiveSet};

/// How long a CRL may take from its announcement until it is in force. It usually takes milliseconds.
const PROPAGATION: Duration = Duration::from_secs(1);
/// The most announcements with a time of their own. Further ones share the time of the last of them.
const TOLD_APART: usize = 64;

/// Watches the CRL of one issuer.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) live: LiveSet,
    pub(super) issuer: IssuerId,
    pub(super) announced: watch::Receiver<Option<Current>>,
    pub(super) in_force: watch::Receiver<Option<CrlNumber>>,
}

impl Behind {
    /// Raises and lifts the barrier. Never returns.
    pub(super) async fn watch(mut self) {
        let mut outstanding = Outstanding::default();
        let mut is_behind = false;
        loop {
            let announced = self.announced.borrow_and_update().as_ref().map(|current| current.number);
            let in_force = *self.in_force.borrow_and_update();
            let late = outstanding.update(announced, in_force, Instant::now());
            if let Some(announced) = late {
                let barrier = Barrier::Behind { issuer: self.issuer.clone(), announced };
                self.live.bar(barrier);
                if !std::mem::replace(&mut is_behind, true) {
                    let in_force = in_force.map(tracing::field::display);
                    warn!(
                        issuer = %self.issuer,
                        %announced,
                        in_force,
                        "the authority has announced a CRL that is not in force here: nobody is let in until it is"
                    );
                }
            } else if std::mem::take(&mut is_behind) {
                let is_this =
                    |barrier: &Barrier| matches!(barrier, Barrier::Behind { issuer, .. } if *issuer == self.issuer);
                self.live.unbar(is_this);
                let in_force = in_force.map(tracing::field::display);
                info!(issuer = %self.issuer, in_force, "the CRL that the authority has announced is in force");
            }
            let deadline = outstanding.deadline().filter(|_| late.is_none());
            let changed = tokio::select! {
                changed = self.announced.changed() => changed,
                changed = self.in_force.changed() => changed,
                () = async { sleep_until(deadline.unwrap_or_else(Instant::now)).await }, if deadline.is_some() => {
                    Ok(())
                }
            };
            if changed.is_err() {
                // The keeper or the feed has ended, so this task will end too. The barrier must stay as it is.
                return std::future::pending().await;
            }
        }
    }
}

/// Announced CRL numbers that are not in force, the lowest first, with the time of the announcement.
#[derive(Debug, Default)]
struct Outstanding(VecDeque<(CrlNumber, Instant)>);

impl Outstanding {
    /// Returns the lowest number that is late.
    fn update(&mut self, announced: Option<CrlNumber>, in_force: Option<CrlNumber>, now: Instant) -> Option<CrlNumber> {
        while self.0.front().is_some_and(|(number, _)| Some(*number) <= in_force) {
            self.0.pop_front();
        }
        if let Some(announced) = announced.filter(|announced| Some(*announced) > in_force)
            && self.0.back().is_none_or(|(number, _)| *number < announced)
        {
            let is_full = self.0.len() >= TOLD_APART;
            match self.0.back_mut().filter(|_| is_full) {
                Some((number, _)) => *number = announced,
                None => self.0.push_back((announced, now)),
            }
        }
        self.0.front().filter(|(_, at)| *at + PROPAGATION <= now).map(|(number, _)| *number)
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.front().map(|(_, at)| *at + PROPAGATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: i64) -> Option<CrlNumber> {
        CrlNumber::new(number)
    }

    #[test]
    fn a_number_is_late_a_second_after_it_was_announced_whatever_is_announced_after_it() {
        let (mut outstanding, start) = (Outstanding::default(), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(outstanding.update(None, None, start), None);
        assert_eq!(outstanding.update(number(5), number(4), at(0)), None);
        assert_eq!(outstanding.update(number(6), number(4), at(900)), None);
        assert_eq!(outstanding.deadline(), Some(at(1000)));
        assert_eq!(outstanding.update(number(6), number(4), at(1000)), number(5));
        assert_eq!(outstanding.update(number(6), number(5), at(1500)), None, "the next has its own second");
        assert_eq!(outstanding.update(number(7), number(5), at(1900)), number(6));
        assert_eq!(outstanding.update(number(7), number(7), at(1901)), None);
        assert_eq!(outstanding.deadline(), None);
    }

    #[test]
    fn it_stays_small() {
        let (mut outstanding, start) = (Outstanding::default(), Instant::now());
        for announced in 1..1000 {
            outstanding.update(
                number(announced),
                None,
                start + Duration::from_millis(u64::try_from(announced).unwrap()),
            );
        }
        assert_eq!(outstanding.0.len(), TOLD_APART);
        assert_eq!(outstanding.update(number(999), number(998), start + Duration::from_secs(2)), number(999));
    }
}
