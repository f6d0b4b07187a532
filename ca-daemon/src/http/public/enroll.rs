//! `POST /v1/enroll`: a token's secret and a certificate signing request become a certificate.
//!
//! It never decides who is enrolled.

use std::net::SocketAddr;

use axum::{
    Json,
    extract::{ConnectInfo, Request, State},
};
use edge::random;
use http::{HeaderMap, header};
use mtls::serve::limits;
use pki::{
    certificate::CertificateInfo,
    pem,
    renewal::Window,
    serial::Serial,
    token::Secret,
    wire::{EnrollRequest, EnrollResponse},
};
use rustls_pki_types::CertificateDer;
use tracing::warn;

use crate::{
    authority::EnrollError,
    http::{App, HttpError},
    issuer::Issuer,
};

pub(in crate::http) async fn enroll(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Json<EnrollResponse>, HttpError> {
    let Some(secret) = bearer(request.headers()) else {
        app.metrics.denied("token-missing");
        warn!(%peer, reason = "token-missing", "enrollment denied");
        return Err(HttpError::NoToken);
    };
    // Before the body is read, or waited for.
    app.authority.check_token(&secret).await.map_err(|error| denied(&app, peer, error))?;
    let read =
        app.strangers.json::<EnrollRequest>(secret.hash().id(), request, limits::MAX_BODY, HttpError::Body).await?;
    let request = &read.value;
    let serial = Serial::from_random(random::bytes());
    match app.authority.enroll(&secret, request.profile, &request.csr, serial, app.clock.now()).await {
        Ok(chain) => Ok(Json(EnrollResponse {
            chain: pem::chain(&chain),
            root: pem::certificate(app.authority.certificate(Issuer::Root)),
            renewal: renewal(&chain),
        })),
        Err(error) => Err(denied(&app, peer, error)),
    }
}

/// When to renew the first certificate of a chain.
fn renewal(chain: &[CertificateDer<'_>]) -> Option<Window> {
    let info = CertificateInfo::from_der(chain.first()?).ok()?;
    Some(Window::of(info.validity))
}

fn denied(app: &App, peer: SocketAddr, error: EnrollError) -> HttpError {
    if let EnrollError::Denied(denied) = &error {
        let reason = denied.why.reason();
        app.metrics.denied(reason);
        warn!(%peer, token = %denied.token, reason, detail = %denied, "enrollment denied");
    }
    error.into()
}

/// The secret in `Authorization: Bearer SECRET`, or in `Authorization: Bearer TOKEN` with the whole token (RFC 6750 section 2.1; the
/// scheme's name is in any case).
fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let (scheme, secret) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") { Secret::from_bearer(secret.trim()) } else { None }
}
