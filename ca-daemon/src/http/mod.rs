//! What is served: enrollment over TLS; in plain HTTP what is public and signed; and on a listener of their own, health
//! and metrics for operators.
//!
//! A handler parses, asks the authority and answers. It never decides, and only `error` knows status codes of failures.

mod body;
mod error;
mod fleet;
mod public;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use edge::clock::Clock;
use http::{HeaderMap, Method, Uri, request::Parts};
use mtls::{metrics::Renderings, serve::limits};
use pki::{
    serial::Serial,
    token::TokenId,
    wire::{
        CONFIRM_PATH, ENROLL_PATH, FEED_PATH, GOODBYE_PATH, HAND_OVER_PATH, KNOWN_PATH, RENEW_PATH, RENEWAL_PATH,
        ROLL_CALL_PATH,
    },
};

use self::{
    body::Bodies,
    error::HttpError,
    fleet::{feed, known, renew},
    public::{
        enroll, openapi, operations,
        publication::{self, Published},
    },
};
use crate::{
    authority::Authority,
    feed::Feed,
    issuer::{CrlKind, Issuer},
    metrics::Metrics,
};

/// What the handlers share.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) authority: Arc<Authority>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) feed: Feed,
    /// Who hands over CRLs.
    handing_over: Arc<feed::Turns>,
    /// The bodies of those who have nothing but a token.
    strangers: Bodies<TokenId>,
    /// Those of relying parties.
    members: Bodies<Serial>,
    renderings: Renderings,
    published: Arc<Published>,
}

impl App {
    pub(crate) fn new(authority: Arc<Authority>, feed: Feed, clock: Clock) -> Self {
        let published = Arc::new(Published::new(&authority));
        let metrics = Arc::new(Metrics::new(feed.confirmation_times()));
        Self {
            authority,
            clock,
            metrics,
            feed,
            handing_over: Arc::default(),
            strangers: Bodies::default(),
            members: Bodies::default(),
            renderings: Renderings::default(),
            published,
        }
    }
}

/// What is served over TLS.
pub(crate) fn private_routes(app: App) -> Router {
    let router = crl_routes(Router::new())
        .route(openapi::PATH, get(openapi::openapi))
        .route(ENROLL_PATH, post(enroll::enroll))
        .route(RENEW_PATH, post(renew::renew))
        .route(RENEWAL_PATH, get(renew::renewal))
        .route(FEED_PATH, get(feed::feed))
        .route(CONFIRM_PATH, post(feed::confirm))
        .route(GOODBYE_PATH, post(feed::goodbye))
        .route(HAND_OVER_PATH, post(feed::hand_over))
        .route(KNOWN_PATH, post(known::known))
        .route(ROLL_CALL_PATH, post(feed::answer_roll_call));
    with_common_parts(router, app)
}

/// What is served to everybody in plain HTTP.
pub(crate) fn public_routes(app: App) -> Router {
    let mut router = crl_routes(Router::new())
        .route(openapi::PATH, get(openapi::openapi))
        .route("/healthz", get(operations::health))
        .route("/readyz", get(operations::readiness));
    for issuer in Issuer::ALL {
        router = router.route(
            issuer.certificate_path(),
            get(async move |State(app): State<App>, headers: HeaderMap| {
                publication::certificate(&app, issuer, &headers)
            }),
        );
    }
    with_common_parts(router, app)
}

/// What is served to operators in plain HTTP: it names relying parties, which is nobody else's business.
pub(crate) fn operations_routes(app: App) -> Router {
    let router = Router::new()
        .route("/healthz", get(operations::health))
        .route("/readyz", get(operations::readiness_in_detail))
        .route("/metrics", get(operations::metrics));
    with_common_parts(router, app)
}

/// The CRLs, in plain HTTP for everybody and over TLS for who knows the authority: they are signed either way.
fn crl_routes(mut router: Router<App>) -> Router<App> {
    for issuer in Issuer::ALL {
        let crls = [
            (CrlKind::Complete, Some(issuer.crl_path())),
            (CrlKind::Delta, issuer.delta_path()),
            (CrlKind::Servers, issuer.servers_path()),
        ];
        for (kind, path) in crls {
            let Some(path) = path else { continue };
            router = router.route(
                path,
                get(async move |State(app): State<App>, request: Parts| {
                    publication::crl(&app, issuer, kind, &request).await
                }),
            );
        }
    }
    router
}

fn with_common_parts(router: Router<App>, app: App) -> Router {
    router
        .fallback(async |uri: Uri| HttpError::NotFound(uri.path().to_owned()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            HttpError::MethodNotAllowed(method, uri.path().to_owned())
        })
        .layer(middleware::from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

/// Bounds the time until a request is answered and measures it; an answer may take its time, as the feed does.
async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let started = Instant::now();
    let response = match tokio::time::timeout(limits::REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => HttpError::TimedOut.into_response(),
    };
    // An unknown path is not a label: whoever asks for a million of them would fill the memory.
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    app.metrics.answered(route, response.status(), started.elapsed());
    response
}
