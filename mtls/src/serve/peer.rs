//! The peer of a connection, from its verified certificate.
//!
//! It never decides whether the peer may do something.

use std::{
    any::Any,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use pki::{
    certificate::{CertificateInfo, VerifiedId},
    time::Timestamp,
};

use crate::{
    revocation::{LiveSet, Refusal, Registration},
    tls::verified_chain::VerifiedChain,
};

/// The authenticated client of a connection. Handlers receive it as `Extension<Peer>`. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Connected>);

#[derive(Debug)]
struct Connected {
    presented: Arc<VerifiedChain>,
    address: SocketAddr,
    kept: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Peer {
    pub(crate) fn new(presented: Arc<VerifiedChain>, address: SocketAddr) -> Self {
        Self(Arc::new(Connected { presented, address, kept: OnceLock::new() }))
    }

    /// The peer's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateInfo {
        &self.0.presented.info
    }

    /// The client's address. With a configured balancer, the address from its PROXY header.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Keeps a value that is computed at the first request of a connection and used by the following ones. A connection
    /// keeps one value. Returns `None` if it already keeps a value of another type.
    pub fn keep<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.0.kept.get_or_init(|| Box::new(make())).downcast_ref()
    }

    /// Every certificate on its verified path, its own first.
    pub(crate) fn chain(&self) -> Arc<[VerifiedId]> {
        Arc::clone(&self.0.presented.ids)
    }

    /// Registers a connection of the peer with the live set, if the peer may be served now.
    ///
    /// It is registered first and checked second: a revocation that the check misses finds the connection.
    pub(crate) fn admit(&self, live: &LiveSet, now: Timestamp) -> Result<Registration, PeerRefusal> {
        let registration = live.watch(self.chain(), self.0.presented.validity.not_after);
        self.check(live, now)?;
        Ok(registration)
    }

    /// Whether the peer may still be served now.
    pub(crate) fn check(&self, live: &LiveSet, now: Timestamp) -> Result<(), PeerRefusal> {
        live.check(&self.0.presented.ids, now)?;
        let not_after = self.0.presented.validity.not_after;
        if now > not_after { Err(PeerRefusal::Expired(not_after)) } else { Ok(()) }
    }
}

/// Why an admitted peer is not served any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerRefusal {
    #[error(transparent)]
    Revocation(#[from] Refusal),
    #[error("the certificate, or one above it, expired at {0}")]
    Expired(Timestamp),
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread, time::Duration};

    use pki::{
        certificate::IssuerId,
        crl::{CrlDraft, CrlIssuer, CrlNumber, RevocationReason, RevokedEntry},
        issuing::{AuthoritySubject, CertificateAuthority, Publication},
        key::KeyPair,
        serial::Serial,
    };

    use super::*;

    /// In each round, connections are admitted one after another until a swap refuses the peer. No connection is missed
    /// by both the check and the swap.
    #[test]
    fn a_peer_that_is_admitted_during_a_swap_is_refused_or_ended() {
        const ROUNDS: u8 = 200;
        let now = Timestamp::from_unix(1_795_510_800);
        let publication = Publication {
            crl_url: String::new(),
            delta_crl_url: None,
            servers_crl_url: None,
            certificate_url: String::new(),
        };
        let subject = AuthoritySubject { organization: "Tests".parse().unwrap(), name: "Fleet".parse().unwrap() };
        let (key, serial) = (KeyPair::generate().unwrap(), Serial::from_random([255; 16]));
        let root = CertificateAuthority::new_root(&subject, key, serial, now, publication).unwrap();
        let live = LiveSet::new(vec![CrlIssuer::from_certificate(root.info()).unwrap()]);
        let crl = |number: u8, serial| {
            let entry = RevokedEntry { serial, revoked_at: now, reason: RevocationReason::Unspecified };
            let number = CrlNumber::new(i64::from(number)).unwrap();
            let next_update = now.plus(Duration::from_hours(1));
            root.sign_crl(&CrlDraft { number, this_update: now, next_update, revoked: vec![entry] }).unwrap()
        };
        live.install(&crl(1, serial), now).unwrap();
        for round in 2..ROUNDS {
            let serial = Serial::from_random([round; 16]);
            let (info, list) = (Arc::new(root.info().clone()), crl(round, serial));
            let ids = [VerifiedId { issuer: IssuerId::of(&info), serial }].into();
            let presented = VerifiedChain { validity: info.validity, info, ids };
            let peer = Peer::new(Arc::new(presented), ([127, 0, 0, 1], 1).into());
            let both = Barrier::new(2);
            let mut admitted = Vec::new();
            thread::scope(|scope| {
                scope.spawn(|| {
                    both.wait();
                    live.install(&list, now).unwrap();
                });
                both.wait();
                while let Ok(registration) = peer.admit(&live, now) {
                    admitted.push(registration);
                }
            });
            let missed = admitted.iter().filter(|registration| registration.end().reason().is_none()).count();
            assert_eq!(missed, 0, "of {} in round {round}", admitted.len());
        }
    }
}
