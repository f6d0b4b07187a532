//! A client's TLS sessions. They are dropped whenever a server may have been revoked, because a resumed session skips
//! the verifier.
//!
//! It never decides who is revoked.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    NamedGroup,
    client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
};
use rustls_pki_types::ServerName;

use crate::revocation::LiveSet;

/// The most sessions, eight for each server. Each contains the presented chain, whose size the verifier has bounded.
const SESSIONS: usize = 256;

/// The sessions since the last revocation.
#[derive(Debug)]
pub(super) struct ClientSessions {
    live: LiveSet,
    kept: Mutex<(u64, Arc<ClientSessionMemoryCache>)>,
}

impl ClientSessions {
    pub(super) fn new(live: LiveSet) -> Self {
        let kept = Mutex::new((live.revocations(), Arc::new(ClientSessionMemoryCache::new(SESSIONS))));
        Self { live, kept }
    }

    fn current(&self) -> Arc<ClientSessionMemoryCache> {
        // No code panics while it holds the lock, so a poisoned lock still protects a consistent cache.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let revocations = self.live.revocations();
        if kept.0 != revocations {
            *kept = (revocations, Arc::new(ClientSessionMemoryCache::new(SESSIONS)));
        }
        Arc::clone(&kept.1)
    }
}

impl ClientSessionStore for ClientSessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.current().set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.current().kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.current().set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.current().tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.current().remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.current().insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.current().take_tls13_ticket(server_name)
    }
}
