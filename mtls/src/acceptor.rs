//! Accepts connections: the balancer's PROXY header, the TLS handshake with a client certificate, and the question to the
//! live set after it.
//!
//! It never decides about revocation itself.

use std::{cell::RefCell, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use pki::certificate::CertificateInfo;
use rustls::{CertificateError as Invalid, HandshakeKind, ServerConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, info};

use crate::{
    bounded::BoundedStream,
    clock::Clock,
    errors::find,
    flights::Flights,
    limits,
    metrics::{Handshake, Metrics, Reason},
    peer::{Peer, PeerRefusal},
    proxy::{ProxyError, ProxyFrom},
    revocation::{LiveSet, Refusal, Registration},
    verifier::{LiveClientVerifier, SEEN, Seen},
};

/// Lets in whoever has a certificate that is not revoked, and nobody else.
#[derive(Clone)]
pub(crate) struct Acceptor(Arc<Parts>);

/// A connection that was let in. It has to end when its registration says so.
pub(crate) struct Accepted {
    pub(crate) stream: TlsStream<Flights<BoundedStream>>,
    pub(crate) peer: Peer,
    pub(crate) registration: Registration,
}

/// What an acceptor works with.
pub(crate) struct Parts {
    pub(crate) tls: Arc<ServerConfig>,
    /// That of `tls`.
    pub(crate) verifier: Arc<LiveClientVerifier>,
    pub(crate) live: LiveSet,
    pub(crate) proxy_from: ProxyFrom,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
}

/// A connection that was not let in.
struct Refused {
    reason: Reason,
    why: String,
    client: Option<Arc<CertificateInfo>>,
    from: SocketAddr,
}

impl Acceptor {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Lets the connection from `connected` in, or logs and counts why not.
    pub(crate) async fn accept(&self, stream: BoundedStream, connected: SocketAddr) -> Option<Accepted> {
        match self.admit(stream, connected).await {
            Ok(accepted) => Some(accepted),
            Err(refused) => {
                refused.log();
                self.0.metrics.handshake_refused(refused.reason);
                None
            }
        }
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0
    }

    async fn admit(&self, mut stream: BoundedStream, connected: SocketAddr) -> Result<Accepted, Refused> {
        let deadline = tokio::time::Instant::now() + limits::HANDSHAKE_TIMEOUT;
        let header = self.0.proxy_from.client_address(&mut stream, connected);
        let from = match tokio::time::timeout_at(deadline, header).await {
            Ok(address) => address.map_err(|error| Refused::proxy(&error, connected))?,
            Err(_) => return Err(Refused::timeout(connected)),
        };
        match tokio::time::timeout_at(deadline, self.shake_hands(stream, from)).await {
            Ok(result) => result,
            Err(_) => Err(Refused::timeout(from)),
        }
    }

    async fn shake_hands(&self, stream: BoundedStream, from: SocketAddr) -> Result<Accepted, Refused> {
        let handshake = async {
            let result = TlsAcceptor::from(Arc::clone(&self.0.tls)).accept(Flights::new(stream)).into_fallible().await;
            (result, SEEN.with(RefCell::take))
        };
        let (result, seen) = SEEN.scope(RefCell::default(), handshake).await;
        let mut stream = match result {
            Ok(stream) => stream,
            Err((error, stream)) => {
                tokio::spawn(linger(stream));
                return Err(Refused::handshake(&error, seen, from));
            }
        };
        stream.get_mut().0.end_handshake();

        let connection = stream.get_ref().1;
        let kind = match connection.handshake_kind() {
            Some(HandshakeKind::Resumed) => Handshake::Resumed,
            _ => Handshake::Full,
        };
        let presented = match seen.presented {
            Some(presented) => Ok(presented),
            None => self.0.verifier.path_of_earlier(connection.peer_certificates().unwrap_or_default()),
        };
        let presented = presented.map_err(|error| Refused::after_handshake(reason(&error), error.to_string(), from))?;
        let peer = Peer::new(Arc::clone(&presented), from);
        // A resumed session skips the verifier, and while a full handshake was under way the set may have changed.
        match peer.admit(&self.0.live, self.0.clock.now()) {
            Ok(registration) => {
                self.0.metrics.accepted(kind);
                Ok(Accepted { stream, peer, registration })
            }
            Err(refusal) => {
                let client = Some(Arc::clone(&presented.info));
                let refused = Refused { reason: refusal.reason(), why: refusal.to_string(), client, from };
                let _ = stream.shutdown().await;
                Err(refused)
            }
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Refused {
    fn proxy(error: &ProxyError, from: SocketAddr) -> Self {
        let reason = match error {
            ProxyError::Io(_) => Reason::Disconnected,
            ProxyError::Malformed | ProxyError::TooLong => Reason::ProxyHeader,
        };
        Self { reason, why: error.to_string(), client: None, from }
    }

    fn timeout(from: SocketAddr) -> Self {
        let why = format!("not completed within {} s", limits::HANDSHAKE_TIMEOUT.as_secs());
        Self { reason: Reason::Timeout, why, client: None, from }
    }

    fn after_handshake(reason: Reason, why: String, from: SocketAddr) -> Self {
        Self { reason, why, client: None, from }
    }

    fn handshake(error: &io::Error, seen: Seen, from: SocketAddr) -> Self {
        let reason = match (&seen.refusal, find::<rustls::Error>(error)) {
            (Some(refusal), _) => refusal.reason(),
            // The same error as for a chain whose signatures do not match, and a different thing to know of.
            (None, Some(_)) if seen.is_without_key => Reason::NoKey,
            (None, None) => Reason::Disconnected,
            (None, Some(error)) => reason(error),
        };
        let why = seen.refusal.map_or_else(|| error.to_string(), |refusal| refusal.to_string());
        Self { reason, why, client: seen.client, from }
    }

    /// One line: who, why, from where. Somebody who connects and says nothing was not refused anything.
    ///
    /// Names in a stranger's certificate are any text: as strings, not as `Display`, they are written escaped.
    fn log(&self) {
        let Self { reason, why, client, from } = self;
        match client {
            Some(client) => info!(
                client = client.display_name(),
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

/// Why the TLS library, or path validation, lets a client not in.
fn reason(error: &rustls::Error) -> Reason {
    match error {
        rustls::Error::NoCertificatesPresented => Reason::NoCertificate,
        rustls::Error::InvalidCertificate(error) => match error {
            Invalid::UnknownIssuer | Invalid::BadSignature => Reason::UnknownIssuer,
            Invalid::Expired | Invalid::ExpiredContext { .. } => Reason::Expired,
            Invalid::NotValidYet | Invalid::NotValidYetContext { .. } => Reason::NotYetValid,
            Invalid::InvalidPurpose | Invalid::InvalidPurposeContext { .. } => Reason::WrongUsage,
            _ => Reason::Protocol,
        },
        _ => Reason::Protocol,
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

/// Ends a connection whose handshake failed so that the alert arrives: closing a socket that has unread octets resets
/// the connection, and a reset discards what the client has not read yet.
async fn linger(mut stream: Flights<BoundedStream>) {
    const PATIENCE: Duration = Duration::from_secs(1);
    const MOST: usize = 64;
    let drain = async {
        let _ = stream.shutdown().await;
        let mut octets = [0; 1024];
        for _ in 0..MOST {
            match stream.read(&mut octets).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    let _ = timeout(PATIENCE, drain).await;
}
