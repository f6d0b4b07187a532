//! Measures the time from the commit of a CRL until each instance confirms it: the promise of `revoke`, measured all
//! the time.
//!
//! It never decides what is enforced.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pki::crl::CrlNumber;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

use super::{Announced, instance::Word};
use crate::{issuer::Issuer, store::RelyingParty};

/// In seconds. A revocation takes a few milliseconds. One that waits for a poll or a reconnection takes seconds. A
/// service that was away takes longer than the last bucket.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Debug)]
pub(super) struct ConfirmationTimes {
    times: Histogram,
    /// For the root and for the issuing CA.
    newest: Mutex<[Newest; 2]>,
}

/// The newest CRL of an issuer.
#[derive(Clone, Copy, Debug)]
struct Newest {
    number: CrlNumber,
    /// None if it was committed before the daemon started.
    committed: Option<Instant>,
}

impl ConfirmationTimes {
    pub(super) fn new(announced: &Announced) -> Self {
        let newest = [announced.root.number, announced.issuing.number];
        let newest = newest.map(|number| Newest { number, committed: None });
        Self { times: Histogram::new(BUCKETS), newest: Mutex::new(newest) }
    }

    pub(super) fn histogram(&self) -> Histogram {
        self.times.clone()
    }

    /// Sets the newest numbers of the root and of the issuing CA.
    pub(super) fn announced(&self, numbers: [CrlNumber; 2]) {
        let now = Instant::now();
        for (newest, number) in self.lock().iter_mut().zip(numbers) {
            if number > newest.number {
                *newest = Newest { number, committed: Some(now) };
            }
        }
    }

    /// Sets when a CRL was committed, as the command reports it: that is earlier than when the daemon noticed it.
    pub(super) fn committed(&self, issuer: Issuer, number: CrlNumber, at: Instant) {
        let newest = &mut self.lock()[place(issuer)];
        if newest.number == number {
            newest.committed = newest.committed.map(|noticed| noticed.min(at));
        }
    }

    /// Measures a confirmation. `before` is what was known of the instance.
    pub(super) fn confirmed(&self, before: &RelyingParty, word: &Word, at: Instant) {
        let newest = *self.lock();
        let said =
            [(Issuer::Root, before.root_crl_number, word.root), (Issuer::Issuing, before.crl_number, word.issuing)];
        for (issuer, before, now) in said {
            let newest = newest[place(issuer)];
            if let (Some(committed), true) = (newest.committed, now == Some(newest.number) && before < now) {
                self.times.observe(at.saturating_duration_since(committed).as_secs_f64());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, [Newest; 2]> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(issuer: Issuer) -> usize {
    match issuer {
        Issuer::Root => 0,
        Issuer::Issuing => 1,
    }
}
