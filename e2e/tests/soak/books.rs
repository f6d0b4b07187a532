//! What arrives after it should: which bytes of a connection the kernel had before a moment, and which came later.
//!
//! The moment is the one at which `revoke` was heard to say that a service enforces the revocation, which is later than the service's own
//! confirmation. What was sent before may still lie in the kernel, or wait for the thread that reads the connection, so the clock at
//! which an answer is read proves nothing. Instead, each connection counts what was taken out of its socket, and closing the books adds
//! what waits in the socket at that moment: everything up to that place in the stream has arrived in time, and all that lies behind it
//! has arrived later than the moment. On one machine, what is sent has arrived unless the receiver's buffer is full, and it is read
//! as fast as it comes.

use std::{
    io::{self, Read as _},
    net::TcpStream,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use rustix::io::ioctl_fionread;

/// The connections of one client to one service.
#[derive(Debug, Default)]
pub(crate) struct Books(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    closed: Option<Instant>,
    taps: Vec<Arc<Tap>>,
}

/// A connection's receiving end.
#[derive(Debug)]
pub(crate) struct Tap {
    socket: TcpStream,
    /// How much was taken out of the socket. Held while something is.
    taken: Mutex<u64>,
    /// What lies at this place of the stream or behind it has arrived too late.
    limit: AtomicU64,
}

impl Books {
    /// A new connection; once the books are closed, all that arrives on it is late.
    pub(crate) fn open(&self, socket: TcpStream) -> Arc<Tap> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = if entries.closed.is_some() { 0 } else { u64::MAX };
        let tap = Arc::new(Tap { socket, taken: Mutex::new(0), limit: AtomicU64::new(limit) });
        entries.taps.retain(|tap| Arc::strong_count(tap) > 1);
        entries.taps.push(Arc::clone(&tap));
        tap
    }

    /// From this moment on, whatever arrives is late.
    pub(crate) fn close(&self) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.closed.is_none() {
            entries.closed = Some(Instant::now());
            for tap in &entries.taps {
                tap.close();
            }
        }
    }

    /// Since when they are closed.
    pub(crate) fn closed(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).closed
    }
}

impl Tap {
    /// Takes what has arrived, or what arrives within the socket's timeout.
    pub(crate) fn take(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // Nobody else reads, so what is there now is there with the lock, which is not held while nothing is.
        if self.socket.peek(&mut [0])? == 0 {
            return Ok(0);
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let length = (&self.socket).read(buffer)?;
        *taken += u64::try_from(length).expect("lengths are 64 bits at most");
        Ok(length)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(crate) fn is_late(&self, place: u64) -> bool {
        place >= self.limit.load(Ordering::SeqCst)
    }

    fn close(&self) {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = ioctl_fionread(&self.socket).expect("it is a socket");
        self.limit.store(*taken + waiting, Ordering::SeqCst);
    }
}
