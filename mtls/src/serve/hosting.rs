//! Serves a router to everybody, known or not: the listeners of an authority and of operators.
//!
//! It has its own loop instead of `axum-server`'s, because strangers are bounded here: a connection may be displaced by
//! another, an idle one is ended, and each end sends GOAWAY.
//!
//! It never decides what a peer may do.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, extract::ConnectInfo, response::Response};
use axum_server::accept::Accept;
use edge::listen::bounded::BoundedStream;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::Request;
use hyper::body::Incoming;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use pki::{
    certificate::{CertificateInfo, Fingerprint},
    profile::Profile,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::warn;

use crate::serve::{
    accepting::{accept_until, drain},
    io::at_once::AtOnce,
    limits::{self, Windows},
    places::{Places, Rank},
    requests::{keep_rest, refuse_without_host},
    stalls::{Gate, Paced, Patience},
};

/// How long a peer with a certificate may be idle. A stranger has [`limits::HEADER_TIMEOUT`].
const CLIENTS_SILENCE: Duration = Duration::from_mins(5);
/// How long a peer may take to receive the end of its connection.
const LEAVING: Duration = Duration::from_secs(2);

/// A stream that may have a peer certificate.
pub trait Known {
    /// The peer's own certificate in DER, if it has presented one.
    fn certificate(&self) -> Option<&[u8]>;
}

impl Known for BoundedStream {
    fn certificate(&self) -> Option<&[u8]> {
        None
    }
}

impl<S> Known for TlsStream<S> {
    fn certificate(&self) -> Option<&[u8]> {
        self.get_ref().1.peer_certificates()?.first().map(|certificate| &**certificate)
    }
}

/// Serves until `shutdown`. Then requests in flight have [`limits::DRAIN_TIMEOUT`] to finish. Dropping the future cuts
/// all of them off. Requests carry the peer's address as [`ConnectInfo`], and the acceptor's extensions.
pub async fn host<A>(listener: TcpListener, acceptor: A, router: Router, shutdown: CancellationToken) -> io::Result<()>
where
    A: Accept<BoundedStream, Requests> + Clone + Send + Sync + 'static,
    A::Stream: Known + AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A::Service:
        Service<Request<Incoming>, Response = Response<HostedBody>, Error = Infallible> + Clone + Send + Sync + 'static,
    <A::Service as Service<Request<Incoming>>>::Future: Send + 'static,
    A::Future: Send,
{
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (places, patience) = (Places::for_listener(), Patience::for_listener());
    let start = |connections: &mut JoinSet<()>, stream: TcpStream, from: SocketAddr| {
        let requests = Requests { router: router.clone(), from, in_progress: Arc::new(watch::Sender::new(0)) };
        let (places, patience) = (places.clone(), patience.clone());
        let hosted = Hosted { places, requests, patience, shutdown: shutdown.clone() };
        connections.spawn(hosted.serve(stream, acceptor.clone()));
    };
    let mut connections = JoinSet::new();
    accept_until(&shutdown, &listener, &mut connections, start).await;
    drop(listener);
    drain(connections).await;
    Ok(())
}

/// One connection.
struct Hosted {
    places: Places,
    requests: Requests,
    patience: Patience,
    shutdown: CancellationToken,
}

impl Hosted {
    async fn serve<A>(self, stream: TcpStream, acceptor: A)
    where
        A: Accept<BoundedStream, Requests>,
        A::Stream: Known + AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A::Service:
            Service<Request<Incoming>, Response = Response<HostedBody>, Error = Infallible> + Clone + Send + 'static,
        <A::Service as Service<Request<Incoming>>>::Future: Send + 'static,
    {
        let from = self.requests.from;
        let accepted = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return,
            // Without a slot: handshakes have limits of their own, and many more of them fit than strangers'
            // connections. Unfinished handshakes must not displace established connections.
            accepted = acceptor.accept(BoundedStream::unslotted(stream), self.requests.clone()) => accepted,
        };
        let (stream, service) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(peer = %from, %error, "connection refused");
                return;
            }
        };
        let rank = rank(stream.certificate());
        let Some(mut place) = self.places.take(self.requests.in_progress.subscribe()) else { return };
        place.promote(rank, stream.certificate().map(Fingerprint::of));
        let windows = if rank == Rank::RelyingParty { Windows::Large } else { Windows::Small };
        let http = limits::http_builder(AtOnce::new(self.patience.of_connection()), windows);
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        tokio::pin!(connection);
        let time_to_go = time_to_go(self.requests.in_progress.subscribe(), rank, &self.shutdown);
        tokio::pin!(time_to_go);
        tokio::select! {
            biased;
            () = place.gone() => return,
            () = &mut time_to_go => connection.as_mut().graceful_shutdown(),
            _ = connection.as_mut() => return,
        }
        tokio::select! {
            biased;
            () = place.gone() => {}
            () = left_behind(self.requests.in_progress.subscribe()) => {}
            _ = connection => {}
        }
    }
}

fn rank(certificate: Option<&[u8]>) -> Rank {
    match certificate.map(CertificateInfo::from_der) {
        Some(Ok(info)) if info.profile == Some(Profile::Server) => Rank::RelyingParty,
        Some(_) => Rank::Client,
        None => Rank::Stranger,
    }
}

/// Resolves when a shutdown has begun, or the peer was idle for too long.
async fn time_to_go(mut in_progress: watch::Receiver<usize>, rank: Rank, shutdown: &CancellationToken) {
    let mut patience = limits::HEADER_TIMEOUT;
    let silence = async {
        loop {
            if timeout(patience, in_progress.wait_for(|requests| *requests > 0)).await.is_err() {
                return;
            }
            let _ = in_progress.wait_for(|requests| *requests == 0).await;
            match rank {
                Rank::Stranger => {}
                // An open feed is a request in progress.
                Rank::Client | Rank::RelyingParty => patience = CLIENTS_SILENCE,
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = silence => {}
    }
}

/// Resolves some time after no request is in progress any more. What the peer has not taken by then, it never will.
async fn left_behind(mut in_progress: watch::Receiver<usize>) {
    loop {
        let _ = in_progress.wait_for(|requests| *requests == 0).await;
        if timeout(LEAVING, in_progress.wait_for(|requests| *requests > 0)).await.is_err() {
            return;
        }
    }
}

/// The requests of one connection.
#[derive(Clone, Debug)]
pub struct Requests {
    router: Router,
    from: SocketAddr,
    in_progress: Arc<watch::Sender<usize>>,
}

/// A request that is in progress until its answer was sent or given up.
#[derive(Debug)]
pub struct InProgress(Arc<watch::Sender<usize>>);

impl InProgress {
    fn new(requests: &Arc<watch::Sender<usize>>) -> Self {
        requests.send_modify(|count| *count += 1);
        Self(Arc::clone(requests))
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<HostedBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<HostedBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        let in_progress = InProgress::new(&self.in_progress);
        if let Some(refusal) = refuse_without_host(&request) {
            return std::future::ready(Ok(refusal.map(|body| Paced::new(body, in_progress)))).boxed();
        }
        request.extensions_mut().insert(ConnectInfo(self.from));
        let (request, rest) = keep_rest(request);
        // A router is always ready.
        let answer = self.router.call(request);
        async move {
            let answer = answer.await?;
            if let Some(rest) = rest.filter(|rest| !rest.is_over()) {
                rest.read().await;
            }
            Ok(answer.map(|body| Paced::new(body, in_progress)))
        }
        .boxed()
    }
}

/// The body of an answer.
pub type HostedBody = Paced<InProgress>;

impl Gate for InProgress {
    fn pass(&self) -> Result<(), axum::BoxError> {
        Ok(())
    }
}
