//! The roll call: which clients are connected to which relying party, as they answer.
//!
//! It never waits for an instance that is not on the feed.

use std::{collections::BTreeSet, io};

use tokio::time::Instant;

use super::{Called, respond::Asker};
use crate::feed::Feed;

impl Asker {
    /// Passes on the answers of relying parties as they arrive, and in the end those that did not answer.
    pub(super) async fn call_roll(&mut self, feed: &Feed, deadline: Instant) -> io::Result<()> {
        let call = feed.call_roll();
        let mut answered = call.answered();
        let mut is_closed = feed.is_closed();
        let mut said = BTreeSet::new();
        loop {
            answered.mark_unchanged();
            let (answers, mut silent) = (call.answers(), Vec::new());
            for party in feed.relying_parties() {
                match answers.get(&party.key()) {
                    Some(answer) if said.insert(party.key()) => {
                        self.send(&Called::Present { party: Box::new(party), answer: answer.as_ref().clone() }).await?;
                    }
                    Some(_) => {}
                    None => silent.push(party),
                }
            }
            // Instances that are not on the feed are not waited for.
            let is_complete = silent.iter().all(|party| party.connected_since.is_none());
            if is_complete || Instant::now() >= deadline || *is_closed.borrow() {
                return self.send(&Called::Missing(silent)).await;
            }
            tokio::select! {
                _ = answered.changed() => {}
                _ = is_closed.wait_for(|closed| *closed) => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = self.gone() => return Ok(()),
            }
        }
    }
}
