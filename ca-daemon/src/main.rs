//! The `ca-daemon` program.
//!
//! It never does more than start what the library holds.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Connections and requests come and go on all threads, which the C library's allocator takes turns for.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    ca_daemon::cli::run()
}
