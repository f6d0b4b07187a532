//! One stream of the feed: lines that begin with the newest numbers, and end when its reader has to go.
//!
//! It never decides what a line says.

use axum::body::Bytes;
use futures_util::{Stream, stream};
use pki::{time::Timestamp, wire::FEED_HEARTBEAT};
use tokio::sync::{oneshot, watch};
use tracing::info;

use super::{
    Announced, Feed, Member,
    party::{OpenStream, Unwritten},
};

impl Feed {
    /// Registers the relying party and returns what it gets to read: lines that begin with the newest numbers, and end
    /// when it is revoked, its certificate ends or the daemon does.
    pub(crate) fn subscribe(&self, member: &Member) -> impl Stream<Item = Bytes> + Send + use<> {
        let now = self.0.clock.now();
        let (lifeline, dismissed) = oneshot::channel();
        self.with_party(member, |party| {
            party.record.connected_since.get_or_insert(now);
            party.streams.push(OpenStream { serial: member.serial, lifeline });
            party.unwritten = Unwritten::Change;
        });
        info!(relying_party = %member.name, address = %member.address, serial = %member.serial, "relying party connected");
        let mut announced = self.0.announced.subscribe();
        announced.mark_changed();
        let subscription = Subscription {
            announced,
            is_closed: self.0.is_closed.subscribe(),
            dismissed,
            not_after: member.not_after,
            leaving: Leaving { feed: self.clone(), name: member.name.clone() },
        };
        stream::unfold(subscription, async |mut subscription| {
            let line = subscription.next().await?;
            Some((line, subscription))
        })
    }
}

struct Subscription {
    announced: watch::Receiver<Announced>,
    is_closed: watch::Receiver<bool>,
    dismissed: oneshot::Receiver<()>,
    not_after: Timestamp,
    leaving: Leaving,
}

impl Subscription {
    /// The next line, or the end.
    async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            _ = &mut self.dismissed => return None,
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
    name: String,
}

impl Leaving {
    fn leave(&self) {
        let now = self.feed.0.clock.now();
        let mut parties = self.feed.parties();
        let Some(party) = parties.get_mut(&self.name) else { return };
        // One that reconnects is often here before its old stream is known to be dead.
        party.streams.retain(|stream| !stream.lifeline.is_closed());
        if party.streams.is_empty() && party.record.connected_since.take().is_some() {
            party.unwritten = Unwritten::Change;
            info!(relying_party = %self.name, last_seen = %party.record.last_seen, %now, "relying party disconnected");
        }
    }
}
