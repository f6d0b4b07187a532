//! Bounds on what one connection may cost, the same for every listener of this system.
//!
//! A silent, slow or greedy peer runs into one of them and is cut off; nobody else notices.

use std::time::Duration;

use axum_server::{Address, Server};
use hyper_util::{rt::TokioTimer, server::conn::auto::Builder};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::bounded::Bounded;

/// How long a TLS handshake may take, a PROXY header before it included.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request's header may take, the first one on a connection included.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take altogether.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests in flight may go on after a shutdown was asked for.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest request body in octets: a CSR has a few hundred.
pub const MAX_BODY: usize = 64 * 1024;

/// The most octets of header that one request may have.
const MAX_HEADER: u32 = 16 * 1024;
/// The most requests that one HTTP/2 connection may have open (RFC 9113 section 5.1.2).
const MAX_STREAMS: u32 = 128;
/// After so long without a frame, the peer is asked whether it is still there ...
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// ... and has so long to answer (RFC 9113 section 6.7).
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Lets this process open as many files as it may at all: every connection is one. To be called once at the start; that
/// it is not allowed is no reason not to run.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        warn!(%error, current = limit.current, "the limit on open files cannot be raised");
    }
}

/// Puts the bounds on a server, around the acceptor that it has.
#[must_use]
pub fn bounded<A: Address, Acceptor>(server: Server<A, Acceptor>) -> Server<A, Bounded<Acceptor>> {
    let mut server = server.first_request_timeout(HEADER_TIMEOUT).map(Bounded::new);
    bound(server.http_builder());
    server
}

/// A builder of HTTP connections with the bounds.
pub(crate) fn http_builder<E: Clone>(executor: E) -> Builder<E> {
    let mut builder = Builder::new(executor);
    bound(&mut builder);
    builder
}

fn bound<E>(builder: &mut Builder<E>) {
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
}
