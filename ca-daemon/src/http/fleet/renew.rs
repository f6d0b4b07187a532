//! `POST /v1/renew` and `GET /v1/renewal`: the holder of a certificate, who has proven that in the handshake, gets its successor, and is
//! told when it is time for that.
//!
//! It never decides who is renewed.

use std::net::SocketAddr;

use axum::{
    Json,
    extract::{ConnectInfo, FromRequestParts, Request, State},
};
use edge::random;
use http::request::Parts;
use mtls::serve::{PeerCertificate, limits};
use pki::{
    certificate::CertificateInfo,
    issuing::IssuedCertificate,
    pem,
    serial::Serial,
    wire::{EnrollResponse, RenewRequest, RenewalAnswer},
};
use rustls_pki_types::CertificateDer;
use tracing::warn;

use crate::{
    authority::RenewError,
    http::{App, HttpError},
    issuer::Issuer,
};

/// The holder of the certificate at the other end: this authority has signed it, and whether it is revoked is not looked up yet.
pub(in crate::http) struct Holder {
    certificate: IssuedCertificate,
    address: SocketAddr,
}

impl FromRequestParts<App> for Holder {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, HttpError> {
        let presented = parts.extensions.get().and_then(|PeerCertificate(certificate)| certificate.as_ref());
        let der = CertificateDer::from(presented.ok_or(HttpError::NothingToRenew)?.to_vec());
        let info = CertificateInfo::from_der(&der).map_err(|_| HttpError::NothingToRenew)?;
        let profile = info.profile.ok_or(HttpError::NothingToRenew)?;
        // The handshake was a while ago, or resumed from one that was.
        if !info.validity.contains(app.clock.now()) {
            return Err(HttpError::PeerExpired { serial: info.id.serial });
        }
        let address = ConnectInfo::<SocketAddr>::from_request_parts(parts, app).await;
        let ConnectInfo(address) = address.map_err(|_| HttpError::NothingToRenew)?;
        Ok(Self { certificate: IssuedCertificate { der, info, profile }, address })
    }
}

pub(in crate::http) async fn renew(
    State(app): State<App>,
    holder: Holder,
    request: Request,
) -> Result<Json<EnrollResponse>, HttpError> {
    let (serial, peer) = (holder.certificate.info.id.serial, holder.address);
    check_standing(&app, serial).await?;
    let read = app.members.json::<RenewRequest>(serial, request, limits::MAX_BODY, HttpError::RenewBody).await?;
    let successor = Serial::from_random(random::bytes());
    match app.authority.renew(holder.certificate, &read.value.csr, successor, app.clock.now()).await {
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

pub(in crate::http) async fn renewal(State(app): State<App>, holder: Holder) -> Result<Json<RenewalAnswer>, HttpError> {
    let info = &holder.certificate.info;
    check_standing(&app, info.id.serial).await?;
    let renewal = app.authority.store().renewal_window(&info.id.serial, info.validity).await?;
    Ok(Json(RenewalAnswer { renewal }))
}

/// Before anything is read of who has nothing to expect. The transaction that renews looks again.
async fn check_standing(app: &App, serial: Serial) -> Result<(), HttpError> {
    match app.authority.store().revoked_since(&serial).await? {
        Some(at) => Err(HttpError::PeerRevoked { serial, at }),
        None => Ok(()),
    }
}
