//! Bytes that are held back on their way into a stream.
//!
//! It never decides when they are sent; its owner does.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

/// The most bytes that are held back: the plaintext limit of one TLS record (RFC 8446 section 5.1).
pub(crate) const BOUND: usize = 16 * 1024;

/// Data that was written and not sent yet.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    /// How much of it is sent already.
    written: usize,
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes all of it, and reports each part that was taken. Afterwards the buffer keeps at most `keep` bytes.
    pub(crate) fn poll_write_to<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        keep: usize,
        context: &mut Context<'_>,
        mut taken: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            let rest = &self.bytes[self.written..];
            match ready!(Pin::new(&mut *stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    taken(&rest[..written]);
                    self.written += written;
                }
            }
        }
        self.written = 0;
        self.bytes.clear();
        self.bytes.shrink_to(keep);
        Poll::Ready(Ok(()))
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether the buffer is full.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= BOUND
    }

    /// Takes as much of this as there is room for. Returns how many bytes.
    pub(crate) fn take(&mut self, slices: &[IoSlice<'_>]) -> usize {
        let before = self.bytes.len();
        self.bytes.reserve(slices.iter().map(|slice| slice.len()).sum::<usize>().min(BOUND - before));
        for slice in slices {
            let room = BOUND - self.bytes.len();
            self.bytes.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        self.bytes.len() - before
    }
}
