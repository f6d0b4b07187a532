//! The bytes of a list as they are sent: whoever sends them holds no part of the list, however slowly its peer reads. A list that is not
//! the newest any more is let go after a while, and who was not done with it has to ask again.
//!
//! It never decides which list is the newest.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use mtls::limits;

/// How long a list that is not the newest any more can be sent to its end.
pub(super) const GRACE: Duration = limits::REQUEST_TIMEOUT;
/// How much of a list is copied at once, in bytes.
const PIECE: usize = 8 * 1024;

/// A list on its way to one peer.
struct Sending {
    list: Weak<Vec<u8>>,
    at: usize,
    length: usize,
}

/// A body of these bytes, for as long as somebody else has them.
pub(super) fn body(list: &Arc<Vec<u8>>) -> Body {
    Body::new(Sending { list: Arc::downgrade(list), at: 0, length: list.len() })
}

/// Whether anybody sends it.
pub(super) fn is_sent(list: &Arc<Vec<u8>>) -> bool {
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
}
