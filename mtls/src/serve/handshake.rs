//! TLS handshakes with strangers, at a service and at the authority. Their number and memory are bounded, and so is the
//! number of certificates that are verified at once. A refused peer receives an alert.
//!
//! It never decides whom to admit; the verifier in the TLS configuration does.

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

/// How long a refused peer has to receive its alert.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many bytes are read meanwhile, such as requests that were sent early.
const MOST_LEFT: usize = 1024 * 1024;

/// A connection after its handshake.
pub(crate) type Secured = TlsStream<Flights<BoundedStream>>;

/// Performs the handshakes of one listener. Clones share the limits.
#[derive(Clone)]
pub(crate) struct Handshakes {
    tls: Arc<ServerConfig>,
    turns: Turns,
    unfinished: Unfinished,
}

/// Why a handshake failed.
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

    /// Takes a place among the handshakes. Call it before anything is read.
    pub(crate) fn begin(&self) -> HandshakePlace {
        self.unfinished.begin()
    }

    /// Performs the handshake until the deadline. `look` examines what the verifier saw; it runs under the same limits,
    /// because it may take as long.
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
        // Boxed, so that its memory is freed when the handshake is over.
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

/// How many handshakes compute at once: as many as there are processors. While a new chain is verified (`aside`),
/// another thread takes over the other work. So without this limit, the chains of any number of strangers would be
/// verified at once.
#[derive(Clone)]
struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(available_parallelism().map_or(1, Into::into))))
    }
}

/// Work that takes a turn for each step, and returns it after the step. A handshake that waits for its peer does not
/// block the others.
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
            // rustls reports the same error for any bad signature. A peer without the private key is a reason of its
            // own.
            (None, Some(_)) if seen.is_without_key => Reason::NoKey,
            (None, None) => Reason::Disconnected,
            (None, Some(error)) => reason(error),
        };
        let words = || tls.map_or_else(|| error.to_string(), in_words);
        let why = seen.refusal.map(|refusal| refusal.to_string()).or(seen.why).unwrap_or_else(words);
        // An error may contain everything that is in a certificate.
        let why = Excerpt(why, excerpt::TEXT).to_string();
        Self { reason, why, client: seen.client }
    }
}

/// Why the TLS library, or path validation, refuses a client.
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

/// Closes the connection of a refused peer so that the alert arrives. Closing a socket with unread bytes resets the
/// connection, and a reset discards what the peer has not read yet.
pub(crate) async fn let_alert_arrive(mut stream: Flights<BoundedStream>) {
    // It still counts against the limits, and can still be displaced.
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

/// An acceptor for `axum-server` that performs handshakes as a service does. Every request carries the
/// [`PeerCertificate`] of its connection.
#[derive(Clone, Debug)]
pub struct Tls(Handshakes);

/// The certificate that the peer of a connection has presented. It is an extension of each of the connection's
/// requests. The verifier in the TLS configuration accepted it in the handshake that began the connection, or that
/// began the resumed session.
#[derive(Clone, Debug)]
pub struct PeerCertificate(pub Option<Arc<CertificateDer<'static>>>);

impl Tls {
    /// An acceptor with this configuration.
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
            // Requests need only the peer's own certificate, and should not hold the rest of the chain.
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
