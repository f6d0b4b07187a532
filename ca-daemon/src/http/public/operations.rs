//! Health, readiness and metrics.
//!
//! It never changes anything.

use axum::{extract::State, response::IntoResponse};
use http::{HeaderMap, HeaderValue, header};

use crate::{
    feed::not_heard,
    http::{App, HttpError},
    issuer::Issuer,
    metrics::Reading,
};

/// The process answers requests.
pub(in crate::http) async fn health() -> &'static str {
    "ok\n"
}

/// Whether the authority can work, without the names of relying parties, because this is public.
pub(in crate::http) async fn readiness(State(app): State<App>) -> Result<&'static str, HttpError> {
    check(&app).await?;
    Ok("ready\n")
}

/// The same for operators, with the relying parties that have not reported.
pub(in crate::http) async fn readiness_in_detail(State(app): State<App>) -> Result<String, HttpError> {
    check(&app).await?;
    let unheard = app.feed.unheard();
    // This does not turn readiness off: the first service needs a ready authority to enroll.
    let remark = if unheard.is_empty() && app.feed.has_relying_parties() {
        String::new()
    } else {
        format!("{}\n", not_heard(&unheard))
    };
    Ok(format!("ready\n{remark}"))
}

/// Whether the authority can work: its issuing CA is not revoked, its database can be read and written and is not an
/// older copy, and no relying party lacks a CRL that it accepts.
async fn check(app: &App) -> Result<(), HttpError> {
    let now = app.clock.now();
    // Checked first, because it is permanent.
    if let Some(revocation) = app.authority.store().issuer_revocation().await.map_err(HttpError::Unready)? {
        return Err(HttpError::IssuerRevoked(revocation));
    }
    app.authority.store().check_writable().map_err(HttpError::Unwritable)?;
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
    Ok(())
}

/// The metrics, for Prometheus.
pub(in crate::http) async fn metrics(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, HttpError> {
    let (content_type, text) = app.renderings.share(async || render(&app, &headers).await).await?;
    Ok(([(header::CONTENT_TYPE, content_type)], text))
}

async fn render(app: &App, headers: &HeaderMap) -> Result<(HeaderValue, String), HttpError> {
    let store = app.authority.store();
    let parties = app.feed.relying_parties();
    let reading = Reading {
        tallies: store.tallies().await?,
        crls: [store.crl_head(Issuer::Root).await?, store.crl_head(Issuer::Issuing).await?],
        lags: store.lags(&parties).await?,
        parties,
        failed_writes: store.failed_writes(),
    };
    Ok(app.metrics.render(&reading, app.clock.now(), headers))
}
