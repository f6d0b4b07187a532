//! Runs work that takes milliseconds of processor time without blocking the async threads.
//!
//! It never bounds how much work runs at once; its callers do (`handshake::Turns`, for strangers).

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// Runs the work on this thread, while another thread takes over the async tasks. rustls's verifiers must return their
/// result, so the work cannot be awaited. Whole handshakes on threads of their own would cost three thread switches
/// each, even for remembered chains, which are the most and need no such work.
///
/// In a program with one thread, other tasks have to wait.
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}
