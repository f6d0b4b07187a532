//! The end of a connection, until nothing of it is left that this machine could still send. Only then may a revocation
//! be called enforced.
//!
//! It never sends a part of an answer to a peer that may not be served any more.

use std::time::Duration;

use edge::listen::bounded::BoundedStream;
use tokio::{
    io::{AsyncWriteExt as _, copy, sink},
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;

use crate::{
    revocation::{End, EndReason},
    serve::io::{
        flights::Flights,
        frames::{self, Sent},
    },
};

/// How long a peer that may not be served any more has to receive the end and to close its side.
const PATIENCE: Duration = Duration::from_millis(10);
/// How long another peer may take to receive the last answer and to close its side.
const TAKING: Duration = Duration::from_mins(1);
/// When the socket is first checked after it was closed on this side. The delay doubles.
const LOOK: Duration = Duration::from_millis(1);
/// The upper limit of that delay.
const MAX_LOOK: Duration = Duration::from_millis(200);

/// Ends the connection of a peer that may not be served any more. `sent` is what was sent on it. On HTTP/2 it sends
/// GOAWAY, if that is still possible.
pub(crate) async fn farewell(mut stream: TlsStream<Flights<BoundedStream>>, sent: Sent, reason: EndReason) {
    let (_, tls) = stream.get_ref();
    // If TLS still has data to send, the peer does not read, and nothing can overtake that data.
    if !tls.wants_write() {
        let _ = timeout(PATIENCE, say(&mut stream, sent, reason)).await;
    }
}

/// Ends the connection of a peer that may still be served. It may take its time for the last answer, unless its
/// connection has to end meanwhile: the kernel would still send the rest.
pub(crate) async fn let_answer_arrive(mut stream: TlsStream<Flights<BoundedStream>>, end: &End) {
    // Usually the peer has closed the connection.
    if stream.get_ref().0.get_ref().is_over() {
        return;
    }
    let taking = async {
        let _ = stream.get_mut().0.shutdown().await;
        let mut pause = LOOK;
        while !stream.get_ref().0.get_ref().is_over() {
            sleep(pause).await;
            pause = (pause * 2).min(MAX_LOOK);
        }
    };
    tokio::select! {
        biased;
        () = end.begun() => {}
        _ = timeout(TAKING, taking) => {}
    }
}

/// Sends the end, and waits until the peer has closed its side. Dropping the socket earlier may discard what was sent.
async fn say(stream: &mut TlsStream<Flights<BoundedStream>>, sent: Sent, reason: EndReason) {
    if sent.is_whole() {
        let _ = stream.write_all(&frames::go_away(reason.as_str())).await;
    }
    if sent.says_its_length() {
        let _ = stream.shutdown().await;
    } else {
        // Without TLS's close_notify: an answer that was cut off must not look complete (RFC 9112 section 9.8).
        let _ = stream.get_mut().0.shutdown().await;
    }
    // Received data is discarded, but must be read: closing a socket with unread data resets the connection.
    let _ = copy(&mut stream.get_mut().0, &mut sink()).await;
}
