//! A stream that holds back what is written to it until somebody lets it go: the answers that one look at a connection brings
//! leave in one TLS record and one system call, and not in one each. Once the connection has to end, it lets go of nothing.
//!
//! It never decides when to let go; whoever polls the connection does so after each poll, before it waits.

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

/// The room that stays with a connection between answers, in octets.
const KEPT: usize = 2 * 1024;

/// The stream's end that is read and written. Its flush is a promise that [`Cork::poll_release`] keeps.
#[derive(Debug)]
pub(crate) struct Corked<S>(Arc<Mutex<Inner<S>>>);

/// The end that lets go what was written.
#[derive(Debug)]
pub(crate) struct Cork<S>(Arc<Mutex<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    stream: S,
    held: Held,
    /// What the stream has taken.
    sent: Sent,
    end: End,
    /// Whether the stream may hold something of its own back.
    unflushed: bool,
}

/// What was written to the stream before leaves at the latest when the cork is released for the first time. From the moment at which
/// the connection has to end, nothing is let go any more.
pub(crate) fn corked<S>(stream: S, end: End) -> (Corked<S>, Cork<S>) {
    let inner = Inner { stream, held: Held::default(), sent: Sent::default(), end, unflushed: true };
    let inner = Arc::new(Mutex::new(inner));
    (Corked(Arc::clone(&inner)), Cork(inner))
}

impl<S> Cork<S> {
    /// The stream, and what it has taken; what is held back is dropped. None while the other end is there.
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
        // A connection that is open and silent should not cost what its largest answer did.
        held.poll_write_to(stream, KEPT, context, |bytes| sent.pass(bytes))
    }

    /// Takes as much of it as there is room for, at least something.
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
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_hold(context, &[IoSlice::new(octets)])
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

/// Both ends belong to one task: nobody ever waits for the other.
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
    async fn what_is_written_leaves_when_it_is_let_go_and_in_order() {
        let (near, mut far) = duplex(1024);
        let (mut corked, cork) = corked(near, End::default());
        for part in ["one ", "two ", "three"] {
            corked.write_all(part.as_bytes()).await.unwrap();
            corked.flush().await.unwrap();
        }
        let mut octets = [0; 64];
        let mut read = ReadBuf::new(&mut octets);
        let nothing = poll_fn(|context| Poll::Ready(Pin::new(&mut far).poll_read(context, &mut read))).await;
        assert!(nothing.is_pending());
        poll_fn(|context| cork.poll_release(context)).await.unwrap();
        let count = far.read(&mut octets).await.unwrap();
        assert_eq!(&octets[..count], b"one two three");
        corked.write_all(b"the end").await.unwrap();
        corked.shutdown().await.unwrap();
        drop((corked, cork));
        let mut rest = String::new();
        far.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "the end");
    }

    #[tokio::test]
    async fn no_more_is_held_than_a_record_and_nothing_is_lost_when_the_other_end_is_slow() {
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
