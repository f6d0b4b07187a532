//! `ca-daemon healthcheck`: whether the daemon on this machine is ready, for containers that hold no shell.
//!
//! It never opens the authority.

use std::net::SocketAddr;

use clap::Args;
use mtls::probe;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where the daemon serves CRLs, health and metrics
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8480")]
    http_listen: SocketAddr,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let address = arguments.http_listen;
    Ok(tokio::task::spawn_blocking(move || probe::ready(address)).await??)
}
