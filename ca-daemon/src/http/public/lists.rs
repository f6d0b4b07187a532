//! Bodies that send a CRL. A body keeps no CRL in memory, so a slow reader does not either. A CRL that is no longer the
//! newest is dropped after a while, or when later ones need its room; a client that was still receiving it has to ask
//! again.
//!
//! It never decides which CRL is the newest.

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

/// How long a CRL that is no longer the newest can still be sent.
const GRACE: Duration = limits::REQUEST_TIMEOUT;
/// The fraction of memory for CRLs of one kind that are no longer the newest. One is always kept.
const PART: u64 = 64;
/// How many bytes are copied at a time.
const PIECE: usize = 8 * 1024;

/// A CRL that is being sent to one peer.
struct Sending {
    list: Weak<Vec<u8>>,
    at: usize,
    length: usize,
}

/// A body of these bytes. It fails when their last owner drops them.
pub(in crate::http) fn body(list: &Arc<Vec<u8>>) -> Body {
    Body::new(Sending { list: Arc::downgrade(list), at: 0, length: list.len() })
}

/// CRLs of one kind that are no longer the newest and are still being sent. Without this, a client on a slow link would
/// never get a complete CRL while revocations follow each other. Their total size is limited.
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

    /// Keeps the previous CRL for a while, if it is still being sent.
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

/// Whether a body is still sending it.
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
            let error = "there are newer CRLs; ask again";
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
    async fn a_body_ends_early_when_its_crl_is_dropped() {
        let list = Arc::new(vec![7; 3 * PIECE + 1]);
        let whole = body(&list).collect().await.unwrap().to_bytes();
        assert!(whole == *list && !is_sent(&list));
        let mut sending = body(&list);
        assert!(is_sent(&list) && sending.frame().await.unwrap().is_ok());
        drop(list);
        assert!(sending.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn quickly_replaced_crls_are_sent_whole_while_there_is_room() {
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
