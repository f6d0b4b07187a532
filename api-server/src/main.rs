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
    errors::error_chain,
    limits,
    notify::{State, notify},
    probe,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tracing::warn;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

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
            let _ = writeln!(std::io::stderr(), "error: {}", error_chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Logs to standard error, as much as `API_LOG` says.
fn start_log() -> anyhow::Result<()> {
    let wanted = std::env::var("API_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { "info" } else { &wanted };
    let filter = log_filter(wanted).with_context(|| {
        format!("API_LOG={wanted} does not say what to log; give error, warn, info, debug or MODULE=LEVEL")
    })?;
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // It would say so on standard error, and panic where that is what cannot be written: on a full disk, say.
    log.log_internal_errors(false).init();
    Ok(())
}

/// A word that is no level would be taken for the name of a module, and everything else would be silent.
fn log_filter(wanted: &str) -> anyhow::Result<EnvFilter> {
    for part in wanted.split(',').filter(|part| !part.contains('=')) {
        part.parse::<LevelFilter>().with_context(|| format!("{part:?} is no level"))?;
    }
    Ok(EnvFilter::try_new(wanted)?)
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
    // Nobody may read along, or a full disk: no reason not to serve.
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        warn!(%error, %https, %operations, "listening, which could not be written to standard output");
    }
    notify(State::Ready);
    Ok(server.run(shutdown).await?)
}

#[cfg(test)]
mod tests {
    use super::log_filter;

    #[test]
    fn a_log_filter_says_what_to_log() {
        for good in ["off", "WARN", "debug", "info,mtls=warn"] {
            assert!(log_filter(good).is_ok(), "{good:?} must be taken");
        }
        for bad in ["verbose", "info,mtls", "mtls=loud", " "] {
            assert!(log_filter(bad).is_err(), "{bad:?} must be refused");
        }
    }
}
