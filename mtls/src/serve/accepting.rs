//! The accept loop of every listener, and the draining of its connections.
//!
//! It never reads from a connection: the caller serves it.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::limits;

/// The pause after an error of `accept`, such as no free file descriptor.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Passes each connection to `start`, which adds its task to the set, until `shutdown`.
pub(crate) async fn accept_until(
    shutdown: &CancellationToken,
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    start: impl Fn(&mut JoinSet<()>, TcpStream, SocketAddr),
) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, connected)) => start(connections, stream, connected),
                Err(error) => retry_later(&error).await,
            },
        }
    }
}

async fn retry_later(error: &io::Error) {
    warn!(%error, "a connection could not be accepted");
    sleep(ACCEPT_RETRY).await;
}

/// Waits until every connection has ended, at most [`limits::DRAIN_TIMEOUT`]. The remaining ones are cut off.
pub(crate) async fn drain(mut connections: JoinSet<()>) {
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(limits::DRAIN_TIMEOUT, drained).await.is_err() {
        info!(connections = connections.len(), "requests in flight took too long and are cut off");
    }
}
