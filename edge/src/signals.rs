//! The signals that a daemon hears: SIGTERM and SIGINT end it, SIGHUP does not.
//!
//! It never ends anything itself.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// The signals, from the moment at which this is made.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// To be called before anything can be waited for, so that an early signal is not lost.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when the process is asked to end.
    pub async fn asked_to_end(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                // Of a terminal that closes, or of whoever expects files to be read again.
                _ = self.hang_up.recv() => info!("SIGHUP changes nothing: there is nothing to read again; SIGTERM ends this process"),
            }
        }
    }
}
