//! Steps before and after the handler of every request. An invalid HTTP/1.1 request is refused. If the answer is ready
//! before the request was read, a short rest of the body is read first: a peer that still sends when its stream is
//! reset may lose the answer.
//!
//! It never interprets what a request is for.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use http::{HeaderValue, Request, StatusCode, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use pki::wire::{PROBLEM_JSON, Problem};
use tokio::time::timeout;

use crate::serve::limits::MAX_BODY;

/// How long the rest of a request may take to arrive before the answer is sent anyway.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest rest that is read, in bytes. It exceeds the largest allowed body, so that the sender of a body that is a
/// little too long receives the error.
const LITTLE: usize = 2 * MAX_BODY;

/// The answer to an HTTP/1.1 request that does not name exactly one host (RFC 9112 section 3.2). HTTP/1.0 has no such
/// header.
pub(crate) fn refuse_without_host<B>(request: &Request<B>) -> Option<Response> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let is_right = match request.version() {
        Version::HTTP_11 => hosts == 1,
        Version::HTTP_09 | Version::HTTP_10 => hosts < 2,
        _ => true,
    };
    if is_right {
        return None;
    }
    let detail = if hosts == 0 { "an HTTP/1.1 request has to name its host" } else { "a request names one host" };
    let mut answer = problem(StatusCode::BAD_REQUEST, "host-invalid", "Host invalid", detail);
    // The request may be malformed in other ways, so the start of the next one is uncertain.
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Some(answer)
}

/// A problem document (RFC 9457).
pub(crate) fn problem(status: StatusCode, kind: &str, title: &str, detail: &str) -> Response {
    let problem = Problem {
        kind: format!("/problems/{kind}"),
        title: title.to_owned(),
        status: status.as_u16(),
        detail: detail.to_owned(),
    };
    let body = serde_json::to_vec(&problem).expect("a problem document is plain text and numbers");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    response
}

/// The part of a request's body that is not read yet.
#[derive(Debug)]
pub(crate) struct Rest(Arc<Mutex<Incoming>>);

/// The body as a handler reads it.
struct SharedBody(Arc<Mutex<Incoming>>);

/// Returns the request for its handler and, over HTTP/2, access to what the handler leaves of its body. Over HTTP/1.1
/// hyper closes the connection after the answer, and a peer with `Expect: 100-continue` must not be asked to send the
/// body.
pub(crate) fn keep_rest(request: Request<Incoming>) -> (Request<Body>, Option<Rest>) {
    let announced = request.body().size_hint().exact();
    let is_little = announced.is_none_or(|length| length <= LITTLE as u64);
    if request.version() != Version::HTTP_2
        || request.body().is_end_stream()
        || !is_little
        || request.headers().contains_key(header::EXPECT)
    {
        return (request.map(Body::new), None);
    }
    let (parts, body) = request.into_parts();
    let body = Arc::new(Mutex::new(body));
    (Request::from_parts(parts, Body::new(SharedBody(Arc::clone(&body)))), Some(Rest(body)))
}

impl Rest {
    /// Reads the rest, if it is short and arrives soon. Reads nothing while the handler itself still reads, as it does
    /// if it answers while it reads.
    pub(crate) async fn read(self) {
        let Some(body) = Arc::into_inner(self.0) else { return };
        let mut body = body.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut left = LITTLE;
        let reading = async {
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(length) {
                    Some(less) => left = less,
                    None => return,
                }
            }
        };
        let _ = timeout(PATIENCE, reading).await;
    }

    /// Whether the body is read completely.
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.0).is_end_stream()
    }
}

impl http_body::Body for SharedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut *lock(&self.0)).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).size_hint()
    }
}

fn lock(body: &Mutex<Incoming>) -> MutexGuard<'_, Incoming> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_is_named_over_http_1_1() {
        for (version, hosts, is_refused) in [
            (Version::HTTP_11, 0, true),
            (Version::HTTP_11, 1, false),
            (Version::HTTP_11, 2, true),
            (Version::HTTP_10, 0, false),
            (Version::HTTP_10, 2, true),
            (Version::HTTP_2, 0, false),
        ] {
            let mut request = Request::builder().version(version);
            for _ in 0..hosts {
                request = request.header(header::HOST, "ca");
            }
            let refused = refuse_without_host(&request.body(()).unwrap());
            assert_eq!(refused.map(|answer| answer.status()), is_refused.then_some(StatusCode::BAD_REQUEST));
        }
    }
}
