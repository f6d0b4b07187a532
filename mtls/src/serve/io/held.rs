//! Octets that are held back on their way into a stream.
//!
//! It never decides when they leave; whoever holds them does.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

/// How much is held back at most, in octets: the most that one TLS record takes (RFC 8446 section 5.1).
pub(crate) const BOUND: usize = 16 * 1024;

/// What was written and has not left yet.
#[derive(Debug, Default)]
pub(crate) struct Held {
    octets: Vec<u8>,
    /// How much of it is written already.
    written: usize,
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Writes all of it, and says what was taken each time. Of the room that it took, no more than `keep` octets stay reserved.
    pub(crate) fn poll_write_to<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        keep: usize,
        context: &mut Context<'_>,
        mut taken: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        while self.written < self.octets.len() {
            let rest = &self.octets[self.written..];
            match ready!(Pin::new(&mut *stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    taken(&rest[..written]);
                    self.written += written;
                }
            }
        }
        self.written = 0;
        self.octets.clear();
        self.octets.shrink_to(keep);
        Poll::Ready(Ok(()))
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.octets.capacity()
    }

    /// Whether as much is held as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.octets.len() >= BOUND
    }

    /// Takes as much of this as there is room for; how much that is.
    pub(crate) fn take(&mut self, slices: &[IoSlice<'_>]) -> usize {
        let before = self.octets.len();
        self.octets.reserve(slices.iter().map(|slice| slice.len()).sum::<usize>().min(BOUND - before));
        for slice in slices {
            let room = BOUND - self.octets.len();
            self.octets.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        self.octets.len() - before
    }
}
