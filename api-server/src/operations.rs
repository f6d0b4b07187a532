//! The routes for the balancer and operators, over plain HTTP on a listener of its own.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use edge::clock::Clock;
use mtls::{metrics::Renderings, revocation::LiveSet};

use crate::{metrics::Metrics, own::OwnCertificate};

/// What readiness depends on. Clones share the state.
#[derive(Clone, Debug)]
pub(crate) struct Operations {
    pub(crate) live: LiveSet,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) renderings: Renderings,
    /// What the service presents.
    pub(crate) own: OwnCertificate,
    pub(crate) draining: Arc<AtomicBool>,
}

/// The routes for operators.
pub(crate) fn routes(operations: Operations) -> Router {
    Router::new()
        .route("/readyz", get(readyz))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/metrics", get(metrics))
        .with_state(operations)
}

/// Whether clients should be sent here. Without a current CRL the service refuses everyone, so it is not ready.
async fn readyz(State(operations): State<Operations>) -> Response {
    let now = operations.clock.now();
    let not_ready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response();
    if operations.draining.load(Ordering::Relaxed) {
        return not_ready("shutting down".to_owned());
    }
    let not_after = operations.own.not_after();
    if now > not_after {
        return not_ready(format!("the service's own certificate expired at {not_after}"));
    }
    match operations.live.ready(now) {
        Ok(()) => "ready\n".into_response(),
        Err(refusal) => not_ready(refusal.to_string()),
    }
}

async fn metrics(State(operations): State<Operations>, headers: HeaderMap) -> Response {
    let scrape = operations.renderings.share(async || Ok::<_, Infallible>(operations.metrics.encode(&headers))).await;
    let (content_type, text) = scrape.unwrap_or_else(|never| match never {});
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::to_bytes;
    use mtls::revocation::OnStaleCrl;
    use pki::{
        crl::{CrlDraft, CrlIssuer, CrlNumber},
        issuing::{AuthoritySubject, CertificateAuthority, Publication},
        key::KeyPair,
        serial::Serial,
        time::Timestamp,
    };

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// A service with an hour of grace, whose CRL is valid for an hour from `now`.
    fn operations(now: Timestamp) -> Operations {
        let publication = Publication {
            crl_url: String::new(),
            delta_crl_url: None,
            servers_crl_url: None,
            certificate_url: String::new(),
        };
        let subject = AuthoritySubject { organization: "Tests".parse().unwrap(), name: "Fleet".parse().unwrap() };
        let serial = Serial::from_random([1; 16]);
        let root =
            CertificateAuthority::new_root(&subject, KeyPair::generate().unwrap(), serial, now, publication).unwrap();
        let number = CrlNumber::FIRST;
        let draft = CrlDraft { number, this_update: now, next_update: now.plus(HOUR), revoked: Vec::new() };
        let live = LiveSet::new(vec![CrlIssuer::from_certificate(root.info()).unwrap()]);
        let live = live.on_stale_crl(OnStaleCrl::Grace(HOUR));
        live.install(&root.sign_crl(&draft).unwrap(), now).unwrap();
        let clock = Clock::manual(now);
        let metrics = Metrics::new(
            &mtls::metrics::Metrics::default(),
            OwnCertificate::Until(Timestamp::MAX),
            &[],
            live.clone(),
            clock.clone(),
            true,
        );
        let renderings = Renderings::default();
        Operations {
            live,
            clock,
            metrics,
            renderings,
            own: OwnCertificate::Until(Timestamp::MAX),
            draining: Arc::default(),
        }
    }

    async fn ask(operations: &Operations) -> (u16, String) {
        let (parts, body) = readyz(State(operations.clone())).await.into_parts();
        (parts.status.as_u16(), String::from_utf8(to_bytes(body, 1024).await.unwrap().into()).unwrap())
    }

    #[tokio::test]
    async fn a_stale_crl_turns_readiness_off_with_grace_left_and_without_and_is_counted_down() {
        let now = Timestamp::from_unix(1_795_510_800);
        let operations = operations(now);
        let table = [
            (Duration::ZERO, 200, "ready", 3600, 7200),
            (HOUR, 200, "ready", 0, 3600),
            (HOUR + Duration::from_secs(1), 503, "judged by the stale CRL until 2026-11-24 11:00:00Z", -1, 3599),
            (HOUR * 2, 503, "judged by the stale CRL until", -3600, 0),
            (HOUR * 3, 503, "clients are refused", -7200, -3600),
        ];
        for (after, status, text, to_next_update, to_refusal) in table {
            operations.clock.set(now.plus(after));
            let answer = ask(&operations).await;
            assert!(answer.0 == status && answer.1.contains(text), "{after:?}: {answer:?}");
            let metrics = operations.metrics.encode(&HeaderMap::new()).1;
            let gauge = |name: &str| {
                let line = metrics.lines().find(|line| line.starts_with(&format!("api_server_{name}{{"))).unwrap();
                line.rsplit(' ').next().unwrap().parse::<i64>().unwrap()
            };
            assert_eq!(gauge("crl_seconds_to_next_update"), to_next_update, "{after:?}");
            assert_eq!(gauge("crl_seconds_to_refusal"), to_refusal, "{after:?}");
        }
    }
}
