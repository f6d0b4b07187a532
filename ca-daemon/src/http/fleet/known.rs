//! `POST /v1/feed/known`: from which number on lists contain what a relying party enforces. It asks before it gives up anything.
//!
//! It never promises what the database does not say: a number that is not known gets none.

use axum::{
    Json,
    extract::{Request, State},
};
use pki::{
    crl::CrlNumber,
    wire::{KNOWN_NUMBERS, KnownAnswer, KnownQuestion},
};

use crate::{
    http::{App, HttpError, fleet::feed::Presented},
    store::StoreError,
};

pub(in crate::http) async fn known(
    State(app): State<App>,
    peer: Presented,
    request: Request,
) -> Result<Json<KnownAnswer>, HttpError> {
    peer.check_standing(&app).await?;
    let question = app.members.json::<KnownQuestion>(peer.serial(), request, MAX_QUESTION, HttpError::Word).await?;
    let mut answer = KnownAnswer::default();
    // Who asks about other distribution points than the two that there are gets no work done for it.
    for (url, numbers) in question.value.crls {
        let from = contained_from(&app, &url, &numbers).await?;
        if from.is_none() {
            // It wants the lists that have these numbers.
            app.handing_over.ask_for(peer.serial());
        }
        answer.crls.insert(url, from);
    }
    Ok(Json(answer))
}

/// The largest question about numbers.
const MAX_QUESTION: usize = 4 * 1024;

/// None where one of the numbers is not known here, and where there are none or too many.
async fn contained_from(app: &App, url: &str, numbers: &[CrlNumber]) -> Result<Option<CrlNumber>, StoreError> {
    let Some(issuer) = app.feed.issuer_at(url).filter(|_| numbers.len() <= KNOWN_NUMBERS) else { return Ok(None) };
    let mut last = None;
    for number in numbers {
        let Some(from) = app.authority.store().contained_from(issuer, *number).await? else { return Ok(None) };
        last = last.max(Some(from));
    }
    Ok(last)
}
