//! The TLS sessions that clients may resume. All of them are forgotten when somebody is revoked: a revoked client's next attempt is
//! then a full handshake, which can be refused with the alert that says why.
//!
//! It never decides who is let in: a session may be begun in the very moment of a revocation, so whoever resumes one is asked about
//! afterwards all the same.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

use crate::revocation::LiveSet;

/// How many sessions are kept, as many as rustls keeps by default.
const SESSIONS: usize = 256;

/// The sessions since the last revocation.
#[derive(Debug)]
pub(crate) struct Sessions {
    live: LiveSet,
    /// With how many revocations there were when they were begun.
    kept: Mutex<(u64, Arc<ServerSessionMemoryCache>)>,
}

impl Sessions {
    pub(crate) fn new(live: LiveSet) -> Self {
        let kept = (live.revocations(), ServerSessionMemoryCache::new(SESSIONS));
        Self { live, kept: Mutex::new(kept) }
    }

    fn current(&self) -> Arc<ServerSessionMemoryCache> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let revocations = self.live.revocations();
        if kept.0 != revocations {
            *kept = (revocations, ServerSessionMemoryCache::new(SESSIONS));
        }
        Arc::clone(&kept.1)
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.current().put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.current().get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.current().take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}
