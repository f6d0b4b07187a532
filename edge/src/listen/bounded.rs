//! Connections with bounded costs: each has one of a bounded number of slots, and is closed if its peer stops reading.
//!
//! It never interprets the data of a connection.

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

/// How long a write may wait for the peer to read anything.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// How many unsent bytes the operating system buffers for a peer, besides those in flight. With its default it takes
/// megabytes, and then nothing more until a third of them is sent. A peer that reads slowly would look like one that
/// does not read.
const UNSENT: u32 = 128 * 1024;

/// The most memory that a connection may cost, in bytes.
const COST: u64 = 64 * 1024;

/// How many connections a listener may have open. Further ones are closed at once.
#[derive(Clone, Debug)]
pub struct Slots {
    free: Arc<Semaphore>,
    total: usize,
    /// Whether the lack of slots was logged. It is logged again only after half of them were free.
    exhausted: Arc<AtomicBool>,
}

impl Slots {
    /// A third of the files that this process may open, so that two listeners starve neither each other nor the
    /// database. At most as many as fit into the memory.
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

/// A connection that may have a slot, and whose peer has to read.
#[derive(Debug)]
pub struct BoundedStream {
    stream: TcpStream,
    /// Runs while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl BoundedStream {
    fn new(stream: TcpStream, slot: Option<OwnedSemaphorePermit>) -> Self {
        // Most answers are small, and Nagle's algorithm would delay each until the peer's delayed ACK.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        Self { stream, stalled: None, _slot: slot }
    }

    /// A connection that is counted elsewhere.
    #[must_use]
    pub fn unslotted(stream: TcpStream) -> Self {
        Self::new(stream, None)
    }

    /// From now on, data that the peer has not acknowledged is discarded when the connection is dropped or the process
    /// ends. Otherwise the operating system would continue to send it for minutes.
    pub fn take_unsent_along(&self) {
        // It only fails on a closed socket.
        let _ = self.stream.set_zero_linger();
    }

    /// Whether both sides have closed it and the peer has acknowledged everything, so that nothing is left to send.
    #[must_use]
    pub fn is_over(&self) -> bool {
        // A socket in the state CLOSED has no peer address.
        self.stream.peer_addr().is_err()
    }

    /// Returns the result of a write, or an error if it has waited too long.
    fn bound_wait<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        task::ready!(stalled.as_mut().poll(context));
        // If the caller continues in spite of the error, the next wait starts again.
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
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
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
        let bytes = vec![0; 64 * 1024];
        let error = loop {
            if let Err(error) = server.write_all(&bytes).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }

    #[tokio::test]
    async fn little_is_buffered_for_a_slow_reader() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpSocket::new_v4().unwrap();
        peer.set_recv_buffer_size(64 * 1024).unwrap();
        let peer = peer.connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = BoundedStream::unslotted(listener.accept().await.unwrap().0);
        let (piece, mut taken) = (vec![0; 16 * 1024], 0);
        // The operating system accepts it at once, or not at all.
        while let Ok(written) = timeout(Duration::from_millis(200), stream.write(&piece)).await {
            taken += written.unwrap();
        }
        assert!((64 * 1024..512 * 1024).contains(&taken), "{taken}");
        drop(peer);
    }
}
