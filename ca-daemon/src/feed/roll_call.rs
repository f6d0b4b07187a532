//! Roll calls: which clients are connected to which relying party, right now.
//!
//! It never keeps an answer longer than a command waits for it, and takes one answer from each instance.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use pki::wire::RollCallAnswer;
use tokio::sync::watch;

use super::{ConfirmError, Feed, Member};
use crate::store::InstanceKey;

/// The roll calls that are open.
#[derive(Debug, Default)]
pub(super) struct RollCalls {
    last: u64,
    open: BTreeMap<u64, BTreeMap<InstanceKey, Arc<RollCallAnswer>>>,
}

/// An open roll call. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct RollCall {
    feed: Feed,
    id: u64,
}

impl Feed {
    /// Asks every instance on the feed, and every one that connects while the result is held.
    pub(crate) fn call_roll(&self) -> RollCall {
        let id = {
            let mut calls = self.roll_calls();
            calls.last += 1;
            let id = calls.last;
            calls.open.insert(id, BTreeMap::new());
            id
        };
        self.0.announced.send_modify(|announced| {
            // Two roll calls may arrive here in reverse order. An answer to the later one counts for both.
            let last = announced.roll_call.max(Some(id));
            *announced = announced.asking(&self.0.urls, last);
        });
        RollCall { feed: self.clone(), id }
    }

    /// Takes the answer of an instance that is on the feed. An answer to a roll call that is over is dropped.
    pub(crate) fn answer_roll_call(&self, member: &Member, answer: RollCallAnswer) -> Result<(), ConfirmError> {
        let now = self.0.clock.now();
        self.registry().connected(member, now).ok_or(ConfirmError::NotOnTheFeed)?;
        let answer = Arc::new(answer);
        // It was given after a later question, so it counts for all earlier ones.
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
    /// The answers so far.
    pub(crate) fn answers(&self) -> BTreeMap<InstanceKey, Arc<RollCallAnswer>> {
        self.feed.roll_calls().open.get(&self.id).cloned().unwrap_or_default()
    }

    /// Changes with each answer to any roll call.
    pub(crate) fn answered(&self) -> watch::Receiver<u64> {
        self.feed.0.roll_answered.subscribe()
    }
}

impl Drop for RollCall {
    fn drop(&mut self) {
        let mut calls = self.feed.roll_calls();
        calls.open.remove(&self.id);
        if calls.open.is_empty() {
            // Instances that connect from now on are not asked. The others need no notification of that.
            self.feed.0.announced.send_if_modified(|announced| {
                *announced = announced.asking(&self.feed.0.urls, None);
                false
            });
        }
    }
}
