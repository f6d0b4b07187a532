//! The metrics of a relying party for Prometheus: handshakes, refusals, ended connections and CRL fetches. The modules
//! below write a scrape, and add the metrics of the process.
//!
//! It never decides anything.

mod exposition;
mod process;
mod renderings;

use std::fmt::{self, Write as _};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::revocation::{EndLabels, LiveSet};

pub use self::{exposition::scrape, process::registry, renderings::Renderings};

/// Why a connection or a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Reason {
    NoCertificate,
    UnknownIssuer,
    Excess,
    NoKey,
    WrongUsage,
    NotYetValid,
    Expired,
    Revoked,
    NoFreshCrl,
    Barred,
    ProxyHeader,
    Timeout,
    Displaced,
    Disconnected,
    Protocol,
}

impl Reason {
    /// The reason in words, for a log line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no client certificate was presented",
            Self::UnknownIssuer => "the certificate was not issued by this fleet's authority",
            Self::Excess => "more certificates were presented than any path has",
            Self::NoKey => "the client does not hold the certificate's key",
            Self::WrongUsage => "the certificate is not for clients",
            Self::NotYetValid => "the certificate is not valid yet",
            Self::Expired => "the certificate has expired",
            Self::Revoked => "the certificate is revoked",
            Self::NoFreshCrl => "there is no current CRL",
            Self::Barred => "the service lets nobody in at present",
            Self::ProxyHeader => "the balancer's PROXY header is missing or broken",
            Self::Timeout => "the handshake took too long",
            Self::Displaced => "the handshake was displaced by newer ones",
            Self::Disconnected => "the client disconnected during the handshake",
            Self::Protocol => "the TLS handshake failed",
        }
    }
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.write_str(match self {
            Self::NoCertificate => "no_certificate",
            Self::UnknownIssuer => "unknown_issuer",
            Self::NoKey => "no_key",
            Self::WrongUsage => "wrong_usage",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::NoFreshCrl => "no_fresh_crl",
            Self::Barred => "barred",
            Self::ProxyHeader => "proxy_header",
            Self::Excess => "excess",
            Self::Displaced => "displaced",
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::Protocol => "protocol",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Handshake {
    Full,
    Resumed,
}

impl EncodeLabelValue for Handshake {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.write_str(match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    kind: Handshake,
}

/// The metrics of one relying party. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    accepted: Family<HandshakeLabels, Counter>,
    handshakes_refused: Family<RefusalLabels, Counter>,
    requests_refused: Family<RefusalLabels, Counter>,
    connections_ended: Family<EndLabels, Counter>,
    fetches_failed: Counter,
    feed_connected: Gauge,
    renewals: Counter,
    renewals_failed: Counter,
}

impl Metrics {
    /// The metrics of the relying party with this live set.
    pub(crate) fn of(live: &LiveSet) -> Self {
        Self { connections_ended: live.connections_ended(), ..Self::default() }
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("tls_handshakes", "TLS handshakes completed with an accepted client", self.accepted.clone());
        registry.register(
            "tls_handshakes_refused",
            "Connections refused before their first request",
            self.handshakes_refused.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests refused on a connection that was open already",
            self.requests_refused.clone(),
        );
        registry.register(
            "connections_ended",
            "Open connections that were ended before their peer did, because it may not be served any more",
            self.connections_ended.clone(),
        );
        registry.register("crl_fetches_failed", "CRLs that could not be fetched", self.fetches_failed.clone());
        registry.register("renewals", "Certificates of this process that were renewed", self.renewals.clone());
        registry.register(
            "renewals_failed",
            "Attempts to renew its certificate that failed",
            self.renewals_failed.clone(),
        );
        registry.register("feed_connected", "1 while the authority's feed is open", self.feed_connected.clone());
    }

    pub(crate) fn accepted(&self, kind: Handshake) {
        self.accepted.get_or_create(&HandshakeLabels { kind }).inc();
    }

    pub(crate) fn handshake_refused(&self, reason: Reason) {
        self.handshakes_refused.get_or_create(&RefusalLabels { reason }).inc();
    }

    /// Counts the CRLs that could not be fetched.
    pub(crate) fn fetches_failed(&self) -> Counter {
        self.fetches_failed.clone()
    }

    pub(crate) fn renewed(&self, is_done: bool) {
        if is_done { &self.renewals } else { &self.renewals_failed }.inc();
    }

    pub(crate) fn feed_is_open(&self, is_open: bool) {
        self.feed_connected.set(i64::from(is_open));
    }

    pub(crate) fn request_refused(&self, reason: Reason) {
        self.requests_refused.get_or_create(&RefusalLabels { reason }).inc();
    }
}
