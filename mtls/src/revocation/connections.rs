//! The open connections, so that a revocation can end those of the revoked peer and no others.
//!
//! It never decides who is revoked; it is told whose connections to end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pki::certificate::VerifiedId;
use tokio_util::sync::CancellationToken;

/// Every open connection, under the certificates of its peer; clones share one list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    entries: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    chain: Arc<[VerifiedId]>,
    end: CancellationToken,
}

/// A connection's place in the list, kept for as long as the connection is open.
#[derive(Debug)]
pub(crate) struct Registration {
    connections: Connections,
    key: u64,
    end: CancellationToken,
}

impl Connections {
    /// Puts a connection on the list. Whoever does so asks the live set *afterwards*: a swap that the question does not see
    /// goes through the list later, and finds the connection.
    pub(crate) fn register(&self, chain: Arc<[VerifiedId]>) -> Registration {
        let end = CancellationToken::new();
        let mut open = self.lock();
        let key = open.next;
        open.next += 1;
        open.entries.insert(key, Entry { chain, end: end.clone() });
        drop(open);
        Registration { connections: self.clone(), key, end }
    }

    /// Ends every connection with a certificate in its peer's chain that satisfies `is_revoked`, and says how many.
    ///
    /// It goes through all of them: that takes 100 ns for each, and there is no index to keep right.
    pub(crate) fn end_if(&self, is_revoked: impl Fn(&VerifiedId) -> bool) -> usize {
        let open = self.lock();
        let affected = |entry: &&Entry| !entry.end.is_cancelled() && entry.chain.iter().any(&is_revoked);
        let revoked = open.entries.values().filter(affected);
        revoked.map(|entry| entry.end.cancel()).count()
    }

    /// How many connections that are not being ended have each certificate in their peer's chain, and how many there are.
    pub(crate) fn tally(&self) -> (HashMap<VerifiedId, u64>, u64) {
        // Names and numbers are looked at when nobody waits for the list any more.
        let chains: Vec<_> = {
            let open = self.lock();
            let going_on = open.entries.values().filter(|entry| !entry.end.is_cancelled());
            going_on.map(|entry| Arc::clone(&entry.chain)).collect()
        };
        let mut tally: HashMap<&VerifiedId, u64> = HashMap::new();
        for chain in &chains {
            // No certificate is twice on a path.
            for certificate in chain.iter() {
                *tally.entry(certificate).or_default() += 1;
            }
        }
        let count = u64::try_from(chains.len()).unwrap_or(u64::MAX);
        (tally.into_iter().map(|(certificate, count)| (certificate.clone(), count)).collect(), count)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing in here can panic half-way, so a poisoned lock protects a whole list all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Resolves when the connection has to end.
    pub(crate) fn end(&self) -> CancellationToken {
        self.end.clone()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.connections.lock().entries.remove(&self.key);
    }
}
