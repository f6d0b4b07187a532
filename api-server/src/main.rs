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
        // A lookup of the authority's name that is under way cannot be taken back, and nobody waits for it any more: it would keep a
        // service that has drained from ending, for as long as a name server that is out of reach does not answer.
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

/// Before anything began, so that nobody is held up.
fn misused(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::from(2)
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(Command::Healthcheck { ops_listen }) = arguments.command {
        return Ok(tokio::task::spawn_blocking(move || probe::ready(ops_listen)).await??);
    }
    let json = arguments.json;
    // From the first moment: a service that waits for its authority can be stopped, too.
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
