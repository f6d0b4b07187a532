//! The service's metrics for Prometheus: requests, and the age of CRLs. `mtls` has the metrics of connections.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderValue},
    response::Response,
};
use edge::clock::Clock;
use mtls::{
    metrics::scrape,
    revocation::{ListInForce, LiveSet},
};
use pki::time::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tower::{Layer, Service};

use crate::own::OwnCertificate;

/// From 100 microseconds to 1.6 seconds, in doublings.
fn request_durations() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.000_1, 2.0, 15))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CrlLabels {
    issuer: String,
    /// Distinguishes CAs of the same name.
    key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: String,
}

/// The service's metrics. Clones share the counters.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    registry: Registry,
    requests: Family<RequestLabels, Histogram>,
    crl_number: Family<CrlLabels, Gauge>,
    crl_seconds_left: Family<CrlLabels, Gauge>,
    crl_seconds_to_refusal: Family<CrlLabels, Gauge>,
    crl_entries: Family<CrlLabels, Gauge>,
    open_connections: Gauge,
    certificate_ends: Family<CertificateLabels, Gauge>,
    own: OwnCertificate,
    live: LiveSet,
    clock: Clock,
}

impl Metrics {
    /// Of a service with these counters of its connections, its own certificate, and those above it with their ends.
    pub(crate) fn new(
        connections: &mtls::metrics::Metrics,
        own: OwnCertificate,
        above: &[(String, Timestamp)],
        live: LiveSet,
        clock: Clock,
        has_feed: bool,
    ) -> Self {
        let mut counted = Counted {
            registry: Registry::default(),
            requests: Family::new_with_constructor(request_durations as fn() -> Histogram),
            crl_number: Family::default(),
            crl_seconds_left: Family::default(),
            crl_seconds_to_refusal: Family::default(),
            crl_entries: Family::default(),
            open_connections: Gauge::default(),
            certificate_ends: Family::default(),
            own,
            live,
            clock,
        };
        counted.registry = mtls::metrics::registry("api_server", env!("CARGO_PKG_VERSION"), |registry| {
            connections.register(registry);
            counted.register(registry);
            let feed = Gauge::<i64>::default();
            feed.set(i64::from(has_feed));
            registry.register(
                "feed",
                "1 if the service uses its authority's feed, 0 if the file with the authority's address is missing: then no revocation waits for it",
                feed,
            );
            for (certificate, end) in above {
                let labels = CertificateLabels { certificate: certificate.clone() };
                counted.certificate_ends.get_or_create(&labels).set(end.unix());
            }
            registry.register(
                "certificate_not_after_seconds",
                "When a certificate ends, in Unix time: the service's own, and those above it by their names",
                counted.certificate_ends.clone(),
            );
        });
        Self(Arc::new(counted))
    }

    /// The body and Content-Type of a scrape. `headers` are those of the request.
    pub(crate) fn encode(&self, headers: &HeaderMap) -> (HeaderValue, String) {
        let now = self.0.clock.now();
        let own = CertificateLabels { certificate: "own".to_owned() };
        self.0.certificate_ends.get_or_create(&own).set(self.0.own.not_after().unix());
        self.0.open_connections.set(i64::try_from(self.0.live.open_connections()).unwrap_or(i64::MAX));
        for freshness in self.0.live.freshness() {
            let labels = CrlLabels { issuer: freshness.issuer.name.to_string(), key: freshness.issuer.short_key() };
            if let Some(ListInForce { number, next_update, revoked, admits_until, .. }) = freshness.list {
                self.0.crl_number.get_or_create(&labels).set(number.get());
                self.0.crl_seconds_left.get_or_create(&labels).set(next_update.unix() - now.unix());
                self.0.crl_seconds_to_refusal.get_or_create(&labels).set(admits_until.unix() - now.unix());
                self.0.crl_entries.get_or_create(&labels).set(i64::try_from(revoked).unwrap_or(i64::MAX));
            }
        }
        scrape(&self.0.registry, headers)
    }
}

impl Counted {
    fn register(&self, registry: &mut Registry) {
        registry.register("request_duration_seconds", "Time to answer a request", self.requests.clone());
        registry.register("crl_number", "Number of the CRL in force", self.crl_number.clone());
        registry.register(
            "crl_seconds_to_next_update",
            "Seconds until the CRL in force is stale and the service is not ready; negative since then",
            self.crl_seconds_left.clone(),
        );
        registry.register(
            "crl_seconds_to_refusal",
            "Seconds until clients are refused because the CRL in force is stale and any grace is over; negative since then",
            self.crl_seconds_to_refusal.clone(),
        );
        registry.register("crl_entries", "Certificates that the CRL in force revokes", self.crl_entries.clone());
        registry.register("open_connections", "Authenticated connections that are open", self.open_connections.clone());
    }
}

/// Measures the time of every request by its route. It is a layer type of its own, because axum's layers of functions
/// box each request and each answer.
#[derive(Clone, Debug)]
pub(crate) struct TimeRequests(pub(crate) Metrics);

impl<S> Layer<S> for TimeRequests {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed { inner, metrics: self.0.clone() }
    }
}

/// A service with measured requests.
#[derive(Clone, Debug)]
pub(crate) struct Timed<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Service<Request> for Timed<S>
where
    S: Service<Request, Response = Response>,
    S::Future: Unpin,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Timing<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let route = request.extensions().get::<MatchedPath>().cloned();
        let began = Instant::now();
        Timing { answer: self.inner.call(request), route, began, metrics: self.metrics.clone() }
    }
}

/// The response of a measured request.
#[derive(Debug)]
pub(crate) struct Timing<F> {
    answer: F,
    route: Option<MatchedPath>,
    began: Instant,
    metrics: Metrics,
}

impl<F, E> Future for Timing<F>
where
    F: Future<Output = Result<Response, E>> + Unpin,
{
    type Output = Result<Response, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        if let Ok(response) = &answer {
            let route = self.route.as_ref().map_or("none", MatchedPath::as_str).to_owned();
            let labels = RequestLabels { route, status: response.status().as_u16() };
            self.metrics.0.requests.get_or_create(&labels).observe(self.began.elapsed().as_secs_f64());
        }
        Poll::Ready(answer)
    }
}
