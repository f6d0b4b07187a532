//! The guard around every request of a connection. The peer was admitted when the connection opened. It is checked
//! again before each request, because its certificate may have been revoked or have expired. When the answer is ready,
//! and before each piece of its body, the guard checks again whether the connection has to end.
//!
//! It never decides about revocation itself.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{Router, response::Response, routing::future::RouteFuture};
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Request, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::{debug, info};

use crate::{
    metrics::Reason,
    revocation::{End, EndReason},
    serve::{
        accept::Acceptor,
        peer::{Peer, PeerRefusal},
        requests::{self, Rest, keep_rest, refuse_without_host},
        stalls::{Gate, Paced},
    },
};

/// A connection's router behind the guard. Requests that pass carry the [`Peer`] as an extension.
#[derive(Clone, Debug)]
pub(crate) struct Guarded(Arc<GuardedConnection>);

#[derive(Debug)]
struct GuardedConnection {
    router: Router,
    peer: Peer,
    acceptor: Acceptor,
    end: End,
    /// Cancelled by the first request.
    asked: CancellationToken,
}

impl Guarded {
    pub(crate) fn new(router: Router, peer: Peer, acceptor: Acceptor, end: End, asked: CancellationToken) -> Self {
        Self(Arc::new(GuardedConnection { router, peer, acceptor, end, asked }))
    }
}

impl hyper::service::Service<Request<Incoming>> for Guarded {
    type Response = Response<GuardedBody>;
    type Error = Ended;
    type Future = GuardedAnswer<RouteFuture<std::convert::Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let GuardedConnection { router, peer, acceptor, end, asked } = &*self.0;
        asked.cancel();
        if let Some(reason) = end.reason() {
            return GuardedAnswer::Ended(reason);
        }
        if let Some(refusal) = refuse_without_host(&request) {
            return GuardedAnswer::answered(refusal, None, end);
        }
        let parts = acceptor.parts();
        match peer.check(&parts.live, parts.clock.now()) {
            Ok(()) => {
                request.extensions_mut().insert(peer.clone());
                let (request, rest) = keep_rest(request);
                // A router is always ready.
                GuardedAnswer::Inner { answer: router.clone().call(request), rest, end: end.clone() }
            }
            Err(refusal) => {
                log(peer, &refusal);
                parts.metrics.request_refused(refusal.reason());
                let problem = problem(&refusal, request.version());
                GuardedAnswer::answered(problem, keep_rest(request).1, end)
            }
        }
    }
}

/// The answer to a request, unless the connection has to end before it is ready.
pub(crate) enum GuardedAnswer<F> {
    Inner {
        answer: F,
        rest: Option<Rest>,
        end: End,
    },
    /// The answer is ready, and waits for the rest of the request.
    Reading {
        answer: Option<Response>,
        reading: Option<BoxFuture<'static, ()>>,
        end: End,
    },
    Ended(EndReason),
}

impl<F> GuardedAnswer<F> {
    fn answered(answer: Response, rest: Option<Rest>, end: &End) -> Self {
        let rest = rest.filter(|rest| !rest.is_over());
        let reading = rest.map(|rest| rest.read().boxed());
        Self::Reading { answer: Some(answer), reading, end: end.clone() }
    }
}

impl<F> Future for GuardedAnswer<F>
where
    F: Future<Output = Result<Response, std::convert::Infallible>> + Unpin,
{
    type Output = Result<Response<GuardedBody>, Ended>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Self::Inner { answer, rest, end } = &mut *self {
            if let Some(reason) = end.reason() {
                return Poll::Ready(Err(Ended::in_flight(reason)));
            }
            let response = ready!(Pin::new(answer).poll(context)).unwrap_or_else(|never| match never {});
            *self = Self::answered(response, rest.take(), &end.clone());
        }
        match &mut *self {
            Self::Reading { answer, reading, end } => {
                if let Some(reading) = reading {
                    ready!(reading.poll_unpin(context));
                }
                // The handler may have taken long.
                if let Some(reason) = end.reason() {
                    return Poll::Ready(Err(Ended::in_flight(reason)));
                }
                let response = answer.take().expect("a future is not polled after it was ready");
                Poll::Ready(Ok(response.map(|body| Paced::new(body, end.clone()))))
            }
            Self::Ended(reason) => Poll::Ready(Err(Ended::refused(*reason))),
            Self::Inner { .. } => unreachable!("it was replaced above"),
        }
    }
}

/// A body that stops when the connection has to end. It keeps the length of the inner body.
type GuardedBody = Paced<End>;

impl Gate for End {
    fn pass(&self) -> Result<(), axum::BoxError> {
        self.reason().map_or(Ok(()), |reason| Err(Ended::in_flight(reason).into()))
    }
}

/// The connection has to end. On HTTP/2 the stream is reset with this error code (RFC 9113 section 7). On HTTP/1.1 the
/// connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Ended {
    reason: EndReason,
    #[source]
    code: h2::Error,
}

impl Ended {
    fn in_flight(reason: EndReason) -> Self {
        Self { reason, code: h2::Reason::CANCEL.into() }
    }

    fn refused(reason: EndReason) -> Self {
        Self { reason, code: h2::Reason::REFUSED_STREAM.into() }
    }
}

fn log(peer: &Peer, refusal: &PeerRefusal) {
    let certificate = peer.certificate();
    if matches!(refusal.reason(), Reason::NoFreshCrl | Reason::Barred) {
        // It affects every client and every request, and was logged when it began.
        debug!(client = certificate.shown_name(), why = refusal.to_string(), "request refused");
        return;
    }
    info!(
        client = certificate.shown_name(),
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
    let mut response = requests::problem(status, kind, refusal.reason().as_str(), &refusal.to_string());
    // HTTP/2 has no such header (RFC 9113 section 8.2.2).
    if version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc};

    use axum::body::Body;
    use http_body::Body as _;
    use http_body_util::BodyExt as _;
    use pki::time::Timestamp;

    use super::*;
    use crate::revocation::{LiveSet, Registration};

    /// A registered connection, and a function that ends it.
    fn connection() -> (Registration, impl Fn()) {
        let live = LiveSet::new(Vec::new());
        let registration = live.watch(Arc::new([]), Timestamp::MIN);
        (registration, move || assert_eq!(live.end_overdue(EndReason::Expired, Timestamp::MAX), 1))
    }

    #[test]
    fn an_answer_is_dropped_if_the_connection_has_ended_before_it_is_ready() {
        let (registration, end) = connection();
        // The connection ends while the handler runs.
        let answer = poll_fn(move |_| {
            end();
            Poll::Ready(Ok(Response::new(Body::from("secret"))))
        });
        let answer = GuardedAnswer::Inner { answer, rest: None, end: registration.end() }.now_or_never();
        let ended = answer.expect("it is ready").expect_err("it was dropped");
        assert_eq!(ended.to_string(), EndReason::Expired.as_str());
    }

    #[test]
    fn a_body_of_known_length_keeps_its_length_and_stops_as_well() {
        for empty in [false, true] {
            let (registration, end) = connection();
            let body = if empty { Body::empty() } else { Body::from("secret") };
            let answer = async move { Ok(Response::new(body)) }.boxed();
            let answer = GuardedAnswer::Inner { answer, rest: None, end: registration.end() }.now_or_never();
            let mut body = answer.expect("it is ready").expect("nothing has ended").into_body();
            assert_eq!(body.size_hint().exact(), Some(if empty { 0 } else { 6 }));
            assert_eq!(body.is_end_stream(), empty);
            end();
            assert!(body.frame().now_or_never().expect("it is ready").is_some_and(|frame| frame.is_err()));
        }
    }
}
