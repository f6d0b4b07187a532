//! Shakes hands with strangers, at a service and at the authority: how many do so at once and what they hold is bounded, so is how many
//! have their certificates looked at, and whoever is refused hears why.
//!
//! It never decides whom to let in; the verifier in the TLS configuration does.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread::available_parallelism,
    time::Duration,
};

use axum::Extension;
use axum_server::accept::Accept;
use edge::{errors::find, listen::bounded::BoundedStream};
use pki::{
    certificate::CertificateInfo,
    excerpt::{self, Excerpt},
};
use rustls::{CertificateError as Invalid, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::PollSemaphore;
use tower::Layer as _;

use crate::{
    errors::{in_words, is_refusal},
    metrics::Reason,
    serve::{
        io::flights::Flights,
        limits,
        unfinished::{HandshakePlace, Unfinished},
    },
    tls::{
        candidates::Excess,
        seen::{SEEN, Seen},
    },
};

/// How long somebody who was refused may take to hear of it ...
const PATIENCE: Duration = Duration::from_secs(1);
/// ... and how many bytes may come meanwhile: requests that were sent before.
const MOST_LEFT: usize = 1024 * 1024;

/// A connection whose handshake is done.
pub(crate) type Secured = TlsStream<Flights<BoundedStream>>;

/// What shakes hands for one listener; clones share the bounds.
#[derive(Clone)]
pub(crate) struct Handshakes {
    tls: Arc<ServerConfig>,
    turns: Turns,
    unfinished: Unfinished,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) reason: Reason,
    pub(crate) why: String,
    pub(crate) client: Option<Arc<CertificateInfo>>,
}

impl Handshakes {
    pub(crate) fn new(tls: Arc<ServerConfig>) -> Self {
        Self { tls, turns: Turns::default(), unfinished: Unfinished::here() }
    }

    /// A place among those who shake hands, to be taken before anything is read.
    pub(crate) fn begin(&self) -> HandshakePlace {
        self.unfinished.begin()
    }

    /// Shakes hands until the deadline, and has what the verifier saw looked at where it may take as long as what the verifier did.
    pub(crate) async fn shake<T>(
        &self,
        stream: BoundedStream,
        place: HandshakePlace,
        deadline: Instant,
        look: impl FnOnce(&Secured, Seen) -> T,
    ) -> Result<(Secured, T), Failed> {
        let displaced = place.displaced();
        let stream = Flights::new(stream, place);
        let handshake = SEEN.scope(RefCell::default(), async {
            match TlsAcceptor::from(Arc::clone(&self.tls)).accept(stream).into_fallible().await {
                Ok(mut stream) => {
                    stream.get_mut().0.end_handshake();
                    let looked = look(&stream, SEEN.with(RefCell::take));
                    Ok((stream, looked))
                }
                Err((error, stream)) => {
                    tokio::spawn(let_alert_arrive(stream));
                    Err(Failed::tls(&error, SEEN.with(RefCell::take)))
                }
            }
        });
        // A place of its own in memory, which is free again when the handshake is over.
        let in_turn = InTurn { work: Box::pin(handshake), turns: PollSemaphore::new(Arc::clone(&self.turns.0)) };
        tokio::select! {
            biased;
            () = displaced.cancelled() => Err(Failed::displaced()),
            done = timeout_at(deadline, in_turn) => done.unwrap_or_else(|_| Err(Failed::timeout())),
        }
    }
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handshakes")
    }
}

/// How many handshakes take a step at once: as many as there are processors. A chain that is not remembered is looked at beside the
/// threads that serve (`aside`), which are then free for the next step, and without this bound for that of any number of strangers.
#[derive(Clone)]
struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(available_parallelism().map_or(1, Into::into))))
    }
}

/// Work whose every step waits for its turn, and gives it back after the step: who waits for a peer keeps nobody from theirs.
struct InTurn<F> {
    work: Pin<Box<F>>,
    turns: PollSemaphore,
}

impl<F: Future> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _turn = ready!(self.turns.poll_acquire(context));
        self.work.as_mut().poll(context)
    }
}

impl Failed {
    pub(crate) fn timeout() -> Self {
        let why = format!("not completed within {} s", limits::HANDSHAKE_TIMEOUT.as_secs());
        Self { reason: Reason::Timeout, why, client: None }
    }

    pub(crate) fn displaced() -> Self {
        let why = "too many are under way, or hold too much memory, and this one was the oldest".to_owned();
        Self { reason: Reason::Displaced, why, client: None }
    }

    fn tls(error: &io::Error, seen: Seen) -> Self {
        let tls = find::<rustls::Error>(error);
        let reason = match (&seen.refusal, tls) {
            (Some(refusal), _) => refusal.reason(),
            // The same error as for a signature within TLS itself, and a different thing to know of.
            (None, Some(_)) if seen.is_without_key => Reason::NoKey,
            (None, None) => Reason::Disconnected,
            (None, Some(error)) => reason(error),
        };
        let words = || tls.map_or_else(|| error.to_string(), in_words);
        let why = seen.refusal.map(|refusal| refusal.to_string()).or(seen.why).unwrap_or_else(words);
        // An error may repeat all that is in a certificate.
        let why = Excerpt(why, excerpt::TEXT).to_string();
        Self { reason, why, client: seen.client }
    }
}

/// Why the TLS library, or path validation, lets a client not in.
pub(crate) fn reason(error: &rustls::Error) -> Reason {
    match error {
        rustls::Error::NoCertificatesPresented => Reason::NoCertificate,
        rustls::Error::InvalidCertificate(invalid) => match invalid {
            Invalid::UnknownIssuer => Reason::UnknownIssuer,
            Invalid::Expired | Invalid::ExpiredContext { .. } => Reason::Expired,
            Invalid::NotValidYet | Invalid::NotValidYetContext { .. } => Reason::NotYetValid,
            Invalid::InvalidPurpose | Invalid::InvalidPurposeContext { .. } => Reason::WrongUsage,
            _ if is_refusal::<Excess>(error) => Reason::Excess,
            _ => Reason::Protocol,
        },
        _ => Reason::Protocol,
    }
}

/// Ends a connection whose peer was refused so that the alert arrives: closing a socket that has unread bytes resets the connection, and a
/// reset discards what the peer has not read yet.
pub(crate) async fn let_alert_arrive(mut stream: Flights<BoundedStream>) {
    // It holds its place, and makes room as it did before.
    let place = stream.end_handshake();
    let displaced = place.as_ref().map(HandshakePlace::displaced).unwrap_or_default();
    let drain = async {
        let _ = stream.shutdown().await;
        let mut bytes = [0; 4096];
        let mut left = MOST_LEFT;
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    };
    tokio::select! {
        biased;
        () = displaced.cancelled() => {}
        _ = timeout(PATIENCE, drain) => {}
    }
}

/// An acceptor for `axum-server` that shakes hands as a service does. Every request carries the [`PeerCertificate`] of its connection.
#[derive(Clone, Debug)]
pub struct Tls(Handshakes);

/// The certificate that the peer of a connection has presented, if it has: an extension of each of its requests. The verifier in the TLS
/// configuration has accepted it, when the handshake was made that the connection, or its session, began with.
#[derive(Clone, Debug)]
pub struct PeerCertificate(pub Option<Arc<CertificateDer<'static>>>);

impl Tls {
    /// With this configuration.
    #[must_use]
    pub fn new(tls: Arc<ServerConfig>) -> Self {
        Self(Handshakes::new(tls))
    }
}

impl<S: Send + 'static> Accept<BoundedStream, S> for Tls {
    type Stream = Secured;
    type Service = axum::middleware::AddExtension<S, PeerCertificate>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: BoundedStream, service: S) -> Self::Future {
        let handshakes = self.0.clone();
        Box::pin(async move {
            let (place, deadline) = (handshakes.begin(), Instant::now() + limits::HANDSHAKE_TIMEOUT);
            // Of the chain, one certificate is needed; requests should not hold the rest.
            let own = |stream: &Secured, _| stream.get_ref().1.peer_certificates()?.first().cloned().map(Arc::new);
            let (stream, own) = handshakes.shake(stream, place, deadline, own).await.map_err(io::Error::other)?;
            Ok((stream, Extension(PeerCertificate(own)).layer(service)))
        })
    }
}

impl std::error::Error for Failed {}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.why)?;
        match &self.client {
            Some(client) => write!(f, " (client {:?}, serial {})", client.shown_name(), client.id.serial),
            None => Ok(()),
        }
    }
}
