//! The places of a listener that strangers reach: a bounded number of connections, by the memory and the files that there are. Who has
//! come last gets in, and of those who are not known the oldest goes for it.
//!
//! It never ends a connection itself; its holder does when it is told to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use edge::listen::file_limit;
use edge::memory;
use pki::certificate::Fingerprint;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// What a connection may cost that is known, in bytes of memory ...
const COST: u64 = 128 * 1024;
/// ... and what one may cost that is not.
const STRANGERS_COST: u64 = 512 * 1024;
/// How many places those with one certificate have in any case, as far as there are twice as many: a relying party's instances share one,
/// and each may come back before its last connection is gone.
const OF_A_CERTIFICATE: usize = 64;
/// How many are looked at for one that is idle.
const LOOK: usize = 1024;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// Nobody that is known (yet).
    Stranger = 0,
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
    held: Mutex<Ranks>,
}

#[derive(Debug, Default)]
struct Ranks {
    next: u64,
    /// By rank, the oldest first.
    by_rank: [BTreeMap<u64, Holder>; 3],
    by_certificate: HashMap<Fingerprint, BTreeSet<u64>>,
    /// Whether it was said that somebody had to go; said again only after half of the places were free.
    was_full: bool,
}

#[derive(Debug)]
struct Holder {
    /// How many requests are in progress.
    in_progress: watch::Receiver<usize>,
    gone: CancellationToken,
    certificate: Option<Fingerprint>,
}

/// A place, free again when it is dropped.
pub(crate) struct Place {
    places: Places,
    id: u64,
    rank: Rank,
    gone: CancellationToken,
}

impl Places {
    /// As many as memory and files allow; a third of the files, as [`Slots`](edge::listen::bounded) have.
    pub(crate) fn for_listener() -> Self {
        let files = file_limit::current() / 3;
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
            let is_free = held.let_one_go(Rank::Stranger)
                || held.let_one_go(Rank::Client)
                || held.let_an_idle_one_go(Rank::RelyingParty);
            if !is_free {
                return None;
            }
        } else if strangers < self.0.strangers / 2 {
            held.was_full = false;
        }
        let (id, gone) = (held.next, CancellationToken::new());
        held.next += 1;
        held.of(Rank::Stranger).insert(id, Holder { in_progress, gone: gone.clone(), certificate: None });
        drop(held);
        Some(Place { places: self.clone(), id, rank: Rank::Stranger, gone })
    }

    fn held(&self) -> MutexGuard<'_, Ranks> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ranks {
    fn of(&mut self, rank: Rank) -> &mut BTreeMap<u64, Holder> {
        &mut self.by_rank[rank as usize]
    }

    fn count(&self) -> usize {
        self.by_rank.iter().map(BTreeMap::len).sum()
    }

    fn insert(&mut self, rank: Rank, id: u64, holder: Holder) {
        if let Some(certificate) = holder.certificate {
            self.by_certificate.entry(certificate).or_default().insert(id);
        }
        self.of(rank).insert(id, holder);
    }

    fn remove(&mut self, rank: Rank, id: u64) -> Option<Holder> {
        let holder = self.of(rank).remove(&id)?;
        if let Some(certificate) = holder.certificate
            && let Some(ids) = self.by_certificate.get_mut(&certificate)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_certificate.remove(&certificate);
            }
        }
        Some(holder)
    }

    fn let_go(&mut self, rank: Rank, id: Option<u64>) -> bool {
        let holder = id.and_then(|id| self.remove(rank, id));
        holder.is_some_and(|holder| {
            holder.gone.cancel();
            true
        })
    }

    /// The oldest without a request in progress goes, or else the oldest. Whether there is one.
    fn let_one_go(&mut self, rank: Rank) -> bool {
        self.let_an_idle_one_go(rank) || {
            let oldest = self.of(rank).first_key_value().map(|(id, _)| *id);
            self.let_go(rank, oldest)
        }
    }

    /// The oldest without a request in progress goes. Whether there is one.
    fn let_an_idle_one_go(&mut self, rank: Rank) -> bool {
        let idle = self.of(rank).iter().take(LOOK).find(|(_, holder)| holder.is_idle()).map(|(id, _)| *id);
        self.let_go(rank, idle)
    }

    /// One of those with this certificate goes, where they hold as many places as they may.
    fn make_room_among(&mut self, certificate: Fingerprint, rank: Rank, most: usize) {
        let Some(ids) = self.by_certificate.get(&certificate).filter(|ids| ids.len() >= most) else { return };
        let of_rank = &self.by_rank[rank as usize];
        let idle = ids.iter().find(|id| of_rank.get(id).is_some_and(Holder::is_idle));
        let id = idle.or_else(|| ids.first()).copied();
        self.let_go(rank, id);
    }
}

impl Holder {
    fn is_idle(&self) -> bool {
        *self.in_progress.borrow() == 0
    }
}

impl Place {
    /// Notes who has come, and with which certificate. Clients never hold more than three quarters of all places, and those with one
    /// certificate an eighth: the oldest goes for the newest.
    pub(crate) fn promote(&mut self, rank: Rank, certificate: Option<Fingerprint>) {
        let (mut held, total) = (self.places.held(), self.places.0.total);
        let Some(holder) = held.remove(self.rank, self.id) else { return };
        if rank == Rank::Client && held.of(rank).len() >= (total * 3 / 4).max(1) {
            held.let_one_go(rank);
        }
        if let Some(certificate) = certificate {
            held.make_room_among(certificate, rank, (total / 8).max(OF_A_CERTIFICATE.min(total / 2)).max(1));
        }
        held.insert(rank, self.id, Holder { certificate, ..holder });
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
        self.places.held().remove(self.rank, self.id);
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
            place.promote(rank, None);
            place
        };
        let mut clients: Vec<_> = std::iter::repeat_with(|| come(Rank::Client)).take(6).collect();
        let first = come(Rank::RelyingParty);
        let next = come(Rank::Client);
        assert!(is_gone(&clients.remove(0)) && !clients.iter().any(is_gone));
        let strangers: Vec<_> = std::iter::repeat_with(|| places.take(busy(1)).unwrap()).take(20).collect();
        assert!(!clients.iter().chain([&first, &next]).any(is_gone));
        assert_eq!(strangers.iter().filter(|place| !is_gone(place)).count(), 1);
        // Where only relying parties are left, nobody goes that asks for something.
        let places = Places::new(2, 1);
        let come = |requests| {
            let mut place = places.take(busy(requests)).unwrap();
            place.promote(Rank::RelyingParty, None);
            place
        };
        let parties = [come(1), come(0)];
        assert!(places.take(busy(0)).is_some() && is_gone(&parties[1]));
        drop(parties);
        let parties = [come(1), come(1)];
        assert!(places.take(busy(0)).is_none() && !parties.iter().any(is_gone));
    }

    #[test]
    fn whoever_has_one_certificate_does_not_get_all_the_places() {
        let places = Places::new(16, 4);
        let come = |certificate: u8, requests| {
            let mut place = places.take(busy(requests)).unwrap();
            place.promote(Rank::RelyingParty, Some(Fingerprint([certificate; 32])));
            place
        };
        let other = come(1, 1);
        let many: Vec<_> = std::iter::repeat_with(|| come(2, 1)).take(40).collect();
        assert!(many[..32].iter().all(is_gone) && !many[32..].iter().any(is_gone), "the oldest go");
        let third = come(3, 1);
        assert!(!is_gone(&other) && !is_gone(&third));
        drop((many, other, third));
        assert!(places.held().by_certificate.is_empty() && places.held().count() == 0);
    }
}
