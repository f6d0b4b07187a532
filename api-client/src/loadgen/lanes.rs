//! The threads over which connections are spread, each with a scheduler of its own: what belongs to one connection
//! stays on one thread, so that an answer wakes nobody elsewhere.
//!
//! It never knows what runs on it.

use std::{io, num::NonZero, sync::mpsc, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// Threads that run until this is dropped, and what was spawned on them with them.
pub(crate) struct Lanes(Vec<Lane>);

struct Lane {
    handle: Handle,
    /// Its end is that of the thread.
    _running: oneshot::Sender<()>,
}

impl Lanes {
    /// One for each processor, but not more than this; at least one.
    pub(crate) fn start(at_most: u64) -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let count = usize::try_from(at_most).unwrap_or(usize::MAX).clamp(1, processors);
        (0..count).map(|_| Lane::start()).collect::<Result<_, _>>().map(Self)
    }

    /// At least one.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Of the lane with this number, which is less than there are.
    pub(crate) fn handle(&self, lane: usize) -> &Handle {
        &self.0[lane].handle
    }
}

impl Lane {
    fn start() -> io::Result<Self> {
        let (running, ended) = oneshot::channel::<()>();
        let (tell, hear) = mpsc::sync_channel(1);
        // The scheduler is made on its thread: where there can be no thread, none has to be taken down again.
        thread::Builder::new().name("lane".to_owned()).spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let _ = tell.send(runtime.as_ref().map(|runtime| runtime.handle().clone()).map_err(io::Error::kind));
            if let Ok(runtime) = runtime {
                // Nothing is ever sent; the sender is dropped.
                let _ = runtime.block_on(ended);
            }
        })?;
        let handle = hear.recv().expect("a thread that was started says what came of its scheduler")?;
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
