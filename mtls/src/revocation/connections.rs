//! The registry of open connections. It ends the connections of a peer that may not be served any more, and no others.
//!
//! It never decides which connections to end; the caller does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pki::{certificate::VerifiedId, time::Timestamp};
use prometheus_client::metrics::{counter::Counter, family::Family};

use super::end::{End, EndLabels, EndReason};

/// Every open connection with the certificates of its peer. Clones share one registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug)]
struct Open {
    next: u64,
    entries: HashMap<u64, Entry>,
    /// Connections that have to end and are not gone yet.
    ending: HashMap<u64, End>,
    /// No entry expires before this.
    earliest: Timestamp,
    /// How many connections had to end so far.
    ended: Family<EndLabels, Counter>,
}

#[derive(Debug)]
struct Entry {
    chain: Arc<[VerifiedId]>,
    /// The last second in which its whole chain is valid.
    not_after: Timestamp,
    end: End,
}

/// A connection's entry in the registry. It must be kept until nothing can be sent over the connection any more. A
/// revocation counts as enforced when the entries of all connections that it ended are dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    connections: Connections,
    key: u64,
    end: End,
}

impl Default for Open {
    fn default() -> Self {
        Self {
            next: 0,
            entries: HashMap::new(),
            ending: HashMap::new(),
            earliest: Timestamp::MAX,
            ended: Family::default(),
        }
    }
}

impl Connections {
    /// Registers a connection. The caller must check the live set *afterwards*: if that check still sees the old
    /// snapshot, the swap goes through the registry later and finds the connection.
    pub(crate) fn register(&self, chain: Arc<[VerifiedId]>, not_after: Timestamp) -> Registration {
        let end = End::default();
        let mut open = self.lock();
        let key = open.next;
        open.next += 1;
        open.earliest = open.earliest.min(not_after);
        open.entries.insert(key, Entry { chain, not_after, end: end.clone() });
        drop(open);
        Registration { connections: self.clone(), key, end }
    }

    /// Ends every connection with a certificate in its peer's chain that satisfies `is_affected`. Returns how many.
    ///
    /// It goes through all connections. That takes 100 ns for each, and needs no index that could be wrong.
    pub(crate) fn end_if(&self, reason: EndReason, is_affected: impl Fn(&VerifiedId) -> bool) -> usize {
        self.lock().end(reason, |entry| entry.chain.iter().any(&is_affected))
    }

    /// Ends every connection whose peer's chain has expired by now. Returns how many.
    pub(crate) fn end_expired(&self, now: Timestamp) -> usize {
        let mut open = self.lock();
        if now <= open.earliest {
            return 0;
        }
        let ended = open.end(EndReason::Expired, |entry| now > entry.not_after);
        open.earliest = open.entries.values().map(|entry| entry.not_after).min().unwrap_or(Timestamp::MAX);
        ended
    }

    /// No connection's chain expires before this.
    pub(crate) fn earliest_expiry(&self) -> Timestamp {
        self.lock().earliest
    }

    /// Resolves when every connection that has to end by now is gone.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let ending: Vec<_> = self.lock().ending.values().cloned().collect();
        async move {
            for end in ending {
                end.completed().await;
            }
        }
    }

    /// How many open connections have each certificate in their peer's chain, and how many there are. Connections that
    /// are ending are not counted.
    pub(crate) fn tally(&self) -> (HashMap<VerifiedId, u64>, u64) {
        // Only the chains are copied under the lock. Certificates are compared afterwards.
        let chains: Vec<_> = self.lock().entries.values().map(|entry| Arc::clone(&entry.chain)).collect();
        let mut tally: HashMap<&VerifiedId, u64> = HashMap::new();
        for chain in &chains {
            // No certificate occurs twice on a path.
            for certificate in chain.iter() {
                *tally.entry(certificate).or_default() += 1;
            }
        }
        let count = u64::try_from(chains.len()).unwrap_or(u64::MAX);
        (tally.into_iter().map(|(certificate, count)| (certificate.clone(), count)).collect(), count)
    }

    /// Counts the connections that had to end.
    pub(crate) fn ended(&self) -> Family<EndLabels, Counter> {
        self.lock().ended.clone()
    }

    pub(crate) fn len(&self) -> usize {
        let open = self.lock();
        open.entries.len() + open.ending.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // No code panics while it holds the lock, so a poisoned lock still protects a consistent registry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn end(&mut self, reason: EndReason, is_affected: impl Fn(&Entry) -> bool) -> usize {
        let before = self.ending.len();
        let affected = self.entries.extract_if(|_, entry| is_affected(entry));
        self.ending.extend(affected.map(|(key, entry)| {
            entry.end.begin(reason);
            (key, entry.end)
        }));
        let ended = self.ending.len() - before;
        if ended > 0 {
            self.ended.get_or_create(&EndLabels { reason }).inc_by(u64::try_from(ended).unwrap_or(u64::MAX));
        }
        ended
    }
}

impl Registration {
    /// When the connection has to end, and why.
    pub(crate) fn end(&self) -> End {
        self.end.clone()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.entries.remove(&self.key);
        open.ending.remove(&self.key);
        drop(open);
        self.end.complete();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    const NOW: i64 = 1_795_510_800;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(NOW + seconds)
    }

    #[test]
    fn a_connection_ends_after_the_last_second_in_which_its_chain_is_valid() {
        let connections = Connections::default();
        let register = |not_after| connections.register(Arc::new([]), not_after);
        let (first, second, third) = (register(at(20)), register(at(10)), register(Timestamp::MAX));
        assert_eq!(connections.earliest_expiry(), at(10));
        assert_eq!(connections.end_expired(at(10)), 0, "notAfter itself is included");
        assert_eq!((connections.end_expired(at(11)), connections.end_expired(at(11))), (1, 0));
        assert_eq!(second.end().reason(), Some(EndReason::Expired));
        assert_eq!(connections.earliest_expiry(), at(20));
        // A clock that jumps.
        assert_eq!(connections.end_expired(at(10).plus(Duration::from_hours(1000))), 1);
        assert!(first.end().reason().is_some() && third.end().reason().is_none());
        assert_eq!((connections.len(), connections.tally().1), (3, 1));
        drop((first, second, third));
        assert_eq!(connections.len(), 0);
    }

    #[test]
    fn gone_waits_only_for_connections_that_were_ending_when_it_was_called() {
        let connections = Connections::default();
        let register = |not_after| connections.register(Arc::new([]), not_after);
        let (open, first) = (register(Timestamp::MAX), register(at(0)));
        assert_eq!(connections.gone().now_or_never(), Some(()));
        connections.end_expired(at(1));
        let earlier = connections.gone();
        let second = register(at(1));
        connections.end_expired(at(2));
        assert_eq!(connections.gone().now_or_never(), None);
        drop(first);
        assert_eq!(earlier.now_or_never(), Some(()), "connections that end later are not waited for");
        assert_eq!(connections.gone().now_or_never(), None);
        drop(second);
        assert_eq!(connections.gone().now_or_never(), Some(()));
        drop(open);
    }
}
