//! The signals of a daemon: SIGTERM and SIGINT end it, SIGHUP does not.
//!
//! It never ends anything itself.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// The signals since this was created.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Call this before anything waits, so that an early signal is not lost.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Returns on SIGTERM or SIGINT.
    pub async fn asked_to_end(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                // A closing terminal sends it, and so do programs that expect a reload.
                _ = self.hang_up.recv() => info!("SIGHUP changes nothing: there is nothing to reload; SIGTERM ends \
                     this process"),
            }
        }
    }
}
