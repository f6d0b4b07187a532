//! The running authority: three listeners, their routes, and the tasks that run by the clock.
//!
//! It never decides anything about certificates.

mod client_verifier;
mod socket;
pub(crate) mod tasks;

use std::{
    error::Error,
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
};

use axum_server::accept::DefaultAcceptor;
use edge::clock::Clock;
use mtls::{
    serve::{Tls, host},
    tls::{ServerIdentity, TlsClock, Verifier},
};
use pki::certificate::CertificateInfo;
use rustls::{ServerConfig, version::TLS13};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    client_verifier::FleetVerifier,
    socket::{CommandSocket, SocketError},
    tasks::{Contact, Pace, Presented},
};
use crate::{
    authority::Authority,
    feed::{self, Feed},
    home::directory::Directory,
    http::{self, App},
    issuer::Issuer,
};

/// The addresses to listen on. Port 0 takes any free port.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// For enrollment, over TLS.
    pub https: SocketAddr,
    /// For CRLs and authority certificates, in plain HTTP, public.
    pub http: SocketAddr,
    /// For health and metrics, in plain HTTP for operators.
    pub operations: SocketAddr,
}

/// A daemon that has bound its ports and is ready to serve.
#[derive(Debug)]
pub struct Daemon {
    app: App,
    https: TcpListener,
    http: TcpListener,
    operations: TcpListener,
    addresses: Listen,
    tls: Arc<ServerConfig>,
    commands: CommandSocket,
    /// Aborted when the daemon is dropped.
    tasks: JoinSet<()>,
}

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is in use or not permitted.
    #[error(
        "cannot listen on {address}: {source}; stop the program that listens there (another ca-daemon?) or choose \
         another address with {option}"
    )]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// The option that sets it.
        option: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// The command socket cannot be opened, for example because another daemon serves the directory.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The authority in the directory is not usable.
    #[error("{0}")]
    Authority(#[source] Box<dyn Error + Send + Sync>),
}

impl Daemon {
    /// Opens the authority in `directory`, binds the ports, publishes the CRLs that are due and issues the daemon's own
    /// certificate. Requests are not answered before [`Self::serve`].
    pub async fn start(directory: &Path, listen: Listen, clock: Clock) -> Result<Self, StartError> {
        let directory = Directory::new(directory);
        let authority = Authority::open(&directory).await.map_err(failed)?;
        Self::start_with(authority, &directory, listen, clock, Pace::default()).await
    }

    async fn start_with(
        authority: Authority,
        directory: &Directory,
        listen: Listen,
        clock: Clock,
        pace: Pace,
    ) -> Result<Self, StartError> {
        let authority = Arc::new(authority);
        let commands = CommandSocket::open(directory)?;
        // Bind first: if a port is taken, no certificate has been issued yet.
        let https = bind(listen.https, "--listen")?;
        let http = bind(listen.http, "--http-listen")?;
        let operations = bind(listen.operations, "--ops-listen")?;
        let now = clock.now();
        let feed = Feed::open(authority.store().clone(), authority.settings(), clock.clone()).await.map_err(failed)?;
        tasks::warn_of_loss(&authority).await.map_err(failed)?;
        // Relying parties get a chance to report first, unless a CRL is so near its end that it cannot wait.
        tasks::publish_due(&authority, Contact::Starting, now).await.map_err(failed)?;
        feed.refresh().await.map_err(failed)?;
        tasks::warn_of_absent_keys(&authority).await.map_err(failed)?;
        let identity = tasks::own_identity(&authority, now).await.map_err(failed)?;
        let presented = Presented::new(&identity).map_err(failed)?;
        let app = App::new(Arc::clone(&authority), feed.clone(), clock.clone());
        for issuer in Issuer::ALL {
            let info = CertificateInfo::from_der(authority.certificate(issuer)).map_err(failed)?;
            app.metrics.issuer_ends(issuer, info.validity.not_after);
        }
        let [root, issuing] = [Issuer::Root, Issuer::Issuing].map(|issuer| authority.certificate(issuer));
        let peers = FleetVerifier::new(root, issuing).map_err(failed)?;
        let tls = tls_config(peers, presented.identity.clone(), &clock).map_err(failed)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(tasks::keep_up(Arc::clone(&authority), feed.clone(), clock.clone(), pace));
        let metrics = Arc::clone(&app.metrics);
        tasks.spawn(tasks::keep_presentable(
            Arc::clone(&authority),
            feed.clone(),
            presented,
            clock.clone(),
            pace,
            metrics,
        ));
        tasks.spawn(tasks::catch_up(Arc::clone(&authority), feed.clone(), clock, pace));
        tasks.spawn(tasks::keep_writable(authority));
        tasks.spawn(feed::keep_told(feed));
        Ok(Self {
            app,
            addresses: Listen { https: https.1, http: http.1, operations: operations.1 },
            https: https.0,
            http: http.0,
            operations: operations.0,
            tls,
            commands,
            tasks,
        })
    }

    /// The addresses that were bound.
    #[must_use]
    pub fn addresses(&self) -> Listen {
        self.addresses
    }

    /// Serves until `shutdown` ends, and then until the requests in flight are answered, for
    /// [`DRAIN_TIMEOUT`](mtls::serve::limits::DRAIN_TIMEOUT) at most.
    pub async fn serve(mut self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let feed = self.app.feed.clone();
        self.tasks.spawn(self.commands.serve(feed.clone(), self.addresses.operations));
        let (private, public) = (http::private_routes(self.app.clone()), http::public_routes(self.app.clone()));
        let operators = http::operations_routes(self.app.clone());
        let end = CancellationToken::new();
        let https = host(self.https, Tls::new(self.tls), private, end.clone());
        let http = host(self.http, DefaultAcceptor::new(), public, end.clone());
        let operations = host(self.operations, DefaultAcceptor::new(), operators, end.clone());
        let serving = async { tokio::try_join!(https, http, operations) };
        tokio::pin!(serving);
        let served = tokio::select! {
            served = &mut serving => served,
            () = shutdown => {
                info!("shutting down");
                // A feed does not end by itself, so the drain would take all of its time.
                feed.close();
                end.cancel();
                serving.await
            }
        };
        self.tasks.shutdown().await;
        if let Err(error) = feed.flush().await {
            warn!(%error, "the last confirmations of the relying parties could not be stored");
        }
        self.app.authority.store().close().await;
        served.map(|_| ())
    }
}

fn bind(address: SocketAddr, option: &'static str) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = || {
        let listener = TcpListener::bind(address)?;
        let actual = listener.local_addr()?;
        Ok((listener, actual))
    };
    bound().map_err(|source| StartError::Listen { address, option, source })
}

fn tls_config(
    peers: FleetVerifier,
    identity: ServerIdentity,
    clock: &Clock,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_details(mtls::tls::provider(), Arc::new(TlsClock::new(clock)))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(Verifier::new(peers)))
        .with_cert_resolver(Arc::new(identity));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn failed(error: impl Error + Send + Sync + 'static) -> StartError {
    StartError::Authority(Box::new(error))
}

#[cfg(test)]
mod tests;
