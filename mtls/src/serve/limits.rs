//! Limits for one connection, the same for every listener of this system.
//!
//! It never enforces them: a silent, slow or greedy peer is cut off by the code that uses a limit, and other peers are
//! not affected.

use std::time::Duration;

use hyper_util::{rt::TokioTimer, server::conn::auto::Builder};

/// Timeout of a TLS handshake, including a PROXY header before it.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for a request's header, including the first one on a connection.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of a whole request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests in flight may continue after a shutdown was requested.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest request body in bytes. A CSR has a few hundred.
pub const MAX_BODY: usize = 64 * 1024;

/// The most bytes of header of one request.
const MAX_HEADER: u32 = 16 * 1024;
/// The most open requests on one HTTP/2 connection of an authenticated peer (RFC 9113 section 5.1.2).
const MAX_STREAMS: u32 = 32;
/// The same for a peer that may be a stranger.
const MAX_STREAMS_OF_STRANGERS: u32 = 8;
/// How many bytes a peer may send on a stream or a connection before they are read. This is HTTP/2's default.
const WINDOW: u32 = 65_535;
/// The same for a peer that hands over whole CRLs.
const LARGE_WINDOW: u32 = 1024 * 1024;
/// How many bytes of an answer HTTP/2 buffers before they can be sent.
const SEND_BUFFER: usize = 16 * 1024;
/// How many streams that a peer has reset are remembered. More count as an attack.
const MAX_RESET_STREAMS: usize = 16;
/// After this long without a frame, a PING is sent.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Timeout for the answer to that PING (RFC 9113 section 6.7).
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The size of the windows, by the kind of peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Windows {
    /// Few streams with small windows, for a stranger.
    Small,
    /// For an authenticated peer with many requests at once.
    Many,
    /// For a peer that hands over long CRLs.
    Large,
}

/// A builder of HTTP connections with these limits.
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
