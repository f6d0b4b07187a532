//! How many files this process may open (`RLIMIT_NOFILE`, getrlimit(2)). Each connection takes one.
//!
//! It never counts the open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// The number of files that this process may open now. `u64::MAX` if there is no limit.
#[must_use]
pub fn current() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit to the hard limit. Call it once, at the start, before limits that follow from it are computed. A
/// failure is logged, and the process runs with the limit that it has.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        warn!(%error, current = limit.current, "the limit on open files cannot be raised");
    }
}
