//! Accepts connections: the balancer's PROXY header, the TLS handshake with a client certificate, and then the check by
//! the live set.
//!
//! It never decides about revocation itself.

use std::{fmt, net::SocketAddr, sync::Arc};

use edge::{clock::Clock, listen::bounded::BoundedStream};
use rustls::{Error, HandshakeKind, ServerConfig};
use tokio::{io::AsyncWriteExt as _, time::Instant};
use tracing::{debug, info};

use crate::{
    errors::in_words,
    metrics::{Handshake, Metrics, Reason},
    revocation::{LiveSet, Refusal, Registration},
    serve::{
        handshake::{Failed, Handshakes, Secured, let_alert_arrive, reason},
        limits,
        peer::{Peer, PeerRefusal},
        proxy::{ProxyError, ProxyFrom},
        unfinished::HandshakePlace,
    },
    tls::{client_verifier::LiveClientVerifier, seen::Seen, verified_chain::VerifiedChain},
};

/// Admits clients whose certificate is valid and not revoked, and nobody else.
#[derive(Clone)]
pub(crate) struct Acceptor(Arc<Whole>);

struct Whole {
    parts: Parts,
    handshakes: Handshakes,
}

/// An admitted connection. It must end when its registration requires it.
pub(crate) struct AcceptedConnection {
    pub(crate) stream: Secured,
    pub(crate) peer: Peer,
    pub(crate) registration: Registration,
}

/// The configuration of an acceptor.
pub(crate) struct Parts {
    pub(crate) tls: Arc<ServerConfig>,
    /// The verifier in `tls`.
    pub(crate) verifier: Arc<LiveClientVerifier>,
    pub(crate) live: LiveSet,
    pub(crate) proxy_from: ProxyFrom,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
}

/// A refused connection.
struct RefusedConnection {
    failed: Failed,
    from: SocketAddr,
}

impl Acceptor {
    pub(crate) fn new(parts: Parts) -> Self {
        let handshakes = Handshakes::new(Arc::clone(&parts.tls));
        Self(Arc::new(Whole { parts, handshakes }))
    }

    /// Admits the connection from `connected`, or logs and counts the refusal.
    pub(crate) async fn accept(&self, stream: BoundedStream, connected: SocketAddr) -> Option<AcceptedConnection> {
        match self.admit(stream, connected).await {
            Ok(accepted) => Some(accepted),
            Err(refused) => {
                refused.log();
                self.parts().metrics.handshake_refused(refused.failed.reason);
                None
            }
        }
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    async fn admit(
        &self,
        mut stream: BoundedStream,
        connected: SocketAddr,
    ) -> Result<AcceptedConnection, RefusedConnection> {
        let (place, deadline) = (self.0.handshakes.begin(), Instant::now() + limits::HANDSHAKE_TIMEOUT);
        let displaced = place.displaced();
        let header = self.parts().proxy_from.client_address(&mut stream, connected);
        let from = tokio::select! {
            biased;
            () = displaced.cancelled() => Err(Failed::displaced()),
            header = tokio::time::timeout_at(deadline, header) => match header {
                Ok(address) => address.map_err(|error| proxy(&error)),
                Err(_) => Err(Failed::timeout()),
            }
        };
        let from = from.map_err(|failed| RefusedConnection { failed, from: connected })?;
        self.shake_hands(stream, place, deadline, from).await.map_err(|failed| RefusedConnection { failed, from })
    }

    async fn shake_hands(
        &self,
        stream: BoundedStream,
        place: HandshakePlace,
        deadline: Instant,
        from: SocketAddr,
    ) -> Result<AcceptedConnection, Failed> {
        let (mut stream, (kind, presented)) =
            self.0.handshakes.shake(stream, place, deadline, |stream, seen| self.presented(stream, seen)).await?;
        let presented = presented.map_err(|error| {
            let (reason, why) = (reason(&error), in_words(&error));
            Failed { reason, why, client: None }
        })?;
        let peer = Peer::new(Arc::clone(&presented), from);
        // A resumed session skips the verifier. And the set may have changed during a full handshake.
        match peer.admit(&self.parts().live, self.parts().clock.now()) {
            Ok(registration) => {
                self.parts().metrics.accepted(kind);
                Ok(AcceptedConnection { stream, peer, registration })
            }
            Err(refusal) => {
                let client = Some(Arc::clone(&presented.info));
                let failed = Failed { reason: refusal.reason(), why: refusal.to_string(), client };
                let _ = stream.shutdown().await;
                tokio::spawn(let_alert_arrive(stream.into_inner().0));
                Err(failed)
            }
        }
    }

    /// The handshake's result for logs and metrics, and the peer or the refusal.
    fn presented(&self, stream: &Secured, seen: Seen) -> (Handshake, Result<Arc<VerifiedChain>, Error>) {
        let connection = stream.get_ref().1;
        let kind = match connection.handshake_kind() {
            Some(HandshakeKind::Resumed) => Handshake::Resumed,
            _ => Handshake::Full,
        };
        let earlier = || self.parts().verifier.path_of_earlier(connection.peer_certificates().unwrap_or_default());
        (kind, seen.presented.map_or_else(earlier, Ok))
    }
}

fn proxy(error: &ProxyError) -> Failed {
    let reason = match error {
        ProxyError::Io(_) => Reason::Disconnected,
        ProxyError::Malformed | ProxyError::TooLong => Reason::ProxyHeader,
    };
    Failed { reason, why: error.to_string(), client: None }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl RefusedConnection {
    /// Logs one line: who, why, from where. A peer that connects and sends nothing was not refused.
    ///
    /// Names in a stranger's certificate can be any text. They are logged as strings, not with `Display`, so that they
    /// are escaped.
    fn log(&self) {
        let Self { failed: Failed { reason, why, client }, from } = self;
        match client {
            Some(client) => info!(
                client = client.shown_name(),
                serial = %client.id.serial,
                %from,
                reason = reason.as_str(),
                why,
                "handshake refused"
            ),
            None if *reason == Reason::Disconnected => debug!(%from, why, "handshake not completed"),
            None => info!(%from, reason = reason.as_str(), why, "handshake refused"),
        }
    }
}

impl Refusal {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Barred(_) => Reason::Barred,
            Self::Revoked(_) => Reason::Revoked,
            Self::NoCrl(_) | Self::Withheld { .. } | Self::StaleCrl { .. } => Reason::NoFreshCrl,
        }
    }
}

impl PeerRefusal {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Revocation(refusal) => refusal.reason(),
            Self::Expired(_) => Reason::Expired,
        }
    }
}
