//! The `ca-daemon` program.
//!
//! It never does more than start the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ca_daemon::cli::run()
}
