//! Decides which requests are repeated, and how often. Repeated are those that certainly no service has processed, and
//! those whose connection was lost before the answer. The latter may have been processed, but all requests only read
//! (RFC 9110 section 9.2.2).
//!
//! It never repeats a request that was answered or refused. Repeats of both kinds are counted and reported.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use edge::errors::find;
use h2::Reason;
use serde_json::{Value, json};

use crate::outcome::FailureKind;

/// The pauses before the second attempt and those after it. After the last one the request has failed. The first pause
/// is zero: a service that shuts down (GOAWAY) can be replaced by another replica at once.
pub(crate) const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(400)];

/// Why a request may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No service has processed it.
    Unprocessed,
    /// The connection ended before the answer was complete.
    Lost,
}

/// Whether a request that failed with this error is repeated.
pub(crate) fn fate(kind: &FailureKind, error: &(dyn Error + 'static)) -> Option<Fate> {
    match kind {
        FailureKind::ConnectionClosed | FailureKind::Other if is_unprocessed(error) => Some(Fate::Unprocessed),
        FailureKind::ConnectionClosed => Some(Fate::Lost),
        // A service refused it, or nothing listens. Neither changes within moments.
        _ => None,
    }
}

fn is_unprocessed(error: &(dyn Error + 'static)) -> bool {
    // The connection was never established.
    find::<hyper_util::client::legacy::Error>(error).is_some_and(hyper_util::client::legacy::Error::is_connect)
        // The request waited for a connection, which ended first.
        || find::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled)
        || find::<h2::Error>(error).is_some_and(|error| {
            // The server reports that it did not process this request (RFC 9113 section 8.7),
            error.reason() == Some(Reason::REFUSED_STREAM)
                // or this and all later requests: h2 ends only streams above GOAWAY's last id with this error (section
                // 6.8).
                || (error.is_go_away() && error.is_remote())
        })
}

/// The number of repeated requests. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repeats(Arc<[AtomicU64; 2]>);

impl Repeats {
    pub(crate) fn count(&self, fate: Fate) {
        self.0[fate as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, fate: Fate) -> u64 {
        self.0[fate as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "unprocessed": self.of(Fate::Unprocessed), "lost": self.of(Fate::Lost) })
    }

    /// A line for people, if any request was repeated.
    pub(crate) fn to_text(&self) -> Option<String> {
        let (unprocessed, lost) = (self.of(Fate::Unprocessed), self.of(Fate::Lost));
        (unprocessed + lost > 0)
            .then(|| format!("repeated  {unprocessed} that no service had processed, {lost} whose connection was lost"))
    }
}

#[cfg(test)]
mod tests {
    use std::{io, net::SocketAddr};

    use http::Request;
    use http_body_util::Empty;
    use hyper::body::Bytes;
    use hyper_util::{
        client::legacy::Client,
        rt::{TokioExecutor, TokioIo},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// The error of a request to a server that treats its one connection like this.
    async fn error_of<F>(serve: impl FnOnce(TcpStream) -> F) -> hyper::Error
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (accepted, connected) = tokio::join!(listener.accept(), TcpStream::connect(listener.local_addr().unwrap()));
        tokio::spawn(serve(accepted.unwrap().0));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(connected.unwrap()))
                .await
                .unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://service/hello").body(Empty::<Bytes>::new()).unwrap();
        sender.send_request(request).await.unwrap_err()
    }

    /// Answers every request with a reset for this reason.
    async fn reset(stream: TcpStream, reason: Reason) {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(reason);
        }
    }

    #[tokio::test]
    async fn a_refused_stream_was_not_processed_and_any_other_reset_says_nothing() {
        let error = error_of(|stream| reset(stream, Reason::REFUSED_STREAM)).await;
        assert_eq!(fate(&FailureKind::ConnectionClosed, &error), Some(Fate::Unprocessed), "{error:?}");
        let error = error_of(|stream| reset(stream, Reason::INTERNAL_ERROR)).await;
        assert_eq!(fate(&FailureKind::ConnectionClosed, &error), Some(Fate::Lost), "{error:?}");
    }

    #[tokio::test]
    async fn a_connection_that_broke_after_the_request_is_lost() {
        let error = error_of(|stream| async {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            connection.accept().await.unwrap().unwrap();
        });
        let error = error.await;
        assert_eq!(fate(&FailureKind::ConnectionClosed, &error), Some(Fate::Lost), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_above_the_last_id_of_a_goaway_was_not_processed() {
        // Written frame by frame (RFC 9113 sections 6.5 and 6.8), because no server library sends GOAWAY in the middle
        // of a request on demand.
        const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
        const HEADERS_OF_STREAM_1: &[u8] = b"\x01\x05\0\0\0\x01";
        const GOAWAY_NOTHING_PROCESSED: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let error = error_of(|mut stream| async move {
            stream.write_all(SETTINGS).await.unwrap();
            let mut received = Vec::new();
            while !received.windows(6).any(|window| window == HEADERS_OF_STREAM_1) {
                assert!(stream.read_buf(&mut received).await.unwrap() > 0, "the request does not come");
            }
            stream.write_all(GOAWAY_NOTHING_PROCESSED).await.unwrap();
            while stream.read_buf(&mut received).await.unwrap_or(0) > 0 {}
        });
        let error = error.await;
        assert_eq!(fate(&FailureKind::ConnectionClosed, &error), Some(Fate::Unprocessed), "{error:?}");
    }

    #[tokio::test]
    async fn a_connection_that_never_came_about_took_no_request_along() {
        let address: SocketAddr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let error = client.get(format!("http://{address}/").parse().unwrap()).await.unwrap_err();
        assert_eq!(fate(&FailureKind::ConnectionClosed, &error), Some(Fate::Unprocessed));
        assert_eq!(fate(&FailureKind::ConnectionRefused, &error), None, "nothing listens there");
    }

    #[test]
    fn refusals_are_not_repeated() {
        let error = io::Error::from(io::ErrorKind::ConnectionReset);
        for kind in [
            FailureKind::HandshakeRefused("certificate_revoked".to_owned()),
            FailureKind::ServerNotTrusted,
            FailureKind::Status(403),
            FailureKind::Timeout,
            FailureKind::Other,
        ] {
            assert_eq!(fate(&kind, &error), None, "{kind}");
        }
    }

    #[test]
    fn repeats_are_reported() {
        let repeats = Repeats::default();
        assert_eq!(repeats.to_text(), None);
        repeats.count(Fate::Lost);
        repeats.clone().count(Fate::Unprocessed);
        repeats.count(Fate::Unprocessed);
        assert_eq!(repeats.to_json(), json!({ "unprocessed": 2, "lost": 1 }));
        assert!(repeats.to_text().unwrap().contains("2 that no service had processed, 1 whose connection was lost"));
    }
}
