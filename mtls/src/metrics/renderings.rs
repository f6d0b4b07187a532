//! A text that is rendered for each request, and shared between requests under load. However many answers are not read,
//! only a few versions are in memory.
//!
//! It never interprets the text.

use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use hyper::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most versions in memory.
const MOST: usize = 4;

/// The versions of one text. Clones share them.
#[derive(Clone, Debug)]
pub struct Renderings {
    turns: Arc<Semaphore>,
    newest: Arc<Mutex<Option<Rendered>>>,
}

/// A text with its media type.
type Rendered = (HeaderValue, Bytes);

/// Permits to make another version.
#[derive(Debug)]
struct Turn {
    permit: OwnedSemaphorePermit,
    newest: Arc<Mutex<Option<Rendered>>>,
}

/// A version. Dropping the last reference to it makes room for another one.
struct Version {
    text: String,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Version {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Default for Renderings {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(MOST)), newest: Arc::default() }
    }
}

impl Renderings {
    /// Renders a new version with `render`, or returns the newest one if all others are still being read.
    pub async fn share<E>(
        &self,
        render: impl AsyncFnOnce() -> Result<(HeaderValue, String), E>,
    ) -> Result<(HeaderValue, Bytes), E> {
        match self.turn().await {
            Ok(turn) => {
                let (media_type, text) = render().await?;
                Ok(turn.made(media_type, text))
            }
            Err(newest) => Ok(newest),
        }
    }

    async fn turn(&self) -> Result<Turn, Rendered> {
        let newest = || self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let permit = match (Arc::clone(&self.turns).try_acquire_owned(), newest()) {
            (Ok(permit), _) => permit,
            (Err(_), Some(newest)) => return Err(newest),
            // All of them are being rendered for the first time.
            (Err(_), None) => Arc::clone(&self.turns).acquire_owned().await.expect("the semaphore is never closed"),
        };
        Ok(Turn { permit, newest: Arc::clone(&self.newest) })
    }
}

impl Turn {
    fn made(self, media_type: HeaderValue, text: String) -> Rendered {
        let made = (media_type, Bytes::from_owner(Version { text, _permit: self.permit }));
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Some(made.clone());
        made
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn each_request_gets_a_new_version_unless_many_are_being_read() {
        let renderings = Renderings::default();
        let ask = async |number: usize| {
            let render = async || Ok::<_, Infallible>((HeaderValue::from_static("text/plain"), number.to_string()));
            renderings.share(render).await.unwrap_or_else(|never| match never {}).1
        };
        for number in 0..10 {
            assert_eq!(ask(number).await, number.to_string());
        }
        let mut read = Vec::new();
        for number in 0..100 {
            read.push(ask(number).await);
        }
        read.sort_unstable();
        read.dedup();
        assert_eq!(read.len(), MOST);
        drop(read);
        assert_eq!(ask(7).await, "7");
    }
}
