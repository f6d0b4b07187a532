//! The wait for confirmations: which instances enforce a CRL, as they confirm it.
//!
//! It never waits for an instance whose own certificate is revoked.

use std::{collections::BTreeSet, io, time::Duration};

use tokio::time::Instant;

use super::{Confirmed, Wait, respond::Asker};
use crate::{
    feed::{Feed, Progress},
    store::RelyingParty,
};

impl Asker {
    /// Sends which instances enforce the CRL as they confirm it, and in the end those that do not.
    pub(super) async fn follow(&mut self, feed: &Feed, wait: Wait, arrived: Instant) -> io::Result<()> {
        let committed = wait.committed(arrived);
        let deadline = arrived + Duration::from_millis(wait.timeout_millis);
        let mut confirmations = feed.confirmations();
        let mut is_closed = feed.is_closed();
        let parties = feed.relying_parties();
        let revoked_before: BTreeSet<_> =
            parties.iter().filter(|party| party.certificate_revoked).map(RelyingParty::key).collect();
        self.send(&Confirmed::RelyingParties(parties)).await?;
        let mut said = BTreeSet::new();
        loop {
            confirmations.mark_unchanged();
            let (mut missing, mut dismissed) = (Vec::new(), Vec::new());
            for progress in feed.progress(wait.issuer, wait.number, committed) {
                let Progress { party, enforced } = progress;
                match enforced {
                    // It is not waited for.
                    _ if party.certificate_revoked => dismissed.push(party),
                    Some(enforced) if said.insert(party.key()) => {
                        self.send(&Confirmed::Enforced { party: Box::new(party), enforced }).await?;
                    }
                    Some(_) => {}
                    None if said.contains(&party.key()) => {}
                    None => missing.push(party),
                }
            }
            let is_over = Instant::now() >= deadline || *is_closed.borrow();
            if missing.is_empty() || is_over {
                // An instance whose certificate is revoked during the wait must not disappear from the answers.
                let is_news =
                    |party: &RelyingParty| !said.contains(&party.key()) && !revoked_before.contains(&party.key());
                missing.extend(dismissed.into_iter().filter(is_news));
                return self.send(&Confirmed::Missing(missing)).await;
            }
            tokio::select! {
                _ = confirmations.changed() => {}
                _ = is_closed.wait_for(|closed| *closed) => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = self.gone() => return Ok(()),
            }
        }
    }
}
