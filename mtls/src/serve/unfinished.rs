//! The handshakes that are under way in this process, and the memory that strangers may hold with them: where a new one needs room, the
//! oldest one goes.
//!
//! It never ends a connection itself: whoever shakes hands does when it is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use edge::listen::file_limit;
use edge::memory;
use tokio_util::sync::CancellationToken;

/// The share of this process's memory that handshakes may hold.
const SHARE: u64 = 4;
/// What a handshake takes before its peer has sent anything, in bytes: a task, the state of TLS, the socket.
const EACH: u64 = 24 * 1024;
/// The share of the files that this process may open: half of what a listener has slots for, so that there is always one for whoever
/// comes next.
const SHARE_OF_FILES: u64 = 6;

/// Handshakes that are under way; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished(Arc<Mutex<Queue>>);

#[derive(Debug)]
struct Queue {
    /// In bytes.
    most: u64,
    held: u64,
    next: u64,
    /// By when they began.
    places: BTreeMap<u64, HeldByHandshake>,
}

#[derive(Debug)]
struct HeldByHandshake {
    bytes: u64,
    displaced: CancellationToken,
}

/// The place of one handshake, until it is dropped.
#[derive(Debug)]
pub(crate) struct HandshakePlace {
    of: Unfinished,
    number: u64,
    displaced: CancellationToken,
}

impl Unfinished {
    /// Those of this process, whichever listener they have come to: it has one memory.
    pub(crate) fn here() -> Self {
        static HERE: OnceLock<Unfinished> = OnceLock::new();
        let most = || (memory::limit() / SHARE).min((file_limit::current() / SHARE_OF_FILES).saturating_mul(EACH));
        HERE.get_or_init(|| Self::new(most())).clone()
    }

    fn new(most: u64) -> Self {
        Self(Arc::new(Mutex::new(Queue { most, held: 0, next: 0, places: BTreeMap::new() })))
    }

    /// A place for one more.
    pub(crate) fn begin(&self) -> HandshakePlace {
        let displaced = CancellationToken::new();
        let mut queue = self.lock();
        let number = queue.next;
        queue.next += 1;
        queue.places.insert(number, HeldByHandshake { bytes: 0, displaced: displaced.clone() });
        queue.hold(number, EACH);
        HandshakePlace { of: self.clone(), number, displaced }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Counts what this one holds more. Who was displaced is not counted any more: its end is a matter of moments.
    fn hold(&mut self, number: u64, bytes: u64) {
        let Some(held) = self.places.get_mut(&number) else { return };
        held.bytes += bytes;
        self.held += bytes;
        while self.held > self.most
            && self.places.len() > 1
            && let Some((_, oldest)) = self.places.pop_first()
        {
            self.held -= oldest.bytes;
            oldest.displaced.cancel();
        }
    }
}

impl HandshakePlace {
    /// Counts what the peer has sent.
    pub(crate) fn received(&self, bytes: usize) {
        self.of.lock().hold(self.number, bytes as u64);
    }

    /// Cancelled when the handshake has to go.
    pub(crate) fn displaced(&self) -> CancellationToken {
        self.displaced.clone()
    }
}

impl Drop for HandshakePlace {
    fn drop(&mut self) {
        let mut queue = self.of.lock();
        if let Some(held) = queue.places.remove(&self.number) {
            queue.held -= held.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_where_a_new_one_or_what_was_sent_needs_the_room() {
        let unfinished = Unfinished::new(4 * EACH);
        let mut places: Vec<_> = (0..4).map(|_| unfinished.begin()).collect();
        let displaced =
            |places: &[HandshakePlace]| places.iter().map(|it| it.displaced().is_cancelled()).collect::<Vec<_>>();
        assert_eq!(displaced(&places), [false; 4]);
        places.push(unfinished.begin());
        assert_eq!(displaced(&places), [true, false, false, false, false]);
        places[3].received(usize::try_from(EACH).unwrap());
        assert_eq!(displaced(&places), [true, true, false, false, false], "what was sent counts");
        places.remove(2);
        places.push(unfinished.begin());
        assert_eq!(displaced(&places), [true, true, false, false, false], "who is done holds nothing");
        places[4].received(usize::try_from(8 * EACH).unwrap());
        assert_eq!(displaced(&places), [true, true, true, true, false], "the oldest may be the newest");
        places.clear();
        let queue = unfinished.lock();
        assert_eq!((queue.held, queue.places.len()), (0, 0));
    }
}
