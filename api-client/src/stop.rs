//! Ctrl-C while requests are sent: the first stops sending, the second ends the program.
//!
//! It never prints.

use std::{io, process};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::output::Exit;

/// Whether to stop. Clones share the signal.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Catches Ctrl-C, so that it no longer ends the program at once.
    pub(crate) fn at_interrupt() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (tell, told) = watch::channel(false);
        tokio::spawn(async move {
            interrupt.recv().await;
            tell.send_replace(true);
            interrupt.recv().await;
            process::exit(Exit::Interrupted.code().into());
        });
        Ok(Self(told))
    }

    /// Returns when sending has to stop.
    pub(crate) async fn asked(&self) {
        let mut told = self.0.clone();
        if told.wait_for(|stop| *stop).await.is_err() {
            // The sender is gone, so no signal can arrive.
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn is_asked(&self) -> bool {
        *self.0.borrow()
    }
}
