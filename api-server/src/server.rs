//! Assembles the service, runs it, and shuts it down.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum_server::accept::DefaultAcceptor;
use edge::{
    clock::Clock,
    files::{self, Access, FileError},
    notify::{State, notify},
};
use mtls::{
    authority::{EnrollError, Enrolled, FindTokenError, enroll},
    metrics::Renderings,
    relying_party::{Options, RelyingParty, RelyingPartyError, Upkeep},
    serve::host,
    tls::IdentityError,
};
use pki::{
    certificate::CertificateInfo,
    csr::Proposal,
    name::{CommonName, Host},
    profile::Profile,
    time::Timestamp,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::Config,
    hello,
    metrics::{Metrics, TimeRequests},
    operations::{self, Operations},
    own::OwnCertificate,
};

/// How long a starting service waits for its authority.
const AUTHORITY_PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two attempts.
const AUTHORITY_RETRY: Duration = Duration::from_secs(1);

/// A service with bound sockets, ready to run.
#[derive(Debug)]
pub struct Server {
    name: CommonName,
    clients: TcpListener,
    operators: TcpListener,
    addresses: (SocketAddr, SocketAddr),
    relying_party: RelyingParty,
    upkeep: Upkeep,
    /// Those above the service's own: by what name they are in metrics, and when they end.
    certificates: Vec<(String, Timestamp)>,
    drain_delay: Duration,
    clock: Clock,
    has_feed: bool,
    /// Locks the directory against a second process, if there is no feed that does.
    _lock: Option<File>,
}

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It has no identity and no token.
    #[error(transparent)]
    Token(#[from] FindTokenError),
    /// Enrolling failed.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    /// The identity on disk cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A directory cannot be created.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another service runs in its directory.
    #[error("another process uses {}; stop it, or use a separate directory for each service", .0.display())]
    Underway(PathBuf),
    /// The verification of clients cannot be set up.
    #[error(transparent)]
    RelyingParty(#[from] RelyingPartyError),
    /// An address is not available.
    #[error("cannot listen on {address}: {source}; is another process using it?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// A task that keeps a CRL current has ended.
    #[error("the task that keeps a CRL current ended; this is a defect, please report it with the log above")]
    KeeperEnded,
    /// A listener or a signal handler failed.
    #[error("the service stopped: {0}")]
    Io(#[from] io::Error),
}

impl Server {
    /// Binds the sockets, enrolls if there is no identity yet, and puts the CRLs of the last run in force.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        // Binds first, so that a port in use does not consume the token.
        let (clients, address) = listen(config.listen)?;
        let (operators, operations_address) = listen(config.ops_listen)?;
        let Enrolled { identity, root, authority } = identity(&config).await?;
        files::create_directory(&config.options.crl_directory, Access::Public)?;
        let clock = config.options.clock.clone();
        if authority.is_none() {
            warn!(
                file = %config.files.authority().display(),
                "NO FEED: the file with the authority's address is missing. `ca-daemon revoke` does not wait for this \
                 service, and revocations arrive by polling only. To change that, write the address into it \
                 (https://HOST:8440) and restart"
            );
        }
        let has_feed = authority.is_some();
        let lock = if has_feed { None } else { Some(lock(&config.options.crl_directory)?) };
        let options = Options { feed: authority, ..config.options };
        let (relying_party, upkeep) = RelyingParty::new(&identity, &root, options)?;
        let certificates = ends(&identity.path_to(&root)?);
        let addresses = (address, operations_address);
        let Config { name, drain_delay, .. } = config;
        Ok(Self {
            name,
            clients,
            operators,
            addresses,
            relying_party,
            upkeep,
            certificates,
            drain_delay,
            clock,
            has_feed,
            _lock: lock,
        })
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &CommonName {
        &self.name
    }

    /// The address for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses.0
    }

    /// The address for operators.
    #[must_use]
    pub fn operations_address(&self) -> SocketAddr {
        self.addresses.1
    }

    /// Serves until `shutdown` resolves, then drains. Readiness goes off. After the balancer's delay no new connection
    /// is accepted and every open one receives GOAWAY. Requests in flight are finished within a time limit. Then the
    /// service signs off at the authority and returns.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let live = self.relying_party.live_set().clone();
        let own = OwnCertificate::Presented(self.relying_party.identity().clone());
        let metrics = Metrics::new(
            self.relying_party.metrics(),
            own.clone(),
            &self.certificates,
            live.clone(),
            self.clock.clone(),
            self.has_feed,
        );
        let draining = Arc::new(AtomicBool::new(false));

        let clients_end = CancellationToken::new();
        let routes = hello::routes(self.name).layer(TimeRequests(metrics.clone()));
        self.clients.set_nonblocking(true)?;
        let clients = tokio::net::TcpListener::from_std(self.clients)?;
        let serve_clients = self.relying_party.serve(clients, routes, clients_end.clone());
        let operations = Operations {
            live,
            clock: self.clock,
            metrics,
            renderings: Renderings::default(),
            own,
            draining: Arc::clone(&draining),
        };
        // The operators' listener does not drain; it is cancelled last.
        let operators_end = CancellationToken::new();
        let routes = operations::routes(operations);
        let serve_operators = host(self.operators, DefaultAcceptor::new(), routes, operators_end);
        let mut keepers = self.upkeep.start();

        let drain = async {
            shutdown.await;
            info!("shutting down");
            notify(State::Stopping);
            draining.store(true, Ordering::Relaxed);
            sleep(self.drain_delay).await;
            clients_end.cancel();
        };
        // Operators are served until the last client is gone, so they can observe the drain.
        let serve_clients = async {
            tokio::join!(serve_clients, drain);
            self.relying_party.goodbye().await;
        };
        tokio::select! {
            () = serve_clients => Ok(()),
            served = serve_operators => Ok(served?),
            // Keepers run forever. If one ends, it has failed, and the service must not continue without current CRLs.
            _ = keepers.join_next() => Err(ServerError::KeeperEnded),
        }
    }
}

/// The certificates above the service's own, by name, with their ends.
fn ends(path: &[CertificateInfo]) -> Vec<(String, Timestamp)> {
    path.iter().skip(1).map(|info| (info.display_name(), info.validity.not_after)).collect()
}

/// Loads the identity on disk, or enrolls with a token.
async fn identity(config: &Config) -> Result<Enrolled, ServerError> {
    if let Some(enrolled) = on_disk(config)? {
        for difference in differences(config, enrolled.identity.info()) {
            warn!("{difference}; it is used unchanged. To enroll again, move its directory away");
        }
        return Ok(enrolled);
    }
    let token = config.tokens.find()?;
    let hosts = if config.hosts.is_empty() { Host::local() } else { config.hosts.clone() };
    let proposal = proposal(config, hosts);
    let began = Instant::now();
    let enrolled = loop {
        match enroll(&config.files, &token, Profile::Server, &proposal, &config.options.clock).await {
            // The parts of a fleet start in any order. The key is kept, so a retry is the same enrollment.
            Err(error @ EnrollError::Unreachable { .. }) if began.elapsed() < AUTHORITY_PATIENCE => {
                warn!(%error, "not enrolled yet, trying again");
                sleep(AUTHORITY_RETRY).await;
                // Another process may have enrolled here in the meantime.
                if let Some(enrolled) = on_disk(config)? {
                    return Ok(enrolled);
                }
            }
            result => break result?,
        }
    };
    let info = enrolled.identity.info();
    info!(serial = %info.id.serial, name = info.display_name(), not_after = %info.validity.not_after, "enrolled");
    Ok(enrolled)
}

/// The differences between the certificate on disk and the one that the arguments describe.
fn differences(config: &Config, certificate: &CertificateInfo) -> Vec<String> {
    config.files.differences(&proposal(config, config.hosts.clone()), certificate)
}

fn proposal(config: &Config, hosts: Vec<Host>) -> Proposal {
    Proposal { common_name: config.name.clone(), organization: None, hosts }
}

fn on_disk(config: &Config) -> Result<Option<Enrolled>, ServerError> {
    match config.files.load() {
        Ok(Some(enrolled)) => {
            config.files.tidy(&enrolled)?;
            Ok(Some(enrolled))
        }
        Ok(None) => Ok(None),
        Err(IdentityError::Mismatch(_)) if config.files.is_interrupted() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn lock(directory: &Path) -> Result<File, ServerError> {
    files::lock_directory(directory)?.ok_or_else(|| ServerError::Underway(directory.to_owned()))
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    bind().map_err(|source| ServerError::Listen { address, source })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use pki::{
        issuing::{AuthoritySubject, CertificateAuthority, Publication},
        key::{KeyPair, PublicKey},
        policy::{OperatorOrder, Policy},
        serial::Serial,
    };

    use super::*;
    use crate::config::Arguments;

    /// A certificate for `service0` with these hosts.
    fn certificate(hosts: &[&str]) -> CertificateInfo {
        let now = Timestamp::from_unix(1_795_510_800);
        let subject = AuthoritySubject { organization: "Tests".parse().unwrap(), name: "Fleet".parse().unwrap() };
        let publication = Publication {
            crl_url: "http://ca.example/a.crl".into(),
            delta_crl_url: None,
            servers_crl_url: None,
            certificate_url: "http://ca.example/a.crt".into(),
        };
        let (key, serial) = (KeyPair::generate().unwrap(), Serial::from_random([1; 16]));
        let root = CertificateAuthority::new_root(&subject, key, serial, now, publication).unwrap();
        let order = OperatorOrder {
            profile: Profile::Server,
            subject: "service0".parse().unwrap(),
            organization: None,
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            public_key: PublicKey::from_spki(&KeyPair::generate().unwrap().spki()).unwrap(),
            lifetime: Profile::LIFETIME,
        };
        let order = Policy { trust_domain: "fleet.example".parse().unwrap() }.by_operator(order).unwrap();
        root.issue(&order, Serial::from_random([2; 16]), now).unwrap().info
    }

    #[test]
    fn differences_to_the_certificate_on_disk_are_reported() {
        let certificate = certificate(&["a.example", "10.0.0.1"]);
        let said = |line: &[&str]| {
            let arguments = Arguments::try_parse_from([&["api-server"], line].concat()).unwrap();
            differences(&arguments.into_config(), &certificate)
        };
        assert_eq!(said(&[]), [""; 0], "no host was asked for");
        assert_eq!(said(&["--host", "A.example", "--host", "::ffff:10.0.0.1"]), [""; 0]);
        let both = said(&["--dir", "d", "--name", "service1", "--host", "a.example", "--host", "b.example"]);
        let expected = [
            "the certificate in d/server.crt is not for --host b.example",
            "the certificate in d/server.crt is for service0, and --name says service1",
        ];
        assert_eq!(both, expected);
        let config = Arguments::try_parse_from(["api-server", "--dir", "d"]).unwrap().into_config();
        let proposal = Proposal { organization: Some("Others".parse().unwrap()), ..proposal(&config, Vec::new()) };
        let said = config.files.differences(&proposal, &certificate);
        assert_eq!(said, ["the certificate in d/server.crt is not of the organization that --org says, Others"]);
    }
}
