//! Requests are answered where their connection is: what is ready when it is first asked costs no task of its own and no second
//! look at the connection, and goes out with the next write.
//!
//! It never holds a connection up for a request that waits for something: that one becomes a task.

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

/// Runs a stream of a connection until it first waits, and the rest of it as a task. One whose answer nobody takes ends.
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
        // Nobody has to be woken: the task asks again before it waits.
        let mut context = Context::from_waker(Waker::noop());
        // A request that panics ends its stream and no other, as it would in a task.
        let first = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut future).poll(&mut context)));
        if matches!(first, Ok(Poll::Pending)) {
            tokio::spawn(future);
        }
    }
}

/// Polls a future again, instead of having the task queued and another thread woken, when it has woken itself: an answer that is
/// made inside of its connection wakes that connection.
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

/// Nobody polls, and nobody has woken the task since.
const IDLE: u8 = 0;
/// A poll is under way, and nobody has woken the task since it began.
const POLLING: u8 = 1;
/// Woken: the poll that is under way will see it, or else the task was told.
const WOKEN: u8 = 2;

/// How often one poll of the task polls the future: a future that always wakes itself must leave the thread to others, too.
const TURNS: usize = 3;

impl SelfWaking {
    pub(crate) fn new() -> Self {
        let inside = Arc::new(Inside { state: AtomicU8::new(IDLE), task: AtomicWaker::new() });
        Self { waker: Waker::from(Arc::clone(&inside)), inside }
    }

    /// Polls the future in the place of whoever has this context; always the same future.
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
    fn who_wakes_itself_is_polled_again_and_the_task_is_not_told() {
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
    fn who_always_wakes_itself_leaves_the_thread_to_others() {
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

    /// Another thread wakes at any moment, in the middle of a poll, too; a wake that was lost would hang here.
    #[tokio::test]
    async fn a_wake_from_elsewhere_is_never_lost() {
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
    async fn what_panics_or_waits_is_no_harm_to_who_runs_it() {
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
