//! Whether the database can be written. It counts as unwritable after a write failed because of the disk, until one
//! succeeds.
//!
//! It never writes. The callers report their results.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;
use tracing::{error, info};

use super::StoreError;

/// The result of the last write.
#[derive(Debug)]
pub(super) struct Writable {
    failure: Mutex<Option<Arc<StoreError>>>,
    failed: AtomicU64,
    is_off: watch::Sender<bool>,
}

impl Default for Writable {
    fn default() -> Self {
        Self { failure: Mutex::default(), failed: AtomicU64::new(0), is_off: watch::Sender::new(false) }
    }
}

impl Writable {
    /// Records the result of a write and returns it. Logs one line when the state changes.
    pub(super) fn note<T>(&self, written: Result<T, StoreError>) -> Result<T, StoreError> {
        match written {
            Ok(value) => {
                if self.is_off.send_if_modified(std::mem::take) {
                    self.set(None);
                    info!("the database can be written again");
                }
                Ok(value)
            }
            Err(error) if error.is_of_the_disk() => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let error = Arc::new(error);
                self.set(Some(Arc::clone(&error)));
                if self.is_off.send_if_modified(|is_off| !std::mem::replace(is_off, true)) {
                    error!(
                        %error,
                        "nothing can be written, so the authority is not ready; it tries again every second"
                    );
                }
                Err(StoreError::Together(error))
            }
            Err(error) => Err(error),
        }
    }

    fn set(&self, failure: Option<Arc<StoreError>>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// An error if nothing can be written.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map_or(Ok(()), |error| Err(StoreError::Together(Arc::clone(error))))
    }

    /// How many writes have failed since the start.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether nothing can be written. Receivers are notified when it changes.
    pub(super) fn is_off(&self) -> watch::Receiver<bool> {
        self.is_off.subscribe()
    }
}
