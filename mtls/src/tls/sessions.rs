//! The TLS sessions that clients may resume. All of them are dropped when a client may have been revoked. The next
//! attempt of a revoked client is then a full handshake, which can be refused with the right alert. They are also
//! dropped when this process presents another identity, because a session would continue with the previous one.
//!
//! It never decides who is admitted. A session may begin at the moment of a revocation, so the acceptor checks every
//! resumed session as well.

use std::sync::{Mutex, PoisonError};

use rustls::server::StoresServerSessions;
use tokio::sync::watch;

use crate::{
    revocation::LiveSet,
    tls::{generations::Generations, identity::ServerIdentity},
};

/// How many bytes of sessions are kept. It may be up to twice as many. That is four thousand clients, with less than
/// two kilobytes each.
const BYTES: usize = 8 * 1024 * 1024;
/// The longest session that is kept, in bytes. A session contains the whole presented chain, including certificates
/// outside of the path.
const LONGEST: usize = 8 * 1024;
/// The memory of an entry besides its session, in bytes.
const OVERHEAD: usize = 128;

/// The sessions since the last revocation. rustls's own store searches all of them to remove one.
#[derive(Debug)]
pub(crate) struct Sessions {
    live: LiveSet,
    replacements: watch::Receiver<u64>,
    kept: Mutex<SinceRevocation>,
}

#[derive(Debug)]
struct SinceRevocation {
    /// The numbers of revocations and of this process's identities when these sessions began.
    since: (u64, u64),
    sessions: Generations<Vec<u8>, Vec<u8>>,
}

impl Sessions {
    /// The sessions of a process with this identity.
    pub(crate) fn new(live: LiveSet, identity: &ServerIdentity) -> Self {
        let replacements = identity.replacements();
        let since = (live.revocations(), *replacements.borrow());
        Self { live, replacements, kept: Mutex::new(SinceRevocation { since, sessions: new_sessions() }) }
    }

    fn with_current<T>(&self, act: impl FnOnce(&mut Generations<Vec<u8>, Vec<u8>>) -> T) -> T {
        // No code panics while it holds the lock, so a poisoned lock still protects consistent maps.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let since = (self.live.revocations(), *self.replacements.borrow());
        if kept.since != since {
            *kept = SinceRevocation { since, sessions: new_sessions() };
        }
        act(&mut kept.sessions)
    }
}

fn new_sessions() -> Generations<Vec<u8>, Vec<u8>> {
    Generations::weighing(BYTES, |session| session.capacity() + OVERHEAD)
}

impl StoresServerSessions for Sessions {
    /// If a session is not kept, no ticket is sent.
    fn put(&self, key: Vec<u8>, mut value: Vec<u8>) -> bool {
        if value.len() > LONGEST {
            return false;
        }
        value.shrink_to_fit();
        self.with_current(|sessions| sessions.insert(key, value));
        true
    }

    /// TLS 1.3 removes a session to resume it once (RFC 8446 appendix C.4), and never looks one up without removing it.
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
