//! The TLS sessions that clients may resume. All of them are forgotten when somebody is revoked: a revoked client's next attempt is
//! then a full handshake, which can be refused with the alert that says why.
//!
//! It never decides who is let in: a session may be begun in the very moment of a revocation, so whoever resumes one is asked about
//! afterwards all the same.

use std::sync::{Mutex, PoisonError};

use rustls::server::StoresServerSessions;

use crate::{generations::Generations, revocation::LiveSet};

/// How many sessions are kept, and at most twice as many, of less than two kilobytes each.
const SESSIONS: usize = 4096;

/// The sessions since the last revocation. rustls's own store looks through all of them to take one out.
#[derive(Debug)]
pub(crate) struct Sessions {
    live: LiveSet,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// How many revocations there were when these sessions were begun.
    revocations: u64,
    sessions: Generations<Vec<u8>, Vec<u8>>,
}

impl Sessions {
    pub(crate) fn new(live: LiveSet) -> Self {
        let kept = Mutex::new(Kept { revocations: live.revocations(), sessions: Generations::new(SESSIONS) });
        Self { live, kept }
    }

    fn with_current<T>(&self, act: impl FnOnce(&mut Generations<Vec<u8>, Vec<u8>>) -> T) -> T {
        // Nothing in here can panic half-way, so a poisoned lock protects whole maps all the same.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let revocations = self.live.revocations();
        if kept.revocations != revocations {
            *kept = Kept { revocations, sessions: Generations::new(SESSIONS) };
        }
        act(&mut kept.sessions)
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.with_current(|sessions| sessions.insert(key, value));
        true
    }

    /// TLS 1.3 takes a session out to resume it once (RFC 8446 appendix C.4), and never asks for one that stays.
    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.with_current(|sessions| sessions.take(key))
    }

    fn can_cache(&self) -> bool {
        true
    }
}
