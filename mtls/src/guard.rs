//! The guard around every request of a connection: the peer was let in when the connection opened, and is asked about
//! again before each request, because a connection may outlive the certificate's standing.
//!
//! It never decides about revocation itself.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{Router, body::Body, response::Response, routing::future::RouteFuture};
use http::{HeaderValue, Request, StatusCode, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use pki::wire::{PROBLEM_JSON, Problem};
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::{debug, info};

use crate::{
    acceptor::Acceptor,
    metrics::Reason,
    peer::{Peer, PeerRefusal},
};

/// A connection's router behind the guard. Requests that pass carry the [`Peer`] as an extension.
#[derive(Clone, Debug)]
pub(crate) struct Guarded(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    router: Router,
    peer: Peer,
    acceptor: Acceptor,
    /// Cancelled when the peer is revoked.
    end: CancellationToken,
    /// Cancelled by the first request.
    asked: CancellationToken,
}

impl Guarded {
    pub(crate) fn new(
        router: Router,
        peer: Peer,
        acceptor: Acceptor,
        end: CancellationToken,
        asked: CancellationToken,
    ) -> Self {
        Self(Arc::new(Connection { router, peer, acceptor, end, asked }))
    }
}

impl hyper::service::Service<Request<Incoming>> for Guarded {
    type Response = Response;
    type Error = Ended;
    type Future = Answer<RouteFuture<std::convert::Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let Connection { router, peer, acceptor, end, asked } = &*self.0;
        asked.cancel();
        if end.is_cancelled() {
            return Answer::Ended;
        }
        let parts = acceptor.parts();
        match peer.check(&parts.live, parts.clock.now()) {
            Ok(()) => {
                request.extensions_mut().insert(peer.clone());
                // A router is always ready.
                Answer::Inner { answer: router.clone().call(request), end: end.clone() }
            }
            Err(refusal) => {
                log(peer, &refusal);
                parts.metrics.request_refused(refusal.reason());
                Answer::Refused(Some(problem(&refusal, request.version())))
            }
        }
    }
}

/// The answer to a request, unless the peer is revoked before it is there.
pub(crate) enum Answer<F> {
    Inner { answer: F, end: CancellationToken },
    Refused(Option<Response>),
    Ended,
}

impl<F> Future for Answer<F>
where
    F: Future<Output = Result<Response, std::convert::Infallible>> + Unpin,
{
    type Output = Result<Response, Ended>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Inner { end, .. } if end.is_cancelled() => Poll::Ready(Err(Ended::in_flight())),
            Self::Inner { answer, end } => {
                let response = ready!(Pin::new(answer).poll(context)).unwrap_or_else(|never| match never {});
                Poll::Ready(Ok(guard_body(response, end)))
            }
            Self::Refused(response) => {
                Poll::Ready(Ok(response.take().expect("a future is not polled after it was ready")))
            }
            Self::Ended => Poll::Ready(Err(Ended::refused())),
        }
    }
}

/// A body whose length is known is sent in one go; one that is still being made stops when the peer is revoked.
fn guard_body(response: Response, end: &CancellationToken) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| Body::new(GuardedBody { body, end: end.clone() }))
}

struct GuardedBody {
    body: Body,
    end: CancellationToken,
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if self.end.is_cancelled() {
            return Poll::Ready(Some(Err(Ended::in_flight().into())));
        }
        Pin::new(&mut self.body).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The connection's peer was revoked. On HTTP/2 the stream is reset with the error code in it (RFC 9113 section 7); on
/// HTTP/1.1 the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the client's certificate was revoked")]
pub(crate) struct Ended(#[source] h2::Error);

impl Ended {
    fn in_flight() -> Self {
        Self(h2::Reason::CANCEL.into())
    }

    fn refused() -> Self {
        Self(h2::Reason::REFUSED_STREAM.into())
    }
}

fn log(peer: &Peer, refusal: &PeerRefusal) {
    let certificate = peer.certificate();
    if matches!(refusal.reason(), Reason::NoFreshCrl | Reason::Barred) {
        // It concerns everybody and every request, and the log has said so when it began.
        debug!(client = certificate.display_name(), why = refusal.to_string(), "request refused");
        return;
    }
    info!(
        client = certificate.display_name(),
        serial = %certificate.id.serial,
        from = %peer.address(),
        reason = refusal.reason().as_str(),
        why = refusal.to_string(),
        "request refused"
    );
}

/// The refusal as a problem document (RFC 9457). Over HTTP/1.1 it also ends the connection.
fn problem(refusal: &PeerRefusal, version: Version) -> Response {
    let (status, kind) = match refusal.reason() {
        Reason::NoFreshCrl => (StatusCode::SERVICE_UNAVAILABLE, "no-fresh-crl"),
        Reason::Barred => (StatusCode::SERVICE_UNAVAILABLE, "barred"),
        Reason::Expired => (StatusCode::FORBIDDEN, "certificate-expired"),
        _ => (StatusCode::FORBIDDEN, "certificate-revoked"),
    };
    let problem = Problem {
        kind: format!("/problems/{kind}"),
        title: refusal.reason().as_str().to_owned(),
        status: status.as_u16(),
        detail: refusal.to_string(),
    };
    let body = serde_json::to_vec(&problem).expect("a problem document is plain text and numbers");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    // HTTP/2 has no such header (RFC 9113 section 8.2.2).
    if version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
