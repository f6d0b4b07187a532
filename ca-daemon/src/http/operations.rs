//! Health, readiness and metrics, for whoever operates the authority.
//!
//! It never changes anything.

use axum::{extract::State, response::IntoResponse};
use http::header;

use super::{App, HttpError};
use crate::{settings::Issuer, upkeep::not_heard};

/// The process answers.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// The authority can do its work: its issuing CA is not revoked, its database can be read and is no older copy, and no relying
/// party is starved of a CRL that it accepts.
pub(super) async fn readiness(State(app): State<App>) -> Result<String, HttpError> {
    let now = app.clock.now();
    // What comes below can be mended; this cannot.
    if let Some(revocation) = app.authority.store().issuer_revocation().await.map_err(HttpError::Unready)? {
        return Err(HttpError::IssuerRevoked(revocation));
    }
    for issuer in Issuer::ALL {
        let crl = app.authority.store().crl_head(issuer).await.map_err(HttpError::Unready)?;
        if crl.is_stale(now) {
            return Err(HttpError::Stale { issuer, since: crl.next_update });
        }
        if crl.is_from_the_future(now) {
            return Err(HttpError::FromTheFuture { issuer, this_update: crl.this_update });
        }
        let newest = app.authority.store().newest(issuer).await.map_err(HttpError::Unready)?;
        if let Some(ahead) = newest.ahead {
            return Err(ahead.into());
        }
    }
    let unheard = app.feed.unheard();
    // Ready all the same: a new authority has no services, and they need it to become some.
    let remark = if unheard.is_empty() && app.feed.has_relying_parties() {
        String::new()
    } else {
        format!("{}\n", not_heard(&unheard))
    };
    Ok(format!("ready\n{remark}"))
}

/// What happened, in the text format that Prometheus reads (`OpenMetrics` 1.0).
pub(super) async fn metrics(State(app): State<App>) -> Result<impl IntoResponse, HttpError> {
    let store = app.authority.store();
    let tallies = store.tallies().await?;
    let crls = [store.crl_head(Issuer::Root).await?, store.crl_head(Issuer::Issuing).await?];
    let parties = app.feed.relying_parties();
    let lags = store.lags(&parties).await?;
    let text = app.metrics.render(&tallies, &crls, (&parties, &lags), app.clock.now());
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}
