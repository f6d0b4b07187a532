//! Requests are answered where their connection is: what is ready when it is first asked costs no task of its own, and goes out with
//! the next write.
//!
//! It never holds a connection up for a request that waits for something: that one becomes a task.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll, Waker},
};

use hyper::rt::Executor;

/// Runs a future until it first waits, and the rest of it as a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtOnce;

impl<F> Executor<F> for AtOnce
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let mut future = Box::pin(future);
        // Nobody has to be woken: the task asks again before it waits.
        let mut context = Context::from_waker(Waker::noop());
        // A request that panics ends its stream and no other, as it would in a task.
        let first = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        if matches!(first, Ok(Poll::Pending)) {
            tokio::spawn(future);
        }
    }
}
