//! One stream of the feed: an instance comes with it, hears lines that begin with the newest numbers, and has to go when it ends.
//!
//! It never decides what a line says.

use axum::body::Bytes;
use futures_util::{Stream, stream};
use pki::{instance::InstanceId, time::Timestamp, wire::FEED_HEARTBEAT};
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use super::{
    Announced, Feed, Member,
    registry::{MOST_OF_A_CERTIFICATE, Predecessor, TooMany},
};
use crate::store::{InstanceKey, StoreError};

/// Why an instance does not get on the feed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubscribeError {
    #[error(
        "the certificate of {0} has {MOST_OF_A_CERTIFICATE} instances already, and no other is let on the feed; enroll each \
         instance, let each say goodbye, or forget those that are gone: ca-daemon relying-parties forget {0}"
    )]
    TooMany(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Feed {
    /// Registers the instance, durably, in the place of its predecessors. Returns what it gets to read: lines that begin with the newest
    /// numbers, and end when it is revoked, its certificate ends or the daemon does; and those of its predecessors that are still
    /// expected, because they are connected.
    pub(crate) async fn subscribe(
        &self,
        member: &Member,
        predecessors: &[InstanceId],
    ) -> Result<(impl Stream<Item = Bytes> + Send + use<>, Vec<InstanceId>), SubscribeError> {
        let now = self.0.clock.now();
        let (lifeline, dismissed) = oneshot::channel();
        let fates = {
            let mut registry = self.registry();
            registry.enter(member, predecessors, lifeline, now).map(|()| registry.succeed(&member.key(), predecessors))
        };
        let fates = fates.map_err(|TooMany| {
            warn!(relying_party = %member.name, serial = %member.serial, "refused: too many instances with one certificate");
            SubscribeError::TooMany(member.name.clone())
        })?;
        let mut announced = self.0.announced.subscribe();
        announced.mark_changed();
        let subscription = Subscription {
            announced,
            is_closed: self.0.is_closed.subscribe(),
            dismissed,
            has_ended: false,
            not_after: member.not_after,
            // From here on it leaves however this ends.
            leaving: Leaving { feed: self.clone(), key: member.key() },
        };
        self.write_now().await?;
        let (relying_party, instance) = (&member.name, member.instance.short());
        info!(relying_party, instance, address = %member.address, serial = %member.serial, "relying party connected");
        let mut standing = Vec::new();
        for (id, fate) in fates {
            let predecessor = id.short();
            match fate {
                // It will end its stream with the certificate before this one.
                Predecessor::Connected(_) if id == member.instance => {
                    info!(relying_party, instance, serial = %member.serial, "the same run under its next certificate");
                }
                Predecessor::Replaced(name) => {
                    info!(relying_party, instance, predecessor, %name, "it takes the place of one that ended without a word");
                }
                Predecessor::Connected(name) => {
                    warn!(relying_party, instance, predecessor, %name, "its predecessor is connected, and stays for now");
                    standing.push(id);
                }
            }
        }
        let lines = stream::unfold(subscription, async |mut subscription| {
            let line = subscription.next().await?;
            Some((line, subscription))
        });
        Ok((lines, standing))
    }

    /// Expects nothing more of the instance, durably: it has said that it admits nobody any more. Whether it was on the feed.
    pub(crate) async fn goodbye(&self, member: &Member) -> Result<bool, StoreError> {
        let now = self.0.clock.now();
        {
            let mut registry = self.registry();
            if registry.connected(member, now).is_none() {
                return Ok(false);
            }
            registry.remove(&member.key());
        }
        self.note_change();
        self.write_now().await?;
        info!(relying_party = %member.name, instance = %member.instance.short(), "relying party said goodbye");
        Ok(true)
    }
}

struct Subscription {
    announced: watch::Receiver<Announced>,
    is_closed: watch::Receiver<bool>,
    dismissed: oneshot::Receiver<()>,
    has_ended: bool,
    not_after: Timestamp,
    leaving: Leaving,
}

impl Subscription {
    /// The next line, or the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        tokio::select! {
            biased;
            // Whoever has to go hears the reason for it: the list that revokes its certificate.
            _ = &mut self.dismissed => self.has_ended = true,
            _ = self.is_closed.wait_for(|closed| *closed) => return None,
            changed = self.announced.changed() => changed.ok()?,
            // Early enough to arrive within the time.
            () = tokio::time::sleep(FEED_HEARTBEAT * 4 / 5) => {}
        }
        let is_over = self.leaving.feed.0.clock.now() > self.not_after;
        (!is_over).then(|| self.announced.borrow_and_update().line.clone())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.dismissed.close();
        self.leaving.leave();
    }
}

/// Who goes when a stream ends, for whatever reason.
struct Leaving {
    feed: Feed,
    key: InstanceKey,
}

impl Leaving {
    fn leave(&self) {
        let mut registry = self.feed.registry();
        if let Some(record) = registry.leave(&self.key) {
            let (relying_party, instance) = (&record.name, record.instance.short());
            info!(relying_party, instance, last_seen = %record.last_seen, "relying party disconnected");
        }
        drop(registry);
        self.feed.note_change();
    }
}

/// That an instance is alive which another one has claimed to replace.
pub(super) fn complain_of_copy(relying_party: &str, instance: InstanceId) {
    error!(
        relying_party,
        instance = instance.short(),
        "another instance has this one's secret and claimed its place, but it is alive: their directory was copied. Both are expected \
         to confirm; give each service a directory of its own"
    );
}
