//! The `ca-daemon` program.
//!
//! It never does more than start what the library holds.

use std::process::ExitCode;

fn main() -> ExitCode {
    ca_daemon::cli::run()
}
