//! Work that takes milliseconds of a processor, beside the threads that serve.
//!
//! It never bounds how much of it is done at once; who may cause it does (`handshake::Turns`, for strangers).

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// Does the work at once, and has another thread do meanwhile what this one was there for. rustls's verifiers give their answer before they
/// return, so the work cannot be waited for; and to shake hands on threads of their own would cost each handshake three changes of
/// threads, also where the chain is remembered, which is most of them and takes no such work.
///
/// In a program with one thread, nobody else is served meanwhile, and nobody is there who could be.
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}
