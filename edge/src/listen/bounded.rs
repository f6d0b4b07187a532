//! Connections that cannot cost more than they should: each holds one of a bounded number of slots, and one whose peer stops
//! reading is cut off.
//!
//! Nothing here knows what is sent over a connection.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use tracing::warn;

use super::file_limit;
use crate::memory;

/// How long a peer may take to read anything of what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// How much the operating system keeps for a peer beyond what is on the way to it, in bytes. Left to itself it takes megabytes from us, and
/// then nothing until a third of them has left: who reads slowly all the time would look as if it did not read at all.
const UNSENT: u32 = 128 * 1024;

/// What a connection costs at most, in bytes of memory.
const COST: u64 = 64 * 1024;

/// How many connections a listener has open at once; a connection beyond that is closed at once.
#[derive(Clone, Debug)]
pub struct Slots {
    free: Arc<Semaphore>,
    total: usize,
    /// Whether it was said that none is free; said again only after half of them were.
    exhausted: Arc<AtomicBool>,
}

impl Slots {
    /// A third of the files that this process may open: two listeners cannot starve each other, nor the database. No more than the memory
    /// allows for.
    #[must_use]
    pub fn for_listener() -> Self {
        let slots = usize::try_from((file_limit::current() / 3).min(memory::limit() / COST))
            .unwrap_or(usize::MAX)
            .clamp(16, Semaphore::MAX_PERMITS);
        Self::new(slots)
    }

    fn new(total: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(total)), total, exhausted: Arc::default() }
    }

    /// A slot for this connection, if one is free.
    #[must_use]
    pub fn admit(&self, stream: TcpStream) -> Option<BoundedStream> {
        let Ok(slot) = Arc::clone(&self.free).try_acquire_owned() else {
            if !self.exhausted.swap(true, Ordering::Relaxed) {
                warn!(open = self.total, "too many connections are open; further ones are closed at once");
            }
            return None;
        };
        if self.free.available_permits() > self.total / 2 {
            self.exhausted.store(false, Ordering::Relaxed);
        }
        Some(BoundedStream::new(stream, Some(slot)))
    }
}

/// A connection that may hold a slot, and whose peer has to read.
#[derive(Debug)]
pub struct BoundedStream {
    stream: TcpStream,
    /// Runs while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl BoundedStream {
    fn new(stream: TcpStream, slot: Option<OwnedSemaphorePermit>) -> Self {
        // Small answers are the rule here, and Nagle's algorithm would hold each back for the peer's delayed ACK.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        Self { stream, stalled: None, _slot: slot }
    }

    /// One whose place is counted elsewhere.
    #[must_use]
    pub fn unslotted(stream: TcpStream) -> Self {
        Self::new(stream, None)
    }

    /// From now on, whenever it is dropped, and if the process ends, what the peer has not acknowledged is not sent any more. Otherwise
    /// the operating system would go on sending it for minutes.
    pub fn take_unsent_along(&self) {
        // It fails only on a socket that is no more.
        let _ = self.stream.set_zero_linger();
    }

    /// Whether both ends have closed it, and the peer has acknowledged everything: nothing is left to be sent.
    #[must_use]
    pub fn is_over(&self) -> bool {
        // TCP's state is CLOSED then, which has no peer.
        self.stream.peer_addr().is_err()
    }

    /// Passes on what a write came to, unless it has been waiting for too long.
    fn bound_wait<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        task::ready!(stalled.as_mut().poll(context));
        // Should anybody go on in spite of the error, the next wait begins anew.
        stalled.as_mut().reset(Instant::now() + WRITE_TIMEOUT);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read what is sent to it")))
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, octets);
        self.bound_wait(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bound_wait(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncWriteExt as _,
        net::{TcpListener, TcpSocket},
        time::timeout,
    };

    use super::*;

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    #[tokio::test]
    async fn a_connection_beyond_the_slots_waits_for_one_to_be_free() {
        let slots = Slots::new(1);
        let first = slots.admit(connection().await.0);
        assert!(first.is_some() && slots.admit(connection().await.0).is_none());
        drop(first);
        assert!(slots.admit(connection().await.0).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_cut_off() {
        let (server, client) = connection().await;
        let mut server = Slots::new(1).admit(server).unwrap();
        let octets = vec![0; 64 * 1024];
        let error = loop {
            if let Err(error) = server.write_all(&octets).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }

    #[tokio::test]
    async fn little_is_kept_for_who_reads_slowly() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpSocket::new_v4().unwrap();
        peer.set_recv_buffer_size(64 * 1024).unwrap();
        let peer = peer.connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = BoundedStream::unslotted(listener.accept().await.unwrap().0);
        let (piece, mut taken) = (vec![0; 16 * 1024], 0);
        // The operating system takes it at once, if it takes it.
        while let Ok(written) = timeout(Duration::from_millis(200), stream.write(&piece)).await {
            taken += written.unwrap();
        }
        assert!((64 * 1024..512 * 1024).contains(&taken), "{taken}");
        drop(peer);
    }
}
