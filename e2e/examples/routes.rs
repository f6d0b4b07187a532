//! A service for tests, with every kind of answer that a revocation may find under way: one that streams without end, one that waits,
//! one that blocks its thread, one that is longer than a client wants to read.
//!
//! `routes DIRECTORY ADDRESS`, where the directory is what an enrollment left. It prints the address at which it listens, and ends on
//! SIGTERM.

use std::{convert::Infallible, env, error::Error, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::get,
};
use http_body_util::StreamBody;
use hyper::body::Frame;
use mtls::{
    authority::IdentityFiles,
    relying_party::{Options, RelyingParty},
};
use pki::profile::Profile;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// How long the answers take that take a while.
const WHILE: Duration = Duration::from_millis(20);
/// Between two pieces of the answer without end.
const GAP: Duration = Duration::from_millis(3);
/// Of the long answer.
const LENGTH: usize = 1 << 20;

// As many threads as machines have at least: a handler that blocks one leaves others.
#[tokio::main(worker_threads = 4)]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = env::args_os().skip(1);
    let directory = arguments.next().ok_or("which directory?")?;
    let address = arguments.next().and_then(|address| address.into_string().ok()).ok_or("which address?")?;

    let files = IdentityFiles::new(directory.as_ref(), Profile::Server);
    let enrolled = files.load()?.ok_or("nothing was enrolled in this directory")?;
    let options = Options { feed: enrolled.authority, ..Options::new(directory.into()) };
    let (relying_party, upkeep) = RelyingParty::new(&enrolled.identity, &enrolled.root, options)?;
    let _tasks = upkeep.start();

    let listener = TcpListener::bind(address).await?;
    let (shutdown, mut terminate) = (CancellationToken::new(), signal(SignalKind::terminate())?);
    #[expect(clippy::print_stdout, reason = "whoever started it reads it")]
    {
        println!("{}", listener.local_addr()?);
    }
    let serving = tokio::spawn(relying_party.serve(listener, routes(), shutdown.clone()));
    terminate.recv().await;
    shutdown.cancel();
    serving.await?;
    // Otherwise every revocation would wait for it.
    relying_party.goodbye().await;
    Ok(())
}

fn routes() -> Router {
    Router::new()
        .route("/hello", get(|| async { "hello\n" }))
        .route("/waiting", get(waiting))
        .route("/blocking", get(blocking))
        .route("/endless", get(endless))
        .route("/long", get(|| async { Bytes::from(vec![b'.'; LENGTH]) }))
}

async fn waiting() -> &'static str {
    sleep(WHILE).await;
    "at last\n"
}

/// What no handler should do, and some do.
async fn blocking() -> &'static str {
    std::thread::sleep(WHILE);
    "at last\n"
}

async fn endless() -> Body {
    let (sender, mut pieces) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    tokio::spawn(async move {
        while sender.send(Ok(Frame::data(Bytes::from_static(b"and on\n")))).await.is_ok() {
            sleep(GAP).await;
        }
    });
    Body::new(StreamBody::new(futures_util::stream::poll_fn(move |context| pieces.poll_recv(context))))
}
