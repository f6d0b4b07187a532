//! Serves a router to authenticated clients, and ends the connections of those who are revoked.
//!
//! It has its own loop instead of `axum-server`'s, because ending one connection properly (HTTP/2 GOAWAY, then the
//! socket) needs access to that connection. `axum-server` can only end all of them at once.
//!
//! It never decides who is revoked.

use std::{
    future::poll_fn,
    net::SocketAddr,
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use edge::listen::bounded::Slots;
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWrite,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::serve::{
    accept::{AcceptedConnection, Acceptor},
    accepting::{accept_until, drain},
    farewell::{farewell, let_answer_arrive},
    guard::Guarded,
    io::{
        at_once::{AtOnce, SelfWaking},
        corked::{Cork, corked},
    },
    limits::{self, Windows},
    stalls::Patience,
};

/// How long a connection that was opened before a shutdown may take for its handshake, and then for its first request.
/// In TLS 1.3 a client may send that request before the server has finished the handshake, and it would be lost.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a silent peer may take to receive the end of its connection.
const LEAVING: Duration = Duration::from_secs(1);
/// The most connections that are taken from the listener's queue when it is closed.
const MAX_QUEUE: usize = 4096;

/// Serves until `shutdown`. Then no new connection is accepted, every open one receives GOAWAY, and requests in flight
/// have [`limits::DRAIN_TIMEOUT`] to finish. Dropping the future cuts all of them off.
pub(crate) async fn serve(listener: TcpListener, acceptor: Acceptor, router: Router, shutdown: CancellationToken) {
    // Runs as a task, like its connections. A future that the main thread blocks on runs on that thread. Each new or
    // closed connection would wake that thread, and it would wake another one to serve the connection.
    let mut serving = JoinSet::new();
    serving.spawn(serve_here(listener, acceptor, router, shutdown));
    if let Some(Err(ended)) = serving.join_next().await
        && let Ok(panic) = ended.try_into_panic()
    {
        resume_unwind(panic);
    }
}

async fn serve_here(listener: TcpListener, acceptor: Acceptor, router: Router, shutdown: CancellationToken) {
    let (slots, patience) = (Slots::for_listener(), Patience::for_listener());
    let mut connections = JoinSet::new();
    let start = |connections: &mut JoinSet<()>, stream: TcpStream, connected: SocketAddr| {
        let Some(stream) = slots.admit(stream) else { return };
        let (acceptor, router, patience, shutdown) =
            (acceptor.clone(), router.clone(), patience.clone(), shutdown.clone());
        connections.spawn(async move {
            let accepted = tokio::select! {
                biased;
                accepted = acceptor.accept(stream, connected) => accepted,
                () = late(&shutdown) => None,
            };
            if let Some(accepted) = accepted {
                serve_connection(accepted, acceptor, router, &patience, &shutdown).await;
            }
        });
    };
    accept_until(&shutdown, &listener, &mut connections, start).await;
    for (stream, connected) in queue(listener) {
        start(&mut connections, stream, connected);
    }
    drain(connections).await;
}

/// Closes the listener. Returns the connections in its queue, because the kernel would reset them.
fn queue(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accept = || {
        let (stream, connected) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, connected))
    };
    std::iter::from_fn(accept).take(MAX_QUEUE).collect()
}

/// Resolves some time after a shutdown has begun. The time is enough for the next step of an earlier connection: its
/// handshake, or receiving the last answer.
async fn late(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    sleep(ARRIVAL_TIMEOUT).await;
}

/// Resolves when a shutdown has begun, and the connection has had its first request or time enough for it.
async fn time_to_go(shutdown: &CancellationToken, asked: &CancellationToken) {
    shutdown.cancelled().await;
    let _ = timeout(ARRIVAL_TIMEOUT, asked.cancelled()).await;
}

/// Serves one connection to its end. The peer ends it, unless it may not be served any more, sends no request, or the
/// server shuts down.
async fn serve_connection(
    accepted: AcceptedConnection,
    acceptor: Acceptor,
    router: Router,
    patience: &Patience,
    shutdown: &CancellationToken,
) {
    let AcceptedConnection { stream, peer, registration } = accepted;
    let end = registration.end();
    stream.get_ref().0.get_ref().take_unsent_along();
    let (stream, cork) = corked(stream, end.clone());
    let asked = CancellationToken::new();
    {
        let guarded = Guarded::new(router, peer, acceptor, end.clone(), asked.clone());
        let http = limits::http_builder(AtOnce::new(patience.of_connection()), Windows::Many);
        let connection = http.serve_connection(TokioIo::new(stream), guarded);
        tokio::pin!(connection);
        let is_silent = silence(&asked, limits::HEADER_TIMEOUT);
        tokio::pin!(is_silent);
        // A silent peer that has not received GOAWAY by then never will.
        let left_alone = silence(&asked, limits::HEADER_TIMEOUT + LEAVING);
        tokio::pin!(left_alone);
        let time_to_go = time_to_go(shutdown, &asked);
        tokio::pin!(time_to_go);
        let self_waking = SelfWaking::new();
        let mut drains = false;
        loop {
            tokio::select! {
                biased;
                () = end.begun() => break,
                () = &mut time_to_go, if !drains => {
                    drains = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut is_silent, if !drains => {
                    drains = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut left_alone => break,
                () = poll_fn(|context| poll_connection(connection.as_mut(), &self_waking, &cork, context)) => break,
            }
        }
        // Dropping the connection here drops all waiting requests, and what HTTP would have sent.
    }
    let (stream, sent) = cork.into_stream().expect("the other end was dropped with the connection");
    match end.reason() {
        Some(reason) => farewell(stream, sent, reason).await,
        None if asked.is_cancelled() => tokio::select! {
            () = let_answer_arrive(stream, &end) => {}
            // A peer that keeps its end open must not delay a shutdown.
            () = late(shutdown) => {}
        },
        // Nothing was answered.
        None => drop(stream),
    }
    // Last: dropping the registration reports that the connection's socket is gone.
    drop(registration);
}

/// Polls a connection once. Everything that this poll writes is sent together.
fn poll_connection<C: Future, S: AsyncWrite + Unpin>(
    connection: Pin<&mut C>,
    self_waking: &SelfWaking,
    cork: &Cork<S>,
    context: &mut Context<'_>,
) -> Poll<()> {
    if self_waking.poll(connection, context).is_ready() {
        return Poll::Ready(());
    }
    match cork.poll_release(context) {
        Poll::Ready(Err(_)) => Poll::Ready(()),
        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
    }
}

/// Resolves when a connection has been open for this long without a request. Never resolves if there was one.
async fn silence(asked: &CancellationToken, patience: Duration) {
    if timeout(patience, asked.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}
