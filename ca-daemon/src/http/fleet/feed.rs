//! `GET /v1/feed` and what comes back on it: relying parties hear of new CRLs, say what they enforce and who is connected to
//! them, and hand over a CRL that the authority has forgotten.
//!
//! It never believes a body who somebody is: the certificate of the connection says so, and a secret says which instance.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    response::{IntoResponse, Response},
};
use edge::memory;
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mtls::serve::limits;
use pki::{
    certificate::CertificateInfo,
    instance::{self, InstanceId},
    profile::Profile,
    serial::Serial,
    token::Secret,
    wire::{Confirmation, INSTANCE_HEADER, MAX_PREDECESSORS, NDJSON, PREDECESSORS_HEADER, RollCallAnswer},
};
use tokio::time::timeout;

use crate::{
    authority::TakeBackError,
    feed::{ConfirmError, Member},
    http::{
        App, HttpError,
        body::announced,
        fleet::{
            handed_over::{Armored, Unreadable},
            peer::{PeerHolder, check_not_revoked},
        },
    },
};

/// The largest confirmation: some of it is remembered for as long as the relying party is.
const MAX_CONFIRMATION: usize = 8 * 1024;
/// The largest answer to a roll call: all the certificates that one may name take less.
const MAX_ROLL_CALL_ANSWER: usize = 2 * 1024 * 1024;
/// How much more may be handed over than there is in the newest lists twice over, in bytes at least ...
const MORE: u64 = 1024 * 1024;
/// ... or this part of the memory: what was forgotten is not in them.
const PART: u64 = 64;
/// How long it may take to arrive: half of what a request has, so that the next one in turn has time left.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(limits::REQUEST_TIMEOUT.as_secs() / 2);

/// Whose turn it is to hand over CRLs. One at a time, for each may fill a good part of the memory; and each certificate has
/// one turn to wait for, so that none keeps the others from theirs.
#[derive(Debug, Default)]
pub(in crate::http) struct Turns {
    turn: tokio::sync::Mutex<()>,
    waiting: Mutex<HashSet<Serial>>,
    /// Who was asked to.
    asked: Mutex<HashSet<Serial>>,
}

/// A place in the line, given up when it is dropped.
struct Place<'a> {
    turns: &'a Turns,
    serial: Serial,
}

impl Turns {
    /// Lets who has this certificate hand over once.
    pub(in crate::http) fn ask_for(&self, serial: Serial) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(serial);
    }

    /// Whether it was asked to; it has to be asked again for the next time.
    fn take_asked(&self, serial: Serial) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&serial)
    }

    /// None if somebody with this certificate waits already.
    fn line_up(&self, serial: Serial) -> Option<Place<'_>> {
        let is_new = self.waiting().insert(serial);
        is_new.then_some(Place { turns: self, serial })
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<Serial>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.waiting().remove(&self.serial);
    }
}

/// The relying party at the other end, as its certificate says; not looked up yet.
pub(in crate::http) struct Presented(PeerHolder);

impl FromRequestParts<App> for Presented {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, HttpError> {
        let server = |info: &CertificateInfo| match info.profile {
            Some(Profile::Server) => Ok(Profile::Server),
            _ => Err(HttpError::NotARelyingParty { name: info.shown_name() }),
        };
        PeerHolder::read(parts, app, || HttpError::NoCertificate, server).await.map(Self)
    }
}

impl Presented {
    pub(in crate::http) fn serial(&self) -> Serial {
        self.0.info.id.serial
    }

    /// Which of those with this certificate asks, as its secret says.
    fn member(&self, headers: &HeaderMap) -> Result<Member, HttpError> {
        let secret = headers.get(INSTANCE_HEADER).and_then(|value| Secret::from_bearer(value.to_str().ok()?));
        Ok(Member {
            name: self.0.info.display_name(),
            serial: self.0.info.id.serial,
            instance: InstanceId::of(&secret.ok_or(HttpError::NoInstance)?),
            address: self.0.address.to_string(),
            not_after: self.0.info.validity.not_after,
        })
    }

    /// What becomes of joining the feed, if it was in good standing before and after that: a revocation that came in between knew of
    /// no stream to end.
    async fn in_good_standing<T>(&self, app: &App, join: impl AsyncFnOnce() -> T) -> Result<T, HttpError> {
        self.check_standing(app).await?;
        let joined = join().await;
        match self.check_standing(app).await {
            Ok(()) => Ok(joined),
            Err(refusal) => {
                if matches!(refusal, HttpError::PeerRevoked { .. }) {
                    app.feed.put_off(&HashSet::from([self.0.info.id.serial]));
                }
                Err(refusal)
            }
        }
    }

    /// A certificate that is not in the database is one of ours all the same, as the handshake has verified: the database
    /// may be an older copy, which only its bearer can tell.
    pub(in crate::http) async fn check_standing(&self, app: &App) -> Result<(), HttpError> {
        let (store, serial) = (app.authority.store(), self.0.info.id.serial);
        check_not_revoked(app, serial).await?;
        // Not so once the issuing CA is revoked: whoever has its key makes certificates of any name, and would confirm for everybody
        // that it is.
        if store.issuer_revocation().await?.is_some() {
            let record = store.by_serial(&serial, app.clock.now()).await?;
            if record.is_none_or(|record| *record.der != *self.0.der) {
                return Err(HttpError::PeerUnknown { serial });
            }
        }
        Ok(())
    }
}

pub(in crate::http) async fn feed(
    State(app): State<App>,
    peer: Presented,
    headers: HeaderMap,
) -> Result<impl IntoResponse, HttpError> {
    let (member, predecessors) = (peer.member(&headers)?, predecessors(&headers)?);
    let (lines, standing) =
        peer.in_good_standing(&app, async || app.feed.subscribe(&member, &predecessors).await).await??;
    let standing: Vec<_> = standing.iter().map(InstanceId::to_string).collect();
    let headers = [
        (header::CONTENT_TYPE.as_str(), NDJSON.to_owned()),
        (header::CACHE_CONTROL.as_str(), "no-store".to_owned()),
        (PREDECESSORS_HEADER, standing.join(",")),
    ];
    Ok((headers, Body::from_stream(lines.map(Ok::<_, Infallible>))).into_response())
}

/// The instances whose place the one that asks has taken, as it has their secrets.
fn predecessors(headers: &HeaderMap) -> Result<Vec<InstanceId>, HttpError> {
    let Some(secrets) = headers.get(PREDECESSORS_HEADER) else { return Ok(Vec::new()) };
    let secrets = secrets.to_str().ok().and_then(|text| instance::read_secrets(text, MAX_PREDECESSORS));
    Ok(secrets.ok_or(HttpError::Predecessors)?.iter().map(InstanceId::of).collect())
}

pub(in crate::http) async fn confirm(
    State(app): State<App>,
    peer: Presented,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, HttpError> {
    peer.check_standing(&app).await?;
    let read = app.members.json::<Confirmation>(peer.serial(), request, MAX_CONFIRMATION, HttpError::Word).await?;
    let confirmed = app.feed.confirm(&peer.member(&headers)?, &read.value).await;
    if matches!(confirmed, Err(ConfirmError::Unknown { .. })) {
        app.handing_over.ask_for(peer.serial());
    }
    confirmed?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(in crate::http) async fn answer_roll_call(
    State(app): State<App>,
    peer: Presented,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, HttpError> {
    peer.check_standing(&app).await?;
    let read =
        app.members.json::<RollCallAnswer>(peer.serial(), request, MAX_ROLL_CALL_ANSWER, HttpError::Word).await?;
    app.feed.answer_roll_call(&peer.member(&headers)?, read.value)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Ends an instance. Whoever is not on the feed has nothing to end: what it said before it came back would be lost.
pub(in crate::http) async fn goodbye(
    State(app): State<App>,
    peer: Presented,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    if app.feed.goodbye(&peer.member(&headers)?).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(ConfirmError::NotOnTheFeed.into())
    }
}

pub(in crate::http) async fn hand_over(
    State(app): State<App>,
    peer: Presented,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    peer.check_standing(&app).await?;
    let serial = peer.serial();
    let _place = app.handing_over.line_up(serial).ok_or(HttpError::HandingOver)?;
    if !app.handing_over.take_asked(serial) {
        return Err(HttpError::NotAskedFor);
    }
    let most = most_handed_over(&app);
    let too_large = || HttpError::HandedOverTooLarge { most };
    announced(&headers, most).map_err(|_| too_large())?;
    let _turn = app.handing_over.turn.lock().await;
    let lists = async {
        let (mut body, mut armored) = (Limited::new(body, most), Armored::default());
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| if error.is::<LengthLimitError>() { too_large() } else { HttpError::BodyCutOff })?;
            if let Some(data) = frame.data_ref() {
                armored.push(data).map_err(|Unreadable| TakeBackError::NoCrl)?;
            }
        }
        Ok::<_, HttpError>(armored.finish().map_err(|Unreadable| TakeBackError::NoCrl)?)
    };
    let lists = timeout(HAND_OVER_TIMEOUT, lists).await.map_err(|_| HttpError::TimedOut)??;
    app.feed.taking_back(app.authority.take_back(lists)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// How much a relying party may hand over, in bytes of PEM: what it has is not much more than what is published here.
fn most_handed_over(app: &App) -> usize {
    let published = app.feed.announced().borrow().bytes();
    let most = published.saturating_mul(2) + MORE.max(memory::limit() / PART);
    // Four characters for three bytes, and a line break for 64.
    usize::try_from(most / 2 * 3).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edge::clock::Clock;
    use http::HeaderValue;
    use pki::{crl::RevocationReason, serial::Serial};

    use super::*;
    use crate::{
        authority::tests::{Fixture, now},
        feed::Feed,
    };

    /// What came between the first look and joining was looked at by the feed before there was a stream to end.
    #[tokio::test]
    async fn a_relying_party_that_is_revoked_while_it_joins_does_not() {
        let fixture = Fixture::new().await;
        let authority = Arc::clone(&fixture.authority);
        let feed = Feed::open(authority.store().clone(), authority.settings(), Clock::manual(now())).await.unwrap();
        let app = App::new(authority, feed, Clock::manual(now()));
        let join = async |serial: u8, revoke: bool| {
            let serial: Serial = fixture.issue("service0", serial).await;
            let record = app.authority.store().by_serial(&serial, now()).await.unwrap().unwrap();
            let info = CertificateInfo::from_der(&record.der).unwrap();
            let address = ([127, 0, 0, 1], 1).into();
            let peer = Presented(PeerHolder { info, der: record.der, profile: record.profile, address });
            let secret = HeaderValue::from_str(&Secret::from_bytes([1; 32]).to_bearer()).unwrap();
            let member = peer.member(&HeaderMap::from_iter([(INSTANCE_HEADER.parse().unwrap(), secret)])).unwrap();
            let joined = peer.in_good_standing(&app, async || {
                if revoke {
                    app.authority.revoke(&[serial], RevocationReason::KeyCompromise, now()).await.unwrap();
                    app.feed.refresh().await.unwrap();
                }
                app.feed.subscribe(&member, &[]).await
            });
            joined.await.map(drop)
        };
        assert!(matches!(join(20, true).await, Err(HttpError::PeerRevoked { .. })));
        assert!(join(21, false).await.is_ok());
    }

    #[test]
    fn each_certificate_waits_for_one_turn_only() {
        let turns = Turns::default();
        let [one, other] = [1, 2].map(|octet| Serial::from_random([octet; 16]));
        let place = turns.line_up(one);
        assert!(place.is_some() && turns.line_up(other).is_some());
        assert!(turns.line_up(one).is_none());
        drop(place);
        assert!(turns.line_up(one).is_some());
    }
}
