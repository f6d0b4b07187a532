//! A text that is made anew whenever somebody asks, and shared where many do: however many answers nobody reads, only a few versions of it
//! are in memory.
//!
//! It never knows what the text says.

use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use hyper::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many versions there may be.
const MOST: usize = 4;

/// The versions of one text; clones share them.
#[derive(Clone, Debug)]
pub struct Renderings {
    turns: Arc<Semaphore>,
    newest: Arc<Mutex<Option<Rendered>>>,
}

/// A text with its media type.
type Rendered = (HeaderValue, Bytes);

/// Leave to make another version.
#[derive(Debug)]
struct Turn {
    permit: OwnedSemaphorePermit,
    newest: Arc<Mutex<Option<Rendered>>>,
}

/// A version, which makes room for another one once nobody has it any more.
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
    /// What `render` makes, or the newest version where all others are still being read.
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
            // All are being made for the first time.
            (Err(_), None) => Arc::clone(&self.turns).acquire_owned().await.expect("nobody closes it"),
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
    async fn whoever_asks_gets_a_new_one_unless_many_are_being_read() {
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
