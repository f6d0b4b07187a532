//! `POST /v1/renew` and `GET /v1/renewal`: the holder of a certificate, who has proven that in the handshake, gets its
//! successor, and the time for that.
//!
//! It never decides who is renewed.

use axum::{
    Json,
    extract::{FromRequestParts, Request, State},
};
use edge::random;
use http::request::Parts;
use mtls::serve::limits;
use pki::{
    certificate::CertificateInfo,
    issuing::IssuedCertificate,
    pem,
    serial::Serial,
    wire::{EnrollResponse, RenewRequest, RenewalAnswer},
};
use tracing::warn;

use crate::{
    authority::RenewError,
    http::{
        App, HttpError,
        fleet::peer::{PeerHolder, check_not_revoked},
    },
    issuer::Issuer,
};

/// The holder of a certificate of either profile.
pub(in crate::http) struct Holder(PeerHolder);

impl FromRequestParts<App> for Holder {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, HttpError> {
        let any = |info: &CertificateInfo| info.profile.ok_or(HttpError::NothingToRenew);
        PeerHolder::read(parts, app, || HttpError::NothingToRenew, any).await.map(Self)
    }
}

pub(in crate::http) async fn renew(
    State(app): State<App>,
    Holder(holder): Holder,
    request: Request,
) -> Result<Json<EnrollResponse>, HttpError> {
    let PeerHolder { der, info, profile, address: peer } = holder;
    let serial = info.id.serial;
    // Before the body is read. The transaction that renews looks again.
    check_not_revoked(&app, serial).await?;
    let read = app.members.json::<RenewRequest>(serial, request, limits::MAX_BODY, HttpError::RenewBody).await?;
    let successor = Serial::from_random(random::bytes());
    let predecessor = IssuedCertificate { der, info, profile };
    match app.authority.renew(predecessor, &read.value.csr, successor, app.clock.now()).await {
        Ok((chain, window)) => Ok(Json(EnrollResponse {
            chain: pem::chain(&chain),
            root: pem::certificate(app.authority.certificate(Issuer::Root)),
            renewal: Some(window),
        })),
        Err(error) => {
            if let RenewError::Denied(denial) = &error {
                app.metrics.denied(denial.reason());
                warn!(%peer, %serial, reason = denial.reason(), detail = %denial, "renewal denied");
            }
            Err(error.into())
        }
    }
}

pub(in crate::http) async fn renewal(
    State(app): State<App>,
    Holder(PeerHolder { info, .. }): Holder,
) -> Result<Json<RenewalAnswer>, HttpError> {
    check_not_revoked(&app, info.id.serial).await?;
    let renewal = app.authority.store().renewal_window(&info.id.serial, info.validity).await?;
    Ok(Json(RenewalAnswer { renewal }))
}
