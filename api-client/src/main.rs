//! The `api-client` program: arguments in, exit code out.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use api_client::cli::{Arguments, Exit, complain};
use clap::Parser as _;
use mtls::errors::{error_chain, usage_problem, wants_json};

// Requests have threads of their own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && wants_json(std::env::args_os()) => {
            let _ = writeln!(io::stderr(), "{}", usage_problem(&error.to_string()));
            return ExitCode::from(2);
        }
        Err(error) => error.exit(),
    };
    let print = arguments.print();
    let exit = match arguments.run().await {
        Ok(exit) => exit,
        // Whoever read the output has seen enough (`api-client request -n 1000 | head`).
        Err(error) if error.downcast_ref().map(io::Error::kind) == Some(ErrorKind::BrokenPipe) => Exit::Done,
        Err(error) => {
            let _ = complain(print, "/problems/failed", Exit::Failure, &error_chain(error.as_ref()));
            Exit::Failure
        }
    };
    exit.into()
}
