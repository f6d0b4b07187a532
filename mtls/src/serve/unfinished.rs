//! The unfinished handshakes of this process, and the memory that strangers may hold with them. If a new one needs
//! room, the oldest one is displaced.
//!
//! It never ends a connection itself. The handshake ends when it is displaced.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use edge::listen::file_limit;
use edge::memory;
use tokio_util::sync::CancellationToken;

/// The fraction of this process's memory (1/4) that handshakes may hold.
const SHARE: u64 = 4;
/// What a handshake takes before its peer has sent anything, in bytes: a task, the state of TLS, the socket.
const EACH: u64 = 24 * 1024;
/// The fraction (1/6) of the files that this process may open. It is half of a listener's slots, so a new connection
/// always gets one.
const SHARE_OF_FILES: u64 = 6;

/// Unfinished handshakes. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished(Arc<Mutex<Queue>>);

#[derive(Debug)]
struct Queue {
    /// The limit in bytes.
    most: u64,
    held: u64,
    next: u64,
    /// In the order in which they began.
    places: BTreeMap<u64, HeldByHandshake>,
}

#[derive(Debug)]
struct HeldByHandshake {
    bytes: u64,
    displaced: CancellationToken,
}

/// The place of one handshake. Dropping it ends the handshake's count.
#[derive(Debug)]
pub(crate) struct HandshakePlace {
    of: Unfinished,
    number: u64,
    displaced: CancellationToken,
}

impl Unfinished {
    /// Shared by all listeners of this process, because it has one memory.
    pub(crate) fn here() -> Self {
        static HERE: OnceLock<Unfinished> = OnceLock::new();
        let most = || (memory::limit() / SHARE).min((file_limit::current() / SHARE_OF_FILES).saturating_mul(EACH));
        HERE.get_or_init(|| Self::new(most())).clone()
    }

    fn new(most: u64) -> Self {
        Self(Arc::new(Mutex::new(Queue { most, held: 0, next: 0, places: BTreeMap::new() })))
    }

    /// Adds a handshake.
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
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Counts bytes that this handshake holds in addition. A displaced one is not counted any more, because it ends
    /// within moments.
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
    /// Counts bytes from the peer.
    pub(crate) fn received(&self, bytes: usize) {
        self.of.lock().hold(self.number, bytes as u64);
    }

    /// Cancelled when the handshake is displaced.
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
    fn the_oldest_is_displaced_if_a_new_handshake_or_received_bytes_need_room() {
        let unfinished = Unfinished::new(4 * EACH);
        let mut places: Vec<_> = (0..4).map(|_| unfinished.begin()).collect();
        let displaced =
            |places: &[HandshakePlace]| places.iter().map(|it| it.displaced().is_cancelled()).collect::<Vec<_>>();
        assert_eq!(displaced(&places), [false; 4]);
        places.push(unfinished.begin());
        assert_eq!(displaced(&places), [true, false, false, false, false]);
        places[3].received(usize::try_from(EACH).unwrap());
        assert_eq!(displaced(&places), [true, true, false, false, false], "received bytes count");
        places.remove(2);
        places.push(unfinished.begin());
        assert_eq!(displaced(&places), [true, true, false, false, false], "a finished handshake holds nothing");
        places[4].received(usize::try_from(8 * EACH).unwrap());
        assert_eq!(displaced(&places), [true, true, true, true, false], "the oldest may also be the newest");
        places.clear();
        let queue = unfinished.lock();
        assert_eq!((queue.held, queue.places.len()), (0, 0));
    }
}
