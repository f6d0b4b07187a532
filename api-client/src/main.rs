//! The `api-client` program: arguments in, exit code out.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use api_client::cli::{Arguments, Exit};
use clap::Parser as _;
use mtls::errors::error_chain;

// Requests have threads of their own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let exit = match Arguments::parse().run().await {
        Ok(exit) => exit,
        // Whoever read the output has seen enough (`api-client request -n 1000 | head`).
        Err(error) if error.downcast_ref().map(io::Error::kind) == Some(ErrorKind::BrokenPipe) => Exit::Done,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", error_chain(error.as_ref()));
            Exit::Failure
        }
    };
    exit.into()
}
