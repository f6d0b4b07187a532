//! Bodies of requests: each is bounded before it is read, and all that are read at once are bounded together.
//!
//! It never knows what a body says.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequest as _, Request, rejection::JsonRejection},
};
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mtls::memory;
use serde::de::DeserializeOwned;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::HttpError;

/// How long a body may take to arrive, once it is its turn.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Which part of the memory the bodies of one kind of peers may take together.
const PART: u64 = 32;
/// What is counted, in bytes.
const UNIT: usize = 1024;

/// The bodies of one kind of peers that are read at the same time; clones count together.
#[derive(Clone, Debug)]
pub(super) struct Bodies {
    free: Arc<Semaphore>,
    most: u32,
}

/// What was read; it counts for as long as it is here.
#[derive(Debug)]
pub(super) struct Read<T> {
    pub(super) value: T,
    _room: OwnedSemaphorePermit,
}

impl Default for Bodies {
    fn default() -> Self {
        let most = u32::try_from(memory::limit() / PART / UNIT as u64).unwrap_or(u32::MAX).min(1 << 20);
        Self { free: Arc::new(Semaphore::new(most as usize)), most }
    }
}

impl Bodies {
    /// Reads JSON of at most `most` bytes. A longer body is refused at once where its length is said.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        request: Request,
        most: usize,
        unreadable: impl FnOnce(JsonRejection) -> HttpError,
    ) -> Result<Read<T>, HttpError> {
        let (parts, body) = request.into_parts();
        let expected = announced(&parts.headers, most)?.unwrap_or(most);
        let units = u32::try_from(expected.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.most);
        let room = Arc::clone(&self.free).acquire_many_owned(units).await.expect("nobody closes it");
        let bytes = timeout(TIMEOUT, read(body, most)).await.map_err(|_| HttpError::TimedOut)??;
        let request = Request::from_parts(parts, Body::from(bytes));
        let Json(value) = Json::from_request(request, &()).await.map_err(unreadable)?;
        Ok(Read { value, _room: room })
    }
}

/// The length that the headers say, if it is not too much.
pub(super) fn announced(headers: &HeaderMap, most: usize) -> Result<Option<usize>, HttpError> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        Some(length) if length > most => Err(HttpError::BodyTooLarge { most }),
        length => Ok(length),
    }
}

async fn read(body: Body, most: usize) -> Result<Bytes, HttpError> {
    match Limited::new(body, most).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(HttpError::BodyTooLarge { most }),
        Err(_) => Err(HttpError::BodyCutOff),
    }
}
