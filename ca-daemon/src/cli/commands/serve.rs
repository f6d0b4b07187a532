//! `ca-daemon serve`: runs the authority until it is told to stop.
//!
//! It never prints more than one line, when it is ready; the rest is the log.

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
    /// Where to serve enrollment over HTTPS; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8440")]
    listen: SocketAddr,
    /// Where to serve CRLs and authority certificates to everybody over HTTP; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8480")]
    http_listen: SocketAddr,
    /// Where to serve /readyz, /healthz and /metrics to operators over HTTP: they name your services; port 0 takes a free one
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
    // Before anything can be waited for, so that an early signal is not lost.
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
