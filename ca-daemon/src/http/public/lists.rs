//! The bytes of a list as they are sent: whoever sends them holds no part of the list, however slowly its peer reads. A list that is not
//! the newest any more is let go after a while, or for the ones after it, and who was not done with it has to ask again.
//!
//! It never decides which list is the newest.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use edge::memory;
use http_body::{Frame, SizeHint};
use mtls::serve::limits;
use tokio::time::sleep;

/// How long a list that is not the newest any more can be sent to its end.
const GRACE: Duration = limits::REQUEST_TIMEOUT;
/// The part of the memory that those of one kind may take that are not the newest any more. There is always one.
const PART: u64 = 64;
/// How much of a list is copied at once, in bytes.
const PIECE: usize = 8 * 1024;

/// A list on its way to one peer.
struct Sending {
    list: Weak<Vec<u8>>,
    at: usize,
    length: usize,
}

/// A body of these bytes, for as long as somebody else has them.
pub(in crate::http) fn body(list: &Arc<Vec<u8>>) -> Body {
    Body::new(Sending { list: Arc::downgrade(list), at: 0, length: list.len() })
}

/// The lists of one kind that are not the newest any more, and that somebody is not done with. While one revocation follows another, a
/// list that is sent in pieces would otherwise never arrive where the way is long; however many there are, their bytes are bounded.
#[derive(Debug)]
pub(in crate::http) struct Earlier {
    /// In bytes.
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    next: u64,
    lists: VecDeque<(u64, Arc<Vec<u8>>)>,
}

impl Default for Earlier {
    fn default() -> Self {
        Self::new(usize::try_from(memory::limit() / PART).unwrap_or(usize::MAX))
    }
}

impl Earlier {
    fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    /// Keeps what was the newest until now for a while, if somebody is not done with it.
    pub(in crate::http) fn keep(self: &Arc<Self>, list: &Arc<Vec<u8>>) {
        let mut kept = self.lock();
        kept.lists.retain(|(_, list)| is_sent(list));
        if !is_sent(list) {
            return;
        }
        let number = kept.next;
        kept.next += 1;
        kept.lists.push_back((number, Arc::clone(list)));
        while kept.lists.len() > 1 && kept.lists.iter().map(|(_, list)| list.len()).sum::<usize>() > self.most {
            kept.lists.pop_front();
        }
        let earlier = Arc::downgrade(self);
        tokio::spawn(async move {
            sleep(GRACE).await;
            if let Some(earlier) = earlier.upgrade() {
                earlier.lock().lists.retain(|(other, _)| *other != number);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether anybody sends it.
fn is_sent(list: &Arc<Vec<u8>>) -> bool {
    Arc::weak_count(list) > 0
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.at == self.length {
            return Poll::Ready(None);
        }
        let Some(list) = self.list.upgrade() else {
            let error = "there are newer lists; ask again";
            return Poll::Ready(Some(Err(io::Error::other(error))));
        };
        let end = self.length.min(self.at + PIECE);
        let piece = Bytes::copy_from_slice(&list[self.at..end]);
        self.at = end;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.length - self.at) as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_list_is_sent_whole_while_somebody_has_it_and_breaks_off_then() {
        let list = Arc::new(vec![7; 3 * PIECE + 1]);
        let whole = body(&list).collect().await.unwrap().to_bytes();
        assert!(whole == *list && !is_sent(&list));
        let mut sending = body(&list);
        assert!(is_sent(&list) && sending.frame().await.unwrap().is_ok());
        drop(list);
        assert!(sending.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn lists_that_follow_each_other_quickly_are_sent_whole_while_there_is_room() {
        let (earlier, length) = (Arc::new(Earlier::new(10 * PIECE)), 3 * PIECE);
        let mut sending = Vec::new();
        for number in 0..4 {
            let list = Arc::new(vec![number; length]);
            sending.push(body(&list));
            assert!(sending.last_mut().unwrap().frame().await.unwrap().is_ok());
            earlier.keep(&list);
        }
        let mut sent = Vec::new();
        for body in sending {
            sent.push(body.collect().await.is_ok());
        }
        assert_eq!(sent, [false, true, true, true]);
        let long = Arc::new(vec![7; 20 * PIECE]);
        let sending = body(&long);
        earlier.keep(&long);
        drop(long);
        assert!(sending.collect().await.is_ok(), "one is kept however long it is");
        earlier.keep(&Arc::default());
        assert!(earlier.lock().lists.is_empty());
    }
}
