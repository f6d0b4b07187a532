//! The connections of a listener for strangers: their number is bounded by memory and files. A new connection is
//! accepted, and the oldest connection of a stranger is displaced for it.
//!
//! It never ends a connection itself. The holder of a place ends it when the place is gone.

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

/// What the connection of a known peer may cost, in bytes of memory.
const COST: u64 = 128 * 1024;
/// What a stranger's connection may cost.
const STRANGERS_COST: u64 = 512 * 1024;
/// How many places one certificate has in any case, if there are at least twice as many. The instances of a relying
/// party may share a certificate, and each may reconnect before its last connection is gone.
const OF_A_CERTIFICATE: usize = 64;
/// How many are searched for an idle one.
const LOOK: usize = 1024;

/// The kind of peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// Not known, or not known yet.
    Stranger = 0,
    /// A client with a certificate.
    Client,
    /// A relying party, which revocations wait for.
    RelyingParty,
}

/// The places of one listener. Clones share them.
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
    /// Whether displacement was logged. It is logged again only after half of the places were free.
    was_full: bool,
}

#[derive(Debug)]
struct Holder {
    /// How many requests are in progress.
    in_progress: watch::Receiver<usize>,
    gone: CancellationToken,
    certificate: Option<Fingerprint>,
}

/// A place. It is free again when it is dropped.
pub(crate) struct Place {
    places: Places,
    id: u64,
    rank: Rank,
    gone: CancellationToken,
}

impl Places {
    /// As many as memory and files allow. They take a third of the files, as [`Slots`](edge::listen::bounded) do.
    pub(crate) fn for_listener() -> Self {
        let files = file_limit::current() / 3;
        let places = |cost: u64| usize::try_from(files.min(memory::limit() / cost)).unwrap_or(usize::MAX).max(16);
        // If there are few files, known peers have half of them.
        let total = places(COST);
        Self::new(total, places(STRANGERS_COST).min((total / 2).max(1)))
    }

    fn new(total: usize, strangers: usize) -> Self {
        Self(Arc::new(Shared { total, strangers, held: Mutex::default() }))
    }

    /// Takes a place for a new connection. Returns `None` if all places are held by peers of higher rank.
    pub(crate) fn take(&self, in_progress: watch::Receiver<usize>) -> Option<Place> {
        let mut held = self.held();
        let strangers = held.of(Rank::Stranger).len();
        if strangers >= self.0.strangers || held.count() >= self.0.total {
            if !std::mem::replace(&mut held.was_full, true) {
                warn!(
                    open = held.count(),
                    strangers, "too many connections are open: each new one displaces the oldest of a stranger"
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

    /// Displaces the oldest without a request in progress, or else the oldest. Returns whether there was one.
    fn let_one_go(&mut self, rank: Rank) -> bool {
        self.let_an_idle_one_go(rank) || {
            let oldest = self.of(rank).first_key_value().map(|(id, _)| *id);
            self.let_go(rank, oldest)
        }
    }

    /// Displaces the oldest without a request in progress. Returns whether there was one.
    fn let_an_idle_one_go(&mut self, rank: Rank) -> bool {
        let idle = self.of(rank).iter().take(LOOK).find(|(_, holder)| holder.is_idle()).map(|(id, _)| *id);
        self.let_go(rank, idle)
    }

    /// Displaces one connection of this certificate, if the certificate has as many places as it may have.
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
    /// Records the peer's rank and certificate. Clients never hold more than three quarters of all places, and one
    /// certificate an eighth. The oldest is displaced for the newest.
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

    /// Resolves when the place was given to another connection.
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
    fn a_new_connection_displaces_the_oldest_idle_stranger_and_then_the_oldest() {
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
    fn a_stranger_never_displaces_a_known_peer_nor_a_client_a_relying_party() {
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
        // If only relying parties are left, none with a request in progress is displaced.
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
    fn one_certificate_does_not_get_all_the_places() {
        let places = Places::new(16, 4);
        let come = |certificate: u8, requests| {
            let mut place = places.take(busy(requests)).unwrap();
            place.promote(Rank::RelyingParty, Some(Fingerprint([certificate; 32])));
            place
        };
        let other = come(1, 1);
        let many: Vec<_> = std::iter::repeat_with(|| come(2, 1)).take(40).collect();
        assert!(many[..32].iter().all(is_gone) && !many[32..].iter().any(is_gone), "the oldest are displaced");
        let third = come(3, 1);
        assert!(!is_gone(&other) && !is_gone(&third));
        drop((many, other, third));
        assert!(places.held().by_certificate.is_empty() && places.held().count() == 0);
    }
}
