//! Serves a router to authenticated clients, and ends the connections of those who are revoked.
//!
//! It is a loop of its own, and not `axum-server`'s, for one reason: ending one connection properly (HTTP/2 GOAWAY, then the
//! socket) takes hold of that connection, and `axum-server` lets go only of all at once. It never decides who is revoked.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{rt::TokioIo, server::conn::auto::Builder};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    acceptor::{Accepted, Acceptor},
    at_once::AtOnce,
    bounded::Slots,
    guard::Guarded,
    limits,
};

/// How long the connection of a revoked peer may take to send its GOAWAY; nothing else is sent on it by then.
const GOAWAY_TIMEOUT: Duration = Duration::from_millis(20);
/// How long to wait before the next attempt when no connection can be accepted, as when file descriptors run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Serves until `shutdown`; then no new connection is accepted, every open one gets its GOAWAY, and requests in flight
/// have [`limits::DRAIN_TIMEOUT`] to finish.
pub(crate) async fn serve(listener: TcpListener, acceptor: Acceptor, router: Router, shutdown: CancellationToken) {
    let http = Arc::new(limits::http_builder(AtOnce));
    let slots = Slots::for_listener();
    let mut connections = JoinSet::new();
    loop {
        let (stream, connected) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, connected)) => match slots.admit(stream) {
                    Some(stream) => (stream, connected),
                    None => continue,
                },
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_RETRY).await;
                    continue;
                }
            },
        };
        let (acceptor, router, http, shutdown) =
            (acceptor.clone(), router.clone(), Arc::clone(&http), shutdown.clone());
        connections.spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                accepted = acceptor.accept(stream, connected) => if let Some(accepted) = accepted {
                    serve_connection(accepted, acceptor.clone(), router, &http, &shutdown).await;
                },
            }
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(limits::DRAIN_TIMEOUT, drained).await.is_err() {
        info!(connections = connections.len(), "requests in flight took too long and are cut off");
    }
}

/// Serves one connection to its end, which is the peer's choice unless it is revoked, asks for nothing, or the server shuts down.
async fn serve_connection(
    accepted: Accepted,
    acceptor: Acceptor,
    router: Router,
    http: &Builder<AtOnce>,
    shutdown: &CancellationToken,
) {
    let Accepted { stream, peer, registration } = accepted;
    let end = registration.end();
    let guarded = Guarded::new(router, peer, acceptor, end.clone());
    let connection = http.serve_connection(TokioIo::new(stream), guarded.clone());
    tokio::pin!(connection);
    let silence = silence(&guarded);
    tokio::pin!(silence);
    let mut drains = false;
    loop {
        tokio::select! {
            biased;
            () = end.cancelled() => {
                connection.as_mut().graceful_shutdown();
                // What is in flight ends with the connection, at the latest when this returns.
                let _ = timeout(GOAWAY_TIMEOUT, connection).await;
                return;
            }
            () = shutdown.cancelled(), if !drains => {
                drains = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut silence => return,
            _ = connection.as_mut() => return,
        }
    }
}

/// Resolves when a connection has been open for [`limits::HEADER_TIMEOUT`] without a request; never if there was one.
async fn silence(guarded: &Guarded) {
    sleep(limits::HEADER_TIMEOUT).await;
    if guarded.was_asked() {
        std::future::pending::<()>().await;
    }
}
