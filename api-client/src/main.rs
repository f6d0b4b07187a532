//! The `api-client` program: arguments in, exit code out.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use api_client::{cli::Arguments, output::explain};
use clap::Parser as _;
use edge::{
    errors::{usage_problem, wants_json},
    log::{self, Log},
};

// Requests run on threads of their own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && wants_json(std::env::args_os()) => {
            return misused(&usage_problem(&error.to_string()));
        }
        Err(error) => error.exit(),
    };
    let print = arguments.print();
    let log = match log::filter("API_LOG", "warn") {
        Ok(filter) => Log::start(filter),
        Err(error) if print.is_json() => return misused(&usage_problem(&error.to_string())),
        Err(error) => return misused(&format!("error: {error}")),
    };
    match arguments.run().await {
        Ok(exit) => exit.into(),
        Err(error) => {
            let (exit, said) = explain(&error, print);
            if let Some(said) = said {
                log.print(&said);
            }
            exit.into()
        }
    }
}

fn misused(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::from(2)
}
