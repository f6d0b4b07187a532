//! A stream that holds back what is written to it until it is released. The answers of one poll of a connection then
//! leave in one TLS record and one system call. Once the connection has to end, nothing is released.
//!
//! It never decides when to release. The code that polls the connection does so after each poll, before it waits.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    revocation::End,
    serve::io::{IS_ON, frames::Sent, held::Held},
};

/// The buffer that a connection keeps between answers, in bytes.
const KEPT: usize = 2 * 1024;

/// The end that is read and written. Its flush does nothing: [`Cork::poll_release`] flushes.
#[derive(Debug)]
pub(crate) struct Corked<S>(Arc<Mutex<Inner<S>>>);

/// The end that releases what was written.
#[derive(Debug)]
pub(crate) struct Cork<S>(Arc<Mutex<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    stream: S,
    held: Held,
    /// What was sent over the stream.
    sent: Sent,
    end: End,
    /// Whether the stream may still hold data that was not flushed.
    unflushed: bool,
}

/// Corks a stream. Data that was written to the stream before is sent with the first release at the latest. Once the
/// connection has to end, nothing is released any more.
pub(crate) fn corked<S>(stream: S, end: End) -> (Corked<S>, Cork<S>) {
    let inner = Inner { stream, held: Held::default(), sent: Sent::default(), end, unflushed: true };
    let inner = Arc::new(Mutex::new(inner));
    (Corked(Arc::clone(&inner)), Cork(inner))
}

impl<S> Cork<S> {
    /// Returns the stream, and what was sent over it. Held data is dropped. `None` while the other end exists.
    pub(crate) fn into_stream(self) -> Option<(S, Sent)> {
        let inner = Arc::into_inner(self.0)?.into_inner().unwrap_or_else(PoisonError::into_inner);
        Some((inner.stream, inner.sent))
    }
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    /// Writes what is held back, and flushes it.
    pub(crate) fn poll_release(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_release(context)
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_release(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_held(context))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, held, sent, end, unflushed } = self;
        if let Some(reason) = end.reason() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason.as_str())));
        }
        *unflushed |= !held.is_empty();
        // An idle connection should not keep the memory of its largest answer.
        held.poll_write_to(stream, KEPT, context, |bytes| sent.pass(bytes))
    }

    /// Takes as much of it as there is room for, at least one byte.
    fn poll_hold(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.held.is_full() {
            ready!(self.poll_write_held(context))?;
        }
        Poll::Ready(Ok(self.held.take(slices)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_hold(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_hold(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if IS_ON { Poll::Ready(Ok(())) } else { lock(&self.0).poll_release(context) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        ready!(inner.poll_release(context))?;
        Pin::new(&mut inner.stream).poll_shutdown(context)
    }
}

/// Both ends belong to one task, so the lock is never contended.
fn lock<S>(inner: &Mutex<Inner<S>>) -> MutexGuard<'_, Inner<S>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::serve::io::held;

    #[tokio::test]
    async fn written_data_is_sent_in_order_when_it_is_released() {
        let (near, mut far) = duplex(1024);
        let (mut corked, cork) = corked(near, End::default());
        for part in ["one ", "two ", "three"] {
            corked.write_all(part.as_bytes()).await.unwrap();
            corked.flush().await.unwrap();
        }
        let mut bytes = [0; 64];
        let mut read = ReadBuf::new(&mut bytes);
        let nothing = poll_fn(|context| Poll::Ready(Pin::new(&mut far).poll_read(context, &mut read))).await;
        assert!(nothing.is_pending());
        poll_fn(|context| cork.poll_release(context)).await.unwrap();
        let count = far.read(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..count], b"one two three");
        corked.write_all(b"the end").await.unwrap();
        corked.shutdown().await.unwrap();
        drop((corked, cork));
        let mut rest = String::new();
        far.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "the end");
    }

    #[tokio::test]
    async fn at_most_one_record_is_held_and_nothing_is_lost_with_a_slow_peer() {
        let (near, mut far) = duplex(1000);
        let (mut corked, cork) = corked(near, End::default());
        let sent: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let writing = async {
            corked.write_all(&sent).await.unwrap();
            poll_fn(|context| cork.poll_release(context)).await.unwrap();
            assert!(lock(&cork.0).held.capacity() <= 2 * held::BOUND);
            drop((corked, cork));
        };
        let reading = async {
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            assert!(received == expected);
        };
        tokio::join!(writing, reading);
    }
}
