//! Request bodies. Each is limited before it is read, and all that are read at once are limited together. Each peer has
//! a share of that, so that a slow sender delays only itself.
//!
//! It never interprets the content.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequest as _, Request, rejection::JsonRejection},
};
use edge::memory;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::HttpError;

/// How long a body may take to arrive, after it got its room.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The fraction of memory that all bodies from one kind of peers may use.
const PART: u64 = 32;
/// The fraction of that which one peer may use.
const SHARE: u32 = 4;
/// The unit that is counted, in bytes.
const UNIT: usize = 1024;

/// The bodies from one kind of peers that are read at the same time; `P` identifies a peer. Clones count together.
#[derive(Debug)]
pub(super) struct Bodies<P> {
    free: Arc<Semaphore>,
    most_of_one: u32,
    /// What each peer has left, while one of its bodies is here.
    of_each: Arc<Mutex<HashMap<P, Weak<Semaphore>>>>,
}

/// A parsed body. Its size counts until this is dropped.
#[derive(Debug)]
pub(super) struct Read<T> {
    pub(super) value: T,
    _room: Room,
}

/// Room for a body: from its peer's share, and from all.
type Room = [OwnedSemaphorePermit; 2];

impl<P> Clone for Bodies<P> {
    fn clone(&self) -> Self {
        let Self { free, most_of_one, of_each } = self;
        Self { free: Arc::clone(free), most_of_one: *most_of_one, of_each: Arc::clone(of_each) }
    }
}

impl<P> Default for Bodies<P> {
    fn default() -> Self {
        Self::new(u32::try_from(memory::limit() / PART / UNIT as u64).unwrap_or(u32::MAX).min(1 << 20))
    }
}

impl<P> Bodies<P> {
    fn new(most: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(most as usize)),
            most_of_one: (most / SHARE).max(1),
            of_each: Arc::default(),
        }
    }
}

impl<P: Eq + Hash> Bodies<P> {
    /// Reads JSON of at most `most` bytes. If `Content-Length` is higher, the body is refused at once.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        peer: P,
        request: Request,
        most: usize,
        unreadable: impl FnOnce(JsonRejection) -> HttpError,
    ) -> Result<Read<T>, HttpError> {
        let (parts, body) = request.into_parts();
        let expected = announced(&parts.headers, most)?.unwrap_or(most);
        let room = self.room(peer, expected).await;
        let bytes = timeout(TIMEOUT, read(body, most)).await.map_err(|_| HttpError::TimedOut)??;
        let request = Request::from_parts(parts, Body::from(bytes));
        let Json(value) = Json::from_request(request, &()).await.map_err(unreadable)?;
        Ok(Read { value, _room: room })
    }

    /// Waits for room for this many bytes.
    async fn room(&self, peer: P, bytes: usize) -> Room {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.most_of_one);
        let own = self.of(peer).acquire_many_owned(units).await.expect("the semaphore is never closed");
        let all = Arc::clone(&self.free).acquire_many_owned(units).await.expect("the semaphore is never closed");
        [own, all]
    }

    fn of(&self, peer: P) -> Arc<Semaphore> {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = of_each.get(&peer).and_then(Weak::upgrade) {
            return own;
        }
        of_each.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(self.most_of_one as usize));
        of_each.insert(peer, Arc::downgrade(&own));
        own
    }
}

/// The `Content-Length`, if it is not too high.
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::extract::rejection::JsonRejection;
    use futures_util::{FutureExt as _, stream};

    use super::*;

    /// Otherwise a relying party that sends much, slowly and at once would block the confirmations of all others.
    #[tokio::test]
    async fn a_slow_sender_delays_only_itself() {
        let bodies = Bodies::new(16);
        let read = |peer: &'static str, body: Body| {
            let request = Request::post("/").header(header::CONTENT_TYPE, "application/json").body(body).unwrap();
            bodies.json::<u8>(peer, request, 4 * UNIT, |error: JsonRejection| HttpError::Word(error))
        };
        let endless = || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let mut waiting: Vec<_> = std::iter::repeat_with(|| Box::pin(read("slow", endless()))).take(20).collect();
        for slow in &mut waiting {
            assert!(slow.now_or_never().is_none());
        }
        let at_once = read("quick", Body::from("7")).now_or_never().expect("it does not have to wait");
        assert_eq!(at_once.unwrap().value, 7);
        drop(waiting);
        assert_eq!(read("slow", Body::from("8")).await.unwrap().value, 8);
        assert_eq!((bodies.free.available_permits(), bodies.of_each.lock().unwrap().len()), (16, 1));
    }
}
