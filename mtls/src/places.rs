//! The places of a listener that strangers reach: a bounded number of connections, by the memory and the files that there are. Who has
//! come last gets in, and of those who are not known the oldest goes for it.
//!
//! It never ends a connection itself; its holder does when it is told to.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Resource, getrlimit};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::memory;

/// What a connection may cost that is known, in bytes of memory ...
const COST: u64 = 128 * 1024;
/// ... and what one may cost that is not.
const STRANGERS_COST: u64 = 512 * 1024;
/// How many are looked at for one that is idle.
const LOOK: usize = 1024;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// Nobody that is known (yet).
    Stranger,
    /// A client with a certificate.
    Client,
    /// A relying party, whom revocations wait for.
    RelyingParty,
}

/// The places of one listener; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: usize,
    strangers: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    /// By rank, the oldest first.
    by_rank: [BTreeMap<u64, Holder>; 3],
    /// Whether it was said that somebody had to go; said again only after half of the places were free.
    was_full: bool,
}

#[derive(Debug)]
struct Holder {
    /// How many requests are in progress.
    in_progress: watch::Receiver<usize>,
    gone: CancellationToken,
}

/// A place, free again when it is dropped.
pub(crate) struct Place {
    places: Places,
    id: u64,
    rank: Rank,
    gone: CancellationToken,
}

impl Places {
    /// As many as memory and files allow; a third of the files, as [`Slots`](crate::bounded) have.
    pub(crate) fn for_listener() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 3;
        let places = |cost: u64| usize::try_from(files.min(memory::limit() / cost)).unwrap_or(usize::MAX).max(16);
        // Where files are few, those who are known have half of them.
        let total = places(COST);
        Self::new(total, places(STRANGERS_COST).min((total / 2).max(1)))
    }

    fn new(total: usize, strangers: usize) -> Self {
        Self(Arc::new(Shared { total, strangers, held: Mutex::default() }))
    }

    /// A place for one that has just come. None where all are held by those who have more right to them.
    pub(crate) fn take(&self, in_progress: watch::Receiver<usize>) -> Option<Place> {
        let mut held = self.held();
        let strangers = held.of(Rank::Stranger).len();
        if strangers >= self.0.strangers || held.count() >= self.0.total {
            if !std::mem::replace(&mut held.was_full, true) {
                warn!(
                    open = held.count(),
                    strangers,
                    "too many connections are open: whoever comes takes the place of the oldest that is not known"
                );
            }
            if !held.let_one_go(Rank::Stranger) && !held.let_one_go(Rank::Client) {
                return None;
            }
        } else if strangers < self.0.strangers / 2 {
            held.was_full = false;
        }
        let (id, gone) = (held.next, CancellationToken::new());
        held.next += 1;
        held.of(Rank::Stranger).insert(id, Holder { in_progress, gone: gone.clone() });
        drop(held);
        Some(Place { places: self.clone(), id, rank: Rank::Stranger, gone })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn of(&mut self, rank: Rank) -> &mut BTreeMap<u64, Holder> {
        &mut self.by_rank[match rank {
            Rank::Stranger => 0,
            Rank::Client => 1,
            Rank::RelyingParty => 2,
        }]
    }

    fn count(&self) -> usize {
        self.by_rank.iter().map(BTreeMap::len).sum()
    }

    /// The oldest without a request in progress goes, or else the oldest. Whether there is one.
    fn let_one_go(&mut self, rank: Rank) -> bool {
        let of_rank = self.of(rank);
        let idle = of_rank.iter().take(LOOK).find(|(_, holder)| *holder.in_progress.borrow() == 0);
        let Some(id) = idle.or_else(|| of_rank.first_key_value()).map(|(id, _)| *id) else { return false };
        if let Some(holder) = of_rank.remove(&id) {
            holder.gone.cancel();
        }
        true
    }
}

impl Place {
    /// Notes who has come. Clients never hold more than three quarters of all places: the oldest goes for the newest.
    pub(crate) fn promote(&mut self, rank: Rank) {
        let mut held = self.places.held();
        let Some(holder) = held.of(self.rank).remove(&self.id) else { return };
        if rank == Rank::Client && held.of(rank).len() >= (self.places.0.total * 3 / 4).max(1) {
            held.let_one_go(rank);
        }
        held.of(rank).insert(self.id, holder);
        drop(held);
        self.rank = rank;
    }

    /// Resolves when somebody else has got the place.
    pub(crate) async fn gone(&self) {
        self.gone.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.held().of(self.rank).remove(&self.id);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("id", &self.id).field("rank", &self.rank).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(requests: usize) -> watch::Receiver<usize> {
        watch::Sender::new(requests).subscribe()
    }

    fn is_gone(place: &Place) -> bool {
        place.gone.is_cancelled()
    }

    #[test]
    fn the_oldest_idle_stranger_goes_for_who_comes_and_then_the_oldest() {
        let places = Places::new(10, 3);
        let [busy_one, idle, later] = [1, 0, 1].map(|requests| places.take(busy(requests)).unwrap());
        let fourth = places.take(busy(1)).unwrap();
        assert!(is_gone(&idle) && !is_gone(&busy_one) && !is_gone(&later));
        drop(idle);
        let fifth = places.take(busy(1)).unwrap();
        assert!(is_gone(&busy_one) && !is_gone(&later) && !is_gone(&fourth));
        drop(busy_one);
        drop(later);
        assert!(places.take(busy(1)).is_some() && !is_gone(&fourth) && !is_gone(&fifth));
    }

    #[test]
    fn no_stranger_takes_the_place_of_one_that_is_known_and_no_client_that_of_a_relying_party() {
        let places = Places::new(8, 4);
        let come = |rank| {
            let mut place = places.take(busy(0)).unwrap();
            place.promote(rank);
            place
        };
        let mut clients: Vec<_> = std::iter::repeat_with(|| come(Rank::Client)).take(6).collect();
        let first = come(Rank::RelyingParty);
        let next = come(Rank::Client);
        assert!(is_gone(&clients.remove(0)) && !clients.iter().any(is_gone));
        let strangers: Vec<_> = std::iter::repeat_with(|| places.take(busy(1)).unwrap()).take(20).collect();
        assert!(!clients.iter().chain([&first, &next]).any(is_gone));
        assert_eq!(strangers.iter().filter(|place| !is_gone(place)).count(), 1);
        // Where only relying parties are left, nobody goes.
        let places = Places::new(2, 1);
        let parties = std::iter::repeat_with(|| {
            let mut place = places.take(busy(0)).unwrap();
            place.promote(Rank::RelyingParty);
            place
        });
        let parties: Vec<_> = parties.take(2).collect();
        assert!(places.take(busy(0)).is_none() && !parties.iter().any(is_gone));
    }
}
