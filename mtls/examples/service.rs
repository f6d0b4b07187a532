//! A service that admits clients until they are revoked, and greets them by name.
//!
//! `service DIRECTORY ADDRESS`. The directory is the result of an enrollment: `server.crt`, `server.key`, `ca.crt`, and
//! `ca.url` if the authority has a feed.

use std::{env, error::Error};

use axum::{Extension, Router, routing::get};
use mtls::{
    authority::IdentityFiles,
    relying_party::{Options, RelyingParty},
    serve::Peer,
};
use pki::profile::Profile;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = env::args_os().skip(1);
    let directory = arguments.next().ok_or("which directory?")?;
    let address = arguments.next().and_then(|address| address.into_string().ok()).ok_or("which address?")?;

    let files = IdentityFiles::new(directory.as_ref(), Profile::Server);
    let enrolled = files.load()?.ok_or("nothing was enrolled in this directory")?;
    let options = Options { feed: enrolled.authority, ..Options::new(directory.into()) };
    let (relying_party, upkeep) = RelyingParty::new(&enrolled.identity, &enrolled.root, options)?;
    // Keeps fetching CRLs until it is dropped.
    let _tasks = upkeep.start();

    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let routes = Router::new().route("/", get(greet));
    let shutdown = CancellationToken::new();
    let stopped = shutdown.clone().drop_guard();
    tokio::spawn(async move {
        let _stopped = stopped;
        tokio::signal::ctrl_c().await
    });
    relying_party.serve(listener, routes, shutdown).await;
    // Without this, every revocation would wait for this instance.
    relying_party.goodbye().await;
    Ok(())
}

async fn greet(Extension(peer): Extension<Peer>) -> String {
    format!("hello, {}\n", peer.certificate().display_name())
}
