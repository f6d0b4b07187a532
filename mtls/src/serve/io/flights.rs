//! A stream that sends each flight of a TLS handshake as one write, and the server's last flight together with the
//! first data after it. That saves a system call and a packet for every connection.
//!
//! It never parses a flight. A flight is complete when the handshake waits for the peer.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::serve::{
    io::{
        IS_ON,
        held::{self, Held},
    },
    unfinished::HandshakePlace,
};

/// A stream for a handshake and everything after it.
#[derive(Debug)]
pub struct Flights<S> {
    stream: S,
    phase: Phase,
    held: Held,
    /// The place of the handshake, until it is over.
    place: Option<HandshakePlace>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Written data is held back until the peer has to answer it. A flush does not release it.
    Handshake,
    /// What the handshake held back is sent with the next write or flush.
    Traffic,
}

impl<S> Flights<S> {
    pub(crate) fn new(stream: S, place: HandshakePlace) -> Self {
        Self { stream, phase: Phase::Handshake, held: Held::default(), place: Some(place) }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Call this when the handshake is done, and write or flush afterwards. Returns the place of the handshake, the
    /// first time.
    pub(crate) fn end_handshake(&mut self) -> Option<HandshakePlace> {
        self.phase = Phase::Traffic;
        self.place.take()
    }
}

impl<S: AsyncWrite + Unpin> Flights<S> {
    fn poll_write_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // After the handshake, nothing more is held back.
        let keep = if self.phase == Phase::Traffic { 0 } else { held::BOUND };
        self.held.poll_write_to(&mut self.stream, keep, context, |_| ())
    }

    /// Takes as much of it as there is room for, at least one byte.
    fn poll_hold(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.held.is_full() {
            ready!(self.poll_write_held(context))?;
        }
        Poll::Ready(Ok(self.held.take(slices)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Flights<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if let Some(place) = &self.place {
            place.received(into.filled().len() - before);
        }
        if read.is_pending() && self.phase == Phase::Handshake {
            ready!(self.poll_write_held(context))?;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flights<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.phase {
            Phase::Handshake => self.poll_hold(context, slices),
            Phase::Traffic if self.held.is_empty() => Pin::new(&mut self.stream).poll_write_vectored(context, slices),
            Phase::Traffic => {
                let taken = ready!(self.poll_hold(context, slices))?;
                match self.poll_write_held(context) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    // What the stream does not take now is sent with the next write or flush.
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.phase == Phase::Handshake && IS_ON {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_write_held(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_held(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::serve::unfinished::Unfinished;

    /// What the peer has received so far.
    async fn received(far: &mut DuplexStream) -> String {
        let mut bytes = [0; 1024];
        let mut into = ReadBuf::new(&mut bytes);
        poll_fn(|context| Poll::Ready(Pin::new(&mut *far).poll_read(context, &mut into).is_ready())).await;
        String::from_utf8(into.filled().to_vec()).unwrap()
    }

    async fn say(near: &mut Flights<DuplexStream>, parts: &[&str]) {
        for part in parts {
            near.write_all(part.as_bytes()).await.unwrap();
            near.flush().await.unwrap();
        }
    }

    async fn wait_for_the_peer(near: &mut Flights<DuplexStream>) {
        let mut bytes = [0; 8];
        let mut into = ReadBuf::new(&mut bytes);
        let read = poll_fn(|context| Poll::Ready(Pin::new(&mut *near).poll_read(context, &mut into))).await;
        assert!(read.is_pending());
    }

    #[tokio::test]
    async fn a_flight_is_sent_when_the_peer_has_to_answer_it_and_the_last_one_with_the_next_write() {
        let (near, mut far) = duplex(1024);
        let mut near = Flights::new(near, Unfinished::here().begin());
        say(&mut near, &["hello, ", "certificate, ", "finished"]).await;
        assert_eq!(received(&mut far).await, "");
        wait_for_the_peer(&mut near).await;
        assert_eq!(received(&mut far).await, "hello, certificate, finished");
        near.write_all(b"ticket, ").await.unwrap();
        near.flush().await.unwrap();
        near.end_handshake();
        wait_for_the_peer(&mut near).await;
        assert_eq!(received(&mut far).await, "");
        near.write_all(b"answer").await.unwrap();
        assert_eq!(received(&mut far).await, "ticket, answer");
        near.write_all(b"another").await.unwrap();
        assert_eq!(received(&mut far).await, "another");
    }

    #[tokio::test]
    async fn held_data_is_not_lost_if_nothing_follows_or_the_stream_is_closed() {
        let (near, mut far) = duplex(1024);
        let mut near = Flights::new(near, Unfinished::here().begin());
        say(&mut near, &["ticket"]).await;
        near.end_handshake();
        near.flush().await.unwrap();
        assert_eq!(received(&mut far).await, "ticket");
        let (near, mut far) = duplex(1024);
        let mut near = Flights::new(near, Unfinished::here().begin());
        say(&mut near, &["alert"]).await;
        near.shutdown().await.unwrap();
        assert_eq!(received(&mut far).await, "alert");
    }

    #[tokio::test]
    async fn nothing_is_lost_if_the_peer_is_slow_or_a_flight_is_long() {
        let (near, mut far) = duplex(1000);
        let sent: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let expected = [&sent[..], &sent].concat();
        let writing = async {
            let mut near = Flights::new(near, Unfinished::here().begin());
            near.write_all(&sent).await.unwrap();
            near.end_handshake();
            near.write_all(&sent).await.unwrap();
            near.flush().await.unwrap();
        };
        let reading = async {
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            assert!(received == expected);
        };
        tokio::join!(writing, reading);
    }
}
