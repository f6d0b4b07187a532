//! Sends the keepers' queries to the authority while the feed is open.
//!
//! It never decides what is in force.

use std::{collections::BTreeMap, time::Duration};

use http::Method;
use http_body_util::{BodyExt as _, Limited};
use pki::wire::{KNOWN_PATH, KnownAnswer, KnownQuestion};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::{CONFIRM_TIMEOUT, FeedClient, FeedError, JSON};
use crate::revocation::Question;

/// The longest answer to a query, in bytes.
const MAX_ANSWER: usize = 4 * 1024;
/// The pause before the same CRLs are handed over again because the authority does not have their numbers.
const HAND_OVER_PAUSE: Duration = Duration::from_secs(10);

impl FeedClient {
    /// Sends a keeper's query. If the authority does not have the numbers, it receives the CRLs from disk, and the
    /// keeper will query again.
    pub(super) async fn answer_keeper(&mut self, question: Question) -> Result<(), FeedError> {
        // The keeper gave up while the feed was not open.
        if question.answer.is_closed() {
            return Ok(());
        }
        let known = KnownQuestion { crls: BTreeMap::from([(question.url.clone(), question.numbers)]) };
        let known = timeout(CONFIRM_TIMEOUT, self.ask_known(&known)).await.map_err(|_| FeedError::Silent)??;
        let from = known.as_ref().and_then(|known| known.crls.get(&question.url).copied().flatten());
        let _ = question.answer.send(from);
        let is_due = self.handed_over.is_none_or(|at| at.elapsed() >= HAND_OVER_PAUSE);
        if known.is_some() && from.is_none() && is_due {
            self.handed_over = Some(Instant::now());
            match self.hand_over().await {
                // The authority may accept them later. The CRL in force does not change.
                Err(error @ FeedError::Refused { .. }) => debug!(%error, "the authority has not accepted the CRLs"),
                handed_over => return handed_over,
            }
        }
        Ok(())
    }

    /// `None` if the authority cannot answer such queries now.
    async fn ask_known(&self, question: &KnownQuestion) -> Result<Option<KnownAnswer>, FeedError> {
        let body = serde_json::to_vec(question).map_err(|error| FeedError::Line(error.to_string()))?;
        let response = self.send(Method::POST, KNOWN_PATH, JSON, body.into()).await?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| FeedError::Http(error.to_string()))?.to_bytes();
        serde_json::from_slice(&body).map(Some).map_err(|error| FeedError::Line(error.to_string()))
    }
}
