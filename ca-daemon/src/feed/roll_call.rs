//! Roll calls: who of the relying parties' clients is connected where, right now.
//!
//! It never remembers an answer for longer than somebody waits for it, and takes one answer from each instance.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use pki::wire::RollCallAnswer;
use tokio::sync::watch;

use super::{ConfirmError, Feed, Member};
use crate::store::InstanceKey;

/// The roll calls that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct RollCalls {
    last: u64,
    open: BTreeMap<u64, BTreeMap<InstanceKey, Arc<RollCallAnswer>>>,
}

/// One of them; it is over when this is dropped.
#[derive(Debug)]
pub(crate) struct RollCall {
    feed: Feed,
    id: u64,
}

impl Feed {
    /// Asks everybody who is on the feed, and whoever comes while the answer is held.
    pub(crate) fn call_roll(&self) -> RollCall {
        let id = {
            let mut calls = self.roll_calls();
            calls.last += 1;
            let id = calls.last;
            calls.open.insert(id, BTreeMap::new());
            id
        };
        self.0.announced.send_modify(|announced| {
            // Two at once may come here in the other order; whoever answers the later one has answered both.
            let last = announced.roll_call.max(Some(id));
            *announced = announced.asking(&self.0.urls, last);
        });
        RollCall { feed: self.clone(), id }
    }

    /// Takes the answer of an instance that is on the feed; to a roll call that is over, for nothing.
    pub(crate) fn answer_roll_call(&self, member: &Member, answer: RollCallAnswer) -> Result<(), ConfirmError> {
        let now = self.0.clock.now();
        self.registry().connected(member, now).ok_or(ConfirmError::NotOnTheFeed)?;
        let answer = Arc::new(answer);
        // Given after a later question, so it is good for every earlier one.
        for answers in self.roll_calls().open.range_mut(..=answer.id).map(|(_, answers)| answers) {
            answers.entry(member.key()).or_insert_with(|| Arc::clone(&answer));
        }
        self.0.roll_answered.send_modify(|count| *count += 1);
        Ok(())
    }

    fn roll_calls(&self) -> MutexGuard<'_, RollCalls> {
        self.0.roll_calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RollCall {
    /// What each has answered so far.
    pub(crate) fn answers(&self) -> BTreeMap<InstanceKey, Arc<RollCallAnswer>> {
        self.feed.roll_calls().open.get(&self.id).cloned().unwrap_or_default()
    }

    /// Changes with each answer, to whichever roll call.
    pub(crate) fn answered(&self) -> watch::Receiver<u64> {
        self.feed.0.roll_answered.subscribe()
    }
}

impl Drop for RollCall {
    fn drop(&mut self) {
        let mut calls = self.feed.roll_calls();
        calls.open.remove(&self.id);
        if calls.open.is_empty() {
            // Whoever connects from now on is not asked; nobody else needs to hear that.
            self.feed.0.announced.send_if_modified(|announced| {
                *announced = announced.asking(&self.feed.0.urls, None);
                false
            });
        }
    }
}
