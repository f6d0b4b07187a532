//! The `api-server` program: arguments in, exit code out.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use api_server::{
    config::{Arguments, Command, completions},
    server::Server,
};
use clap::Parser as _;
use edge::{
    errors::{problem, usage_problem, wants_json},
    listen::file_limit,
    log::{self, Log},
    notify::{State, notify},
    probe, random,
    signals::Signals,
};
use mtls::errors::error_chain;
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && wants_json(std::env::args_os()) => {
            return misused(&usage_problem(&error.to_string()));
        }
        Err(error) => error.exit(),
    };
    let json = arguments.json;
    let log = match log::filter("API_LOG", "info") {
        Ok(filter) => Log::start(filter),
        Err(error) if json => return misused(&usage_problem(&error.to_string())),
        Err(error) => return misused(&format!("error: {error}")),
    };
    if let Some(Command::Completions { shell }) = arguments.command {
        let written = io::stdout().write_all(completions(shell).as_bytes());
        return if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let result = Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        let result = runtime.block_on(run(arguments));
        // A name lookup of the authority cannot be cancelled. Waiting for it would delay the end of a drained service
        // until an unreachable name server times out.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let why = error_chain(error.as_ref());
            log.print(&if json { problem("/problems/failed", &why, 1) } else { format!("error: {why}") });
            ExitCode::FAILURE
        }
    }
}

/// Reports an error before the log is set up.
fn misused(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::from(2)
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(Command::Healthcheck { ops_listen }) = arguments.command {
        return Ok(tokio::task::spawn_blocking(move || probe::ready(ops_listen)).await??);
    }
    let json = arguments.json;
    // Caught from the start, so that a service can be stopped while it waits for its authority.
    let mut signals = Signals::catch()?;
    let shutdown = signals.asked_to_end();
    tokio::pin!(shutdown);
    file_limit::raise();
    random::warm_up();
    let server = tokio::select! {
        server = Server::start(arguments.into_config()) => server?,
        () = &mut shutdown => return Ok(()),
    };
    let (service, https, operations) = (server.name(), server.address(), server.operations_address());
    let line = if json {
        serde_json::json!({
            "listening": true,
            "service": service,
            "https": https.to_string(),
            "operations": operations.to_string(),
        })
        .to_string()
    } else {
        format!("api-server {service} listening: https://{https} for clients, http://{operations} for operations")
    };
    log::announce(line);
    notify(State::Ready);
    Ok(server.run(shutdown).await?)
}
