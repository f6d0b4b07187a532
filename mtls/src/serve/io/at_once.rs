//! Answers requests on the task of their connection. A request that is ready at its first poll needs no task of its own
//! and no second poll of the connection, and its answer is sent with the next write.
//!
//! It never delays a connection for a request that waits: that one becomes a task.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use hyper::rt::Executor;

use super::IS_ON;
use crate::serve::stalls::{OfConnection, Watched};

/// Polls a stream of a connection once, and runs the rest of it as a task if it waits. A stream whose answer is not
/// taken ends.
#[derive(Clone, Debug)]
pub(crate) struct AtOnce(OfConnection);

impl AtOnce {
    pub(crate) fn new(connection: OfConnection) -> Self {
        Self(connection)
    }
}

impl<F> Executor<F> for AtOnce
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let mut future = Watched::new(future, self.0.clone());
        if !IS_ON {
            tokio::spawn(future);
            return;
        }
        // Nothing has to be woken: the task polls again before it waits.
        let mut context = Context::from_waker(Waker::noop());
        // A request that panics ends its own stream only, as it would in a task.
        let first = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut future).poll(&mut context)));
        if matches!(first, Ok(Poll::Pending)) {
            tokio::spawn(future);
        }
    }
}

/// Polls a future again when it has woken itself. Otherwise the task would be queued and another thread woken. An
/// answer that is made within its connection wakes that connection.
#[derive(Debug)]
pub(crate) struct SelfWaking {
    inside: Arc<Inside>,
    waker: Waker,
}

#[derive(Debug)]
struct Inside {
    state: AtomicU8,
    task: AtomicWaker,
}

/// No poll is under way, and there was no wake since the last one.
const IDLE: u8 = 0;
/// A poll is under way, and there was no wake since it began.
const POLLING: u8 = 1;
/// Woken: the poll under way will notice, or else the task was woken.
const WOKEN: u8 = 2;

/// How many times one poll of the task polls the future. A future that always wakes itself must not keep the thread.
const TURNS: usize = 3;

impl SelfWaking {
    pub(crate) fn new() -> Self {
        let inside = Arc::new(Inside { state: AtomicU8::new(IDLE), task: AtomicWaker::new() });
        Self { waker: Waker::from(Arc::clone(&inside)), inside }
    }

    /// Polls the future for the task with this context. It must always be the same future.
    pub(crate) fn poll<F: Future>(&self, mut future: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
        if !IS_ON {
            return future.poll(context);
        }
        let Inside { state, task } = &*self.inside;
        task.register(context.waker());
        for _ in 0..TURNS {
            state.swap(POLLING, Ordering::AcqRel);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&self.waker)) {
                return Poll::Ready(output);
            }
            if state.compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Inside {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == IDLE {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::pin,
        sync::atomic::{AtomicBool, AtomicUsize},
        thread,
    };

    use super::*;
    use crate::serve::stalls::Patience;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_future_that_wakes_itself_is_polled_again_without_waking_the_task() {
        let told = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&told));
        let mut polls = 0;
        let mut future = pin!(poll_fn(|context| {
            polls += 1;
            if polls == 1 {
                context.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        assert!(SelfWaking::new().poll(future.as_mut(), &mut Context::from_waker(&waker)).is_pending());
        assert_eq!((polls, told.0.load(Ordering::SeqCst)), (2, 0));
    }

    #[test]
    fn a_future_that_always_wakes_itself_does_not_keep_the_thread() {
        let told = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&told));
        let mut future = pin!(poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let polled = SelfWaking::new();
        for times in 1..=2 {
            assert!(polled.poll(future.as_mut(), &mut Context::from_waker(&waker)).is_pending());
            assert_eq!(told.0.load(Ordering::SeqCst), times);
        }
    }

    /// Another thread wakes the future at any moment, also during a poll. A lost wake would make this test hang.
    #[tokio::test]
    async fn a_wake_from_another_thread_is_never_lost() {
        for _ in 0..2_000 {
            let (woken, polled) = (Arc::new(AtomicBool::new(false)), SelfWaking::new());
            let mut waking = None;
            let mut future = pin!(poll_fn(|context| {
                if waking.is_none() {
                    let (woken, waker) = (Arc::clone(&woken), context.waker().clone());
                    waking = Some(thread::spawn(move || {
                        woken.store(true, Ordering::SeqCst);
                        waker.wake();
                    }));
                }
                if woken.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
            }));
            poll_fn(|context| polled.poll(future.as_mut(), context)).await;
            waking.take().unwrap().join().unwrap();
        }
    }

    #[tokio::test]
    async fn a_request_that_panics_or_waits_does_not_affect_the_connection() {
        let (send, received) = tokio::sync::oneshot::channel::<()>();
        let (done, is_done) = tokio::sync::oneshot::channel();
        let here = AtOnce::new(Patience::for_listener().of_connection());
        here.execute(async { panic!("a request that panics") });
        here.execute(async {
            received.await.unwrap();
            done.send(()).unwrap();
        });
        send.send(()).unwrap();
        is_done.await.unwrap();
    }
}
