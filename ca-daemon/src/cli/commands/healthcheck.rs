//! `ca-daemon healthcheck`: whether the daemon on this machine is ready, for containers without a shell.
//!
//! It never opens the authority.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use clap::Args;
use edge::probe;
use tokio::time::timeout;

use crate::{
    cli::Context,
    operator::{DaemonConnection, ListensOn, Operations},
};

/// How long the daemon may take to report its address.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// An HTTP address of the daemon that serves /readyz [default: the operations listener that the daemon of --dir
    /// reports]
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<SocketAddr>,
}

pub(in crate::cli) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let address = match arguments.http_listen {
        Some(address) => address,
        None => timeout(PATIENCE, listening(context))
            .await
            .context("the daemon does not report where it listens in time")??,
    };
    Ok(tokio::task::spawn_blocking(move || probe::ready(address)).await??)
}

async fn listening(context: &Context) -> anyhow::Result<SocketAddr> {
    let Some(daemon) = DaemonConnection::open(&context.directory).await? else {
        anyhow::bail!("no ca-daemon serves {}", context.directory.path().display());
    };
    match daemon.ask(Operations).await?.expect().await {
        Ok(ListensOn::Operations(address)) => Ok(address),
        Err(error) => Err(error).context("the daemon does not report where it listens; name it with --http-listen"),
    }
}
