//! The daemon's metrics.
//!
//! It never counts what other processes change, too (certificates, revocations, CRLs): that is read from the database
//! at each scrape.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use mtls::metrics::scrape;
use pki::time::Timestamp;
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};

use crate::{
    issuer::Issuer,
    store::{CrlHead, RelyingParty, Tallies},
};

/// In seconds. A commit on a fast disk is in the first bucket, a request that waits for a busy database in the last.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

type Labels<const N: usize> = [(&'static str, String); N];

/// The metrics of one process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    issued: Family<Labels<1>, Counter>,
    revoked: Counter,
    denied: Family<Labels<1>, Counter>,
    crl_number: Family<Labels<1>, Gauge>,
    crl_age: Family<Labels<1>, Gauge>,
    crl_left: Family<Labels<1>, Gauge>,
    requests: Family<Labels<2>, Histogram, Buckets>,
    registered: Gauge,
    connected: Gauge,
    claims: Gauge,
    lag: Family<Labels<1>, Gauge>,
    connected_instances: Family<Labels<1>, Gauge>,
    last_seen: Family<Labels<1>, Gauge>,
    not_after: Family<Labels<1>, Gauge>,
    failed_writes: Counter,
}

/// The values that are read for a scrape.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) tallies: Tallies,
    pub(crate) crls: [CrlHead; 2],
    pub(crate) parties: Vec<RelyingParty>,
    /// The lag of each of them, in the same order.
    pub(crate) lags: Vec<u64>,
    pub(crate) failed_writes: u64,
}

#[derive(Clone, Debug)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(BUCKETS)
    }
}

impl Metrics {
    /// `confirmations` is the feed's measurement of how long confirmations take.
    pub(crate) fn new(confirmations: Histogram) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            issued: Family::default(),
            revoked: Counter::default(),
            denied: Family::default(),
            crl_number: Family::default(),
            crl_age: Family::default(),
            crl_left: Family::default(),
            requests: Family::new_with_constructor(Buckets),
            registered: Gauge::default(),
            connected: Gauge::default(),
            claims: Gauge::default(),
            lag: Family::default(),
            connected_instances: Family::default(),
            last_seen: Family::default(),
            not_after: Family::default(),
            failed_writes: Counter::default(),
        };
        metrics.registry = mtls::metrics::registry("ca", env!("CARGO_PKG_VERSION"), |registry| {
            metrics.register(registry);
            registry.register(
                "confirmation_seconds",
                "Time from the commit of a CRL until an instance confirmed it, if it was the newest CRL then",
                confirmations,
            );
        });
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("certificates_issued", "Certificates issued, by profile", self.issued.clone());
        registry.register("certificates_revoked", "Certificates revoked", self.revoked.clone());
        registry.register("enrollments_denied", "Enrollments denied since the start, by reason", self.denied.clone());
        registry.register("crl_number", "Number of the current CRL, by issuer", self.crl_number.clone());
        registry.register("crl_age_seconds", "Time since the current CRL was issued, by issuer", self.crl_age.clone());
        registry.register(
            "crl_next_update_seconds",
            "Time until the current CRL is stale (below zero: it is), by issuer",
            self.crl_left.clone(),
        );
        registry.register(
            "http_request_duration_seconds",
            "Time to answer a request, by route and status",
            self.requests.clone(),
        );
        registry.register(
            "relying_parties",
            "Instances of relying parties that are expected to confirm",
            self.registered.clone(),
        );
        registry.register(
            "relying_parties_connected",
            "Instances of relying parties that are on the feed now",
            self.connected.clone(),
        );
        registry.register(
            "relying_party_claims",
            "Instances of relying parties that claim to enforce a CRL number that was never used",
            self.claims.clone(),
        );
        registry.register(
            "relying_party_lag_crls",
            "CRLs published after the one that a relying party enforces, by relying party: the most of any of its \
             instances",
            self.lag.clone(),
        );
        registry.register(
            "relying_party_connected_instances",
            "Instances of a relying party that are on the feed now, by relying party",
            self.connected_instances.clone(),
        );
        registry.register(
            "relying_party_last_seen_seconds",
            "When a relying party last sent a message, in Unix time: of its instance that has been silent for longest",
            self.last_seen.clone(),
        );
        registry.register(
            "certificate_not_after_seconds",
            "When a certificate ends, in Unix time: of the root, of the issuing CA, and of the daemon",
            self.not_after.clone(),
        );
        registry.register(
            "database_writes_failed",
            "Writes that failed because the disk is full or broken, since the start",
            self.failed_writes.clone(),
        );
    }

    /// Sets when the daemon's own certificate ends.
    pub(crate) fn presents(&self, not_after: Timestamp) {
        self.ends("own", not_after);
    }

    /// Sets when the certificate of an issuer ends.
    pub(crate) fn issuer_ends(&self, issuer: Issuer, not_after: Timestamp) {
        self.ends(issuer.as_str(), not_after);
    }

    fn ends(&self, certificate: &str, not_after: Timestamp) {
        self.not_after.get_or_create(&[("certificate", certificate.to_owned())]).set(not_after.unix());
    }

    /// Counts a denied enrollment.
    pub(crate) fn denied(&self, reason: &'static str) {
        self.denied.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    /// Counts a request that was answered.
    pub(crate) fn answered(&self, route: &str, status: StatusCode, took: Duration) {
        let labels = [("route", route.to_owned()), ("status", status.as_str().to_owned())];
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The body of a scrape and its Content-Type, for a request with these headers.
    pub(crate) fn render(&self, reading: &Reading, now: Timestamp, headers: &HeaderMap) -> (HeaderValue, String) {
        let Reading { tallies, crls, parties, lags, failed_writes } = reading;
        let set = |counter: &Counter, value| counter.inner().store(value, std::sync::atomic::Ordering::Relaxed);
        set(&self.issued.get_or_create(&[("profile", "client".to_owned())]), tallies.client);
        set(&self.issued.get_or_create(&[("profile", "server".to_owned())]), tallies.server);
        set(&self.revoked, tallies.revoked);
        set(&self.failed_writes, *failed_writes);
        for crl in crls {
            let issuer = [("issuer", crl.issuer.to_string())];
            self.crl_number.get_or_create(&issuer).set(crl.number.get());
            self.crl_age.get_or_create(&issuer).set(now.unix() - crl.this_update.unix());
            self.crl_left.get_or_create(&issuer).set(crl.next_update.unix() - now.unix());
        }
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.registered.set(count(parties.len()));
        self.connected.set(count(parties.iter().filter(|party| party.connected_since.is_some()).count()));
        self.claims.set(count(parties.iter().filter(|party| party.claims.is_some()).count()));
        // Removes relying parties that were forgotten.
        self.lag.clear();
        self.connected_instances.clear();
        self.last_seen.clear();
        for (party, lag) in parties.iter().zip(lags) {
            let lag = i64::try_from(*lag).unwrap_or(i64::MAX);
            let name = [("relying_party", party.name.clone())];
            let known = self.lag.get_or_create(&name);
            known.set(known.get().max(lag));
            self.connected_instances.get_or_create(&name).inc_by(i64::from(party.connected_since.is_some()));
            let earliest = self.last_seen.get_or_create(&name);
            // Zero is the value of a gauge that was just created.
            let before = if earliest.get() == 0 { i64::MAX } else { earliest.get() };
            earliest.set(before.min(party.last_seen.unix()));
        }
        scrape(&self.registry, headers)
    }
}
