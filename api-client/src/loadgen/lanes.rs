//! Threads for connections, each with its own scheduler. All tasks of a connection run on one thread, so an answer
//! never wakes another thread.
//!
//! It never depends on what runs on the threads.

use std::{io, num::NonZero, sync::mpsc, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// Threads that run until this is dropped. Dropping also ends the tasks on them.
pub(crate) struct Lanes(Vec<Lane>);

struct Lane {
    handle: Handle,
    /// Dropping it ends the thread.
    _running: oneshot::Sender<()>,
}

impl Lanes {
    /// Starts one thread per processor, at most `at_most`, and at least one.
    pub(crate) fn start(at_most: u64) -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let count = usize::try_from(at_most).unwrap_or(usize::MAX).clamp(1, processors);
        (0..count).map(|_| Lane::start()).collect::<Result<_, _>>().map(Self)
    }

    /// The number of threads; at least one.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The scheduler of the thread `lane`, counted from 0.
    pub(crate) fn handle(&self, lane: usize) -> &Handle {
        &self.0[lane].handle
    }
}

impl Lane {
    fn start() -> io::Result<Self> {
        let (running, ended) = oneshot::channel::<()>();
        let (tell, hear) = mpsc::sync_channel(1);
        // The scheduler is made on its own thread, so there is nothing to clean up if the thread cannot be started.
        thread::Builder::new().name("lane".to_owned()).spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let _ = tell.send(runtime.as_ref().map(|runtime| runtime.handle().clone()).map_err(io::Error::kind));
            if let Ok(runtime) = runtime {
                // Nothing is ever sent; this ends when the sender is dropped.
                let _ = runtime.block_on(ended);
            }
        })?;
        let handle = hear.recv().expect("a started thread sends the result of making its scheduler")?;
        Ok(Self { handle, _running: running })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_spawned_on_a_lane_stays_on_its_thread() {
        let lanes = Lanes::start(2).unwrap();
        let thread = |index| {
            lanes.handle(index).spawn(async {
                let before = thread::current().id();
                tokio::task::yield_now().await;
                let inner = tokio::spawn(async { thread::current().id() });
                assert_eq!(inner.await.unwrap(), before);
                before
            })
        };
        let (first, again) = (thread(0).await.unwrap(), thread(0).await.unwrap());
        assert_eq!(first, again);
        assert_ne!(first, thread::current().id());
    }

    #[test]
    fn there_is_always_one() {
        assert_eq!(Lanes::start(0).unwrap().len(), 1);
        assert_eq!(Lanes::start(1).unwrap().len(), 1);
    }
}
