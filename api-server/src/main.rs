//! The `api-server` program: arguments in, exit code out.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use api_server::{
    config::{Arguments, Command},
    server::Server,
};
use clap::Parser as _;
use mtls::{
    limits,
    notify::{State, notify},
    probe,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to standard error, as much as `API_LOG` says.
fn start_log() -> anyhow::Result<()> {
    let filter = std::env::var("API_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(&filter).with_context(|| format!("API_LOG={filter} is no log level"))?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    Ok(())
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(Command::Healthcheck { ops_listen }) = arguments.command {
        return Ok(tokio::task::spawn_blocking(move || probe::ready(ops_listen)).await??);
    }
    start_log()?;
    let json = arguments.json;
    // From the first moment: a service that waits for its authority can be stopped, too.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(shutdown);
    limits::raise_file_limit();
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
    writeln!(std::io::stdout(), "{line}")?;
    notify(State::Ready);
    Ok(server.run(shutdown).await?)
}
