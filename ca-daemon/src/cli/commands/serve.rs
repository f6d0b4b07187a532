//! `ca-daemon serve`: runs the authority until it receives a signal to stop.
//!
//! It never prints more than one line, when it is ready. Everything else is in the log.

use std::net::SocketAddr;

use clap::Args;
use edge::{
    listen::file_limit,
    log,
    notify::{State, notify},
    random,
    signals::Signals,
};
use serde::Serialize;

use crate::{
    cli::Context,
    daemon::{Daemon, Listen},
};

#[derive(Debug, Args)]
#[group(skip)]
pub(in crate::cli) struct Arguments {
    /// The address for enrollment over HTTPS; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8440")]
    listen: SocketAddr,
    /// The address for public CRLs and authority certificates over HTTP; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8480")]
    http_listen: SocketAddr,
    /// The address for /readyz, /healthz and /metrics over HTTP, which name your services and are for operators only;
    /// port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8481")]
    ops_listen: SocketAddr,
}

#[derive(Serialize)]
struct Started {
    ready: bool,
    https: SocketAddr,
    http: SocketAddr,
    operations: SocketAddr,
}

pub(in crate::cli) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    file_limit::raise();
    random::warm_up();
    // Before the first await, so that an early signal is not lost.
    let mut signals = Signals::catch()?;
    let listen = Listen { https: arguments.listen, http: arguments.http_listen, operations: arguments.ops_listen };
    let daemon = Daemon::start(context.directory.path(), listen, context.clock.clone()).await?;
    let Listen { https, http, operations } = daemon.addresses();
    log::announce(context.output.as_line(&Started { ready: true, https, http, operations }, |_| {
        format!(
            "ca-daemon ready: https://{https} for enrollment, http://{http} for CRLs, http://{operations} for operators"
        )
    })?);
    notify(State::Ready);
    let stop = async {
        signals.asked_to_end().await;
        notify(State::Stopping);
    };
    Ok(daemon.serve(stop).await?)
}
