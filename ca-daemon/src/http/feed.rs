//! `GET /v1/feed` and what comes back on it: relying parties hear of new CRLs, say what they enforce and who is connected to
//! them, and hand over a CRL that the authority has forgotten.
//!
//! It never believes a body who somebody is: the certificate of the connection says so.

use std::{
    collections::HashSet,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{ConnectInfo, FromRequestParts, State, rejection::JsonRejection},
    response::{IntoResponse, Response},
};
use axum_server::tls::TlsInfo;
use futures_util::StreamExt as _;
use http::{StatusCode, header, request::Parts};
use mtls::limits;
use pki::{
    certificate::CertificateInfo,
    profile::Profile,
    wire::{Confirmation, NDJSON, RollCallAnswer},
};
use tokio::time::timeout;

use super::{App, HttpError};
use crate::{authority, feed::Member};

/// The largest handing-over: a list of a million entries, in PEM, and what was added to it.
const MAX_HANDED_OVER: usize = 64 * 1024 * 1024;
/// How long it may take to arrive: half of what a request has, so that the next one in turn has time left.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(limits::REQUEST_TIMEOUT.as_secs() / 2);

/// Whose turn it is to hand over CRLs. One at a time, for each may fill a good part of the memory; and each relying party waits for
/// one turn only, so that none keeps the others from theirs.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turn: tokio::sync::Mutex<()>,
    waiting: Mutex<HashSet<String>>,
}

/// A place in the line, given up when it is dropped.
struct Place<'a> {
    turns: &'a Turns,
    name: String,
}

impl Turns {
    /// None if this relying party waits already.
    fn line_up(&self, name: String) -> Option<Place<'_>> {
        let is_new = self.waiting().insert(name.clone());
        is_new.then_some(Place { turns: self, name })
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.waiting().remove(&self.name);
    }
}

/// The relying party at the other end, as its certificate says; not looked up yet.
pub(super) struct Presented {
    info: CertificateInfo,
    der: Vec<u8>,
    address: SocketAddr,
}

impl FromRequestParts<App> for Presented {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, HttpError> {
        let tls = parts.extensions.get::<Arc<TlsInfo>>();
        let der = tls.and_then(|tls| tls.peer_certificates.first()).ok_or(HttpError::NoCertificate)?.clone();
        let info = CertificateInfo::from_der(&der).map_err(|_| HttpError::NoCertificate)?;
        if info.profile != Some(Profile::Server) {
            return Err(HttpError::NotARelyingParty { name: info.display_name() });
        }
        // The handshake was a while ago, or resumed from one that was.
        if !info.validity.contains(app.clock.now()) {
            return Err(HttpError::PeerExpired { serial: info.id.serial });
        }
        let address = ConnectInfo::<SocketAddr>::from_request_parts(parts, app).await;
        let ConnectInfo(address) = address.map_err(|_| HttpError::NoCertificate)?;
        Ok(Self { info, der, address })
    }
}

impl Presented {
    fn member(&self) -> Member {
        Member {
            name: self.info.display_name(),
            serial: self.info.id.serial,
            address: self.address.to_string(),
            not_after: self.info.validity.not_after,
        }
    }

    /// A certificate that is not in the database is one of ours all the same, as the handshake has verified: the database
    /// may be an older copy, which only its bearer can tell.
    pub(super) async fn check_standing(&self, app: &App) -> Result<(), HttpError> {
        let (store, serial) = (app.authority.store(), self.info.id.serial);
        if let Some(at) = store.revoked_since(&serial).await? {
            return Err(HttpError::PeerRevoked { serial, at });
        }
        // Not so once the issuing CA is revoked: whoever has its key makes certificates of any name, and would confirm for everybody
        // that it is.
        if store.has_revoked_authority().await? {
            let record = store.by_serial(&serial, app.clock.now()).await?;
            if record.is_none_or(|record| *record.der != *self.der) {
                return Err(HttpError::PeerUnknown { serial });
            }
        }
        Ok(())
    }
}

pub(super) async fn feed(State(app): State<App>, peer: Presented) -> Result<impl IntoResponse, HttpError> {
    peer.check_standing(&app).await?;
    let lines = app.feed.subscribe(&peer.member());
    // Once more: a revocation that came in between knew of no stream to end.
    peer.check_standing(&app).await?;
    let headers = [(header::CONTENT_TYPE, NDJSON), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(lines.map(Ok::<_, Infallible>))).into_response())
}

pub(super) async fn confirm(
    State(app): State<App>,
    peer: Presented,
    body: Result<Json<Confirmation>, JsonRejection>,
) -> Result<Response, HttpError> {
    peer.check_standing(&app).await?;
    let Json(confirmation) = body.map_err(HttpError::Word)?;
    app.feed.confirm(&peer.member(), &confirmation).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn answer_roll_call(
    State(app): State<App>,
    peer: Presented,
    body: Result<Json<RollCallAnswer>, JsonRejection>,
) -> Result<Response, HttpError> {
    peer.check_standing(&app).await?;
    let Json(answer) = body.map_err(HttpError::Word)?;
    app.feed.answer_roll_call(&peer.member(), answer);
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn hand_over(State(app): State<App>, peer: Presented, body: Body) -> Result<Response, HttpError> {
    peer.check_standing(&app).await?;
    let _place = app.handing_over.line_up(peer.member().name).ok_or(HttpError::HandingOver)?;
    let _turn = app.handing_over.turn.lock().await;
    let pem = timeout(HAND_OVER_TIMEOUT, to_bytes(body, MAX_HANDED_OVER)).await.map_err(|_| HttpError::TimedOut)?;
    let pem = pem.map_err(|_| HttpError::HandedOverTooLarge)?;
    let crls = authority::read_pem(&pem)?;
    drop(pem);
    app.authority.take_back(crls).await?;
    app.feed.note_taken_back();
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_relying_party_waits_for_one_turn_only() {
        let turns = Turns::default();
        let place = turns.line_up("service0".to_owned());
        assert!(place.is_some() && turns.line_up("service1".to_owned()).is_some());
        assert!(turns.line_up("service0".to_owned()).is_none());
        drop(place);
        assert!(turns.line_up("service0".to_owned()).is_some());
    }
}
