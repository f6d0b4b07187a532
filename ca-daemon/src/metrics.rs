//! What the daemon counts and measures.
//!
//! What other processes change as well (certificates, revocations, CRLs) is read from the database at each scrape and
//! never counted here.

use std::time::Duration;

use http::StatusCode;
use pki::time::Timestamp;
use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};

use crate::store::{CrlHead, RelyingParty, Tallies};

/// Seconds. A commit on a fast disk is in the first, a request that waits for a busy database in the last.
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
}

#[derive(Clone, Debug)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(BUCKETS)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("ca"),
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
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
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
            "Instances of relying parties that say they enforce a CRL number which was never given",
            self.claims.clone(),
        );
        registry.register(
            "relying_party_lag_crls",
            "CRLs that came after the one that a relying party enforces, by relying party: of its instances, the one that is furthest behind",
            self.lag.clone(),
        );
        self
    }

    /// An enrollment was denied.
    pub(crate) fn denied(&self, reason: &'static str) {
        self.denied.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    /// A request was answered.
    pub(crate) fn answered(&self, route: &str, status: StatusCode, took: Duration) {
        let labels = [("route", route.to_owned()), ("status", status.as_str().to_owned())];
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The text of a scrape.
    pub(crate) fn render(
        &self,
        tallies: &Tallies,
        crls: &[CrlHead],
        (parties, lags): (&[RelyingParty], &[u64]),
        now: Timestamp,
    ) -> String {
        let set = |counter: &Counter, value| counter.inner().store(value, std::sync::atomic::Ordering::Relaxed);
        set(&self.issued.get_or_create(&[("profile", "client".to_owned())]), tallies.client);
        set(&self.issued.get_or_create(&[("profile", "server".to_owned())]), tallies.server);
        set(&self.revoked, tallies.revoked);
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
        // Those that were forgotten are not to be shown for ever.
        self.lag.clear();
        for (party, lag) in parties.iter().zip(lags) {
            let lag = i64::try_from(*lag).unwrap_or(i64::MAX);
            let known = self.lag.get_or_create(&[("relying_party", party.name.clone())]);
            known.set(known.get().max(lag));
        }
        let mut rendered = String::new();
        text::encode(&mut rendered, &self.registry).expect("writing to a string does not fail");
        rendered
    }
}
