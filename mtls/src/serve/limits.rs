//! Bounds on what one connection may cost, the same for every listener of this system.
//!
//! A silent, slow or greedy peer runs into one of them and is cut off; nobody else notices.

use std::time::Duration;

use hyper_util::{rt::TokioTimer, server::conn::auto::Builder};

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
/// The most requests that one HTTP/2 connection of an authenticated peer may have open (RFC 9113 section 5.1.2) ...
const MAX_STREAMS: u32 = 32;
/// ... and of somebody who may be a stranger.
const MAX_STREAMS_OF_STRANGERS: u32 = 8;
/// How many bytes a peer may send on a stream, or on a connection, before somebody reads them: HTTP/2's own default.
const WINDOW: u32 = 65_535;
/// How many where a whole list is handed over.
const LARGE_WINDOW: u32 = 1024 * 1024;
/// How many bytes of an answer HTTP/2 takes before they can leave.
const SEND_BUFFER: usize = 16 * 1024;
/// How many streams that a peer has reset are remembered before that counts as an attack.
const MAX_RESET_STREAMS: usize = 16;
/// After so long without a frame, the peer is asked whether it is still there ...
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// ... and has so long to answer (RFC 9113 section 6.7).
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whom a connection may belong to, and what that allows for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Windows {
    /// Few streams, and small.
    Small,
    /// Of a peer that is known, and asks for much at once.
    Many,
    /// Of a peer that hands over long lists.
    Large,
}

/// A builder of HTTP connections with the bounds.
pub(crate) fn http_builder<E>(executor: E, windows: Windows) -> Builder<E> {
    let (streams, window) = match windows {
        Windows::Small => (MAX_STREAMS_OF_STRANGERS, WINDOW),
        Windows::Many => (MAX_STREAMS, WINDOW),
        Windows::Large => (MAX_STREAMS * 2, LARGE_WINDOW),
    };
    let mut builder = Builder::new(executor);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_RESET_STREAMS)
        .max_header_list_size(MAX_HEADER)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}
