//! The end of a connection, up to the moment at which nothing of it is left that could leave this machine: after that, a revocation may be
//! called enforced.
//!
//! It never sends anything of an answer to a peer that is not to be served any more.

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

/// How long a peer that is not to be served any more may take to hear of it and to close its end.
const PATIENCE: Duration = Duration::from_millis(10);
/// How long another peer may take what was answered last, and to close its end.
const TAKING: Duration = Duration::from_mins(1);
/// How soon the socket is looked at for the first time after it was closed at this end; it doubles ...
const LOOK: Duration = Duration::from_millis(1);
/// ... up to this.
const MAX_LOOK: Duration = Duration::from_millis(200);

/// Ends the connection of a peer that is not to be served any more, on which this was sent: with GOAWAY on HTTP/2, if that can still be
/// said.
pub(crate) async fn farewell(mut stream: TlsStream<Flights<BoundedStream>>, sent: Sent, reason: EndReason) {
    let (_, tls) = stream.get_ref();
    // Where TLS still has something to send, the peer does not read what is sent to it, and nothing can go past that.
    if !tls.wants_write() {
        let _ = timeout(PATIENCE, say(&mut stream, sent, reason)).await;
    }
}

/// Ends the connection of a peer in good standing, which may take its time for what was answered last, unless it loses that standing
/// meanwhile: the kernel would send it all the same.
pub(crate) async fn let_answer_arrive(mut stream: TlsStream<Flights<BoundedStream>>, end: &End) {
    // Mostly it is the peer that has closed the connection.
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

/// Says it, and waits until the peer has closed its end: a socket that is dropped before may take along what was said.
async fn say(stream: &mut TlsStream<Flights<BoundedStream>>, sent: Sent, reason: EndReason) {
    if sent.is_whole() {
        let _ = stream.write_all(&frames::go_away(reason.as_str())).await;
    }
    if sent.says_its_length() {
        let _ = stream.shutdown().await;
    } else {
        // Without TLS's own end: an answer that was cut off must not look as if this were all of it (RFC 9112 section 9.8).
        let _ = stream.get_mut().0.shutdown().await;
    }
    // What comes meanwhile is of no interest, and what is not read would end the socket early.
    let _ = copy(&mut stream.get_mut().0, &mut sink()).await;
}
