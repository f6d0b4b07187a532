//! A relying party put together: from an identity and a root to an acceptor that enforces revocation, and the tasks
//! that keep its CRLs current.
//!
//! It never decides anything itself; the other modules do.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use edge::clock::Clock;
use pki::certificate::Fingerprint;
use rustls::{RootCertStore, ServerConfig, version::TLS13};
use rustls_pki_types::CertificateDer;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use url::Url;

use crate::{
    authority::{
        IdentityFiles, Renewer,
        feed::{FeedClient, FeedList, Goodbye},
        instance::{Instance, InstanceError},
        renewing::Renewing,
    },
    metrics::Metrics,
    revocation::{
        self, Barrier, Channels, Deadlines, Keeper, ListFiles, LiveSet, Location, OnStaleCrl, Origin, Progress,
        Settling, Source, StalenessLog,
    },
    serve::{
        accept::{Acceptor, Parts},
        proxy::ProxyFrom,
        service,
    },
    standing::AuthorityStanding,
    tls::{
        client_verifier::{LiveClientVerifier, constraints},
        clock::TlsClock,
        connecting,
        identity::{Identity, IdentityError, ServerIdentity, check_root},
        issuers::{ChainError, ChainIssuer, issuers},
        sessions::Sessions,
        verifier::Verifier,
    },
};

/// How often the staleness of CRLs is checked for the log, and expired connections are looked for. Connections are
/// checked more often shortly before one expires.
const STALENESS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a goodbye waits for closed connections to be gone.
const LAST_CONNECTION: Duration = Duration::from_secs(2);
/// How often they are checked.
const LOOK_FOR_CONNECTIONS: Duration = Duration::from_millis(10);

/// The options of a relying party.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the CRLs are fetched.
    pub crls: CrlLocations,
    /// The HTTPS address of the authority, if it has a feed that announces new CRLs at once.
    pub feed: Option<Url>,
    /// Where the last good CRLs are stored. The directory must exist.
    pub crl_directory: PathBuf,
    /// How often each CRL is fetched, with a feed or without.
    pub crl_refresh: Duration,
    /// What happens to clients when a CRL is stale.
    pub on_stale_crl: OnStaleCrl,
    /// The balancers that send PROXY headers.
    pub proxy_from: ProxyFrom,
    /// The files that its identity was loaded from, if it is to renew its own certificate in time.
    pub renew: Option<IdentityFiles>,
    /// The source of the current time.
    pub clock: Clock,
}

impl Options {
    /// The defaults: CRLs from the distribution points, fetched every second and stored in this directory. There is no
    /// feed and no balancer. A stale CRL refuses everybody. The certificate is renewed by another program.
    #[must_use]
    pub fn new(crl_directory: PathBuf) -> Self {
        Self {
            crls: CrlLocations::DistributionPoints,
            feed: None,
            crl_directory,
            crl_refresh: Duration::from_secs(1),
            on_stale_crl: OnStaleCrl::Refuse,
            proxy_from: ProxyFrom::default(),
            renew: None,
            clock: Clock::system(),
        }
    }
}

/// Where CRLs are fetched.
#[derive(Clone, Debug, Default)]
pub enum CrlLocations {
    /// From the distribution points in the certificates, including this relying party's own chain (RFC 5280 section
    /// 4.2.1.13).
    #[default]
    DistributionPoints,
    /// From other locations. Each CRL contains its issuer. There must be one for every authority in the chain. If there
    /// are several of one authority, the revocations of all count, and all of them must be current.
    Given(Vec<Location>),
}

/// A service that authenticates its clients.
#[derive(Debug)]
pub struct RelyingParty {
    live: LiveSet,
    acceptor: Acceptor,
    identity: ServerIdentity,
    metrics: Metrics,
    goodbye: Option<Goodbye>,
    /// Whether the tasks of its [`Upkeep`] were started.
    is_kept: Arc<AtomicBool>,
}

/// The tasks that keep a relying party's CRLs current and its feed open. They are not started yet.
#[derive(Debug)]
#[must_use = "until it is started, no CRL is fetched and no revocation arrives"]
pub struct Upkeep {
    keepers: Vec<Keeper>,
    settling: Vec<Settling>,
    staleness: StalenessLog,
    deadlines: Deadlines,
    feed: Option<FeedClient>,
    renewing: Option<Renewing>,
    is_kept: Arc<AtomicBool>,
}

/// Why a relying party cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum RelyingPartyError {
    /// Its own identity, the root, or an authority between them cannot be used.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// It has no identity of its own as an instance.
    #[error(transparent)]
    Instance(#[from] InstanceError),
}

impl From<IdentityError> for RelyingPartyError {
    fn from(error: IdentityError) -> Self {
        Self::Chain(error.into())
    }
}

impl From<rustls::Error> for RelyingPartyError {
    fn from(error: rustls::Error) -> Self {
        Self::Chain(error.into())
    }
}

impl RelyingParty {
    /// Puts a relying party together. The issuers and their distribution points are those of its own chain. The CRLs
    /// that were in force when it last ran are in force on return, if they are valid.
    pub fn new(
        identity: &Identity,
        root: &CertificateDer<'static>,
        options: Options,
    ) -> Result<(Self, Upkeep), RelyingPartyError> {
        let Options { crls, feed, crl_directory, crl_refresh, on_stale_crl, proxy_from, renew, clock } = options;
        check_root(root, clock.now())?;
        warn_of_unusable(identity, root);
        let issuers = issuers(identity.chain(), root)?;
        let live = LiveSet::new(issuers.iter().map(|issuer| issuer.signs.clone()).collect()).on_stale_crl(on_stale_crl);
        let locations: Vec<_> = match crls {
            // No issuer has two distribution points, so they share one sequence of numbers.
            CrlLocations::DistributionPoints => {
                let point = |issuer: &ChainIssuer| Ok((issuer.distribution_point()?, Source::default()));
                issuers.iter().map(point).collect::<Result<_, ChainError>>()?
            }
            CrlLocations::Given(locations) => {
                // Which issuer's CRL a location has is unknown before it is fetched, and it may revoke certificates
                // that the others do not.
                locations.iter().cloned().map(Barrier::NothingFrom).for_each(|barrier| _ = live.bar(barrier));
                locations.into_iter().enumerate().map(|(place, location)| (location, Source(place))).collect()
            }
        };
        let metrics = Metrics::of(&live);
        let server_identity = ServerIdentity::under(identity, root, &live)?;
        let authority = match feed {
            // Without CRLs, nothing would be announced.
            Some(authority) if !locations.is_empty() => {
                let standing = AuthorityStanding::new(live.clone(), clock.clone());
                let presented = Arc::new(server_identity.clone());
                let judge = Arc::new(standing.clone());
                let tls = connecting::to_authority(presented, Fingerprint::of(root), &clock, judge)?;
                let instance = Instance::begin(&crl_directory, live.clone(), clock.clone())?;
                let (link, end) = revocation::link(&authority, tls);
                Some((link, (end, standing, instance)))
            }
            _ => None,
        };
        let (link, feed) = authority.unzip();
        let (mut keepers, mut settling) = (Vec::new(), Vec::new());
        let mut announced = Vec::new();
        let (recovered, recoveries) = watch::channel(0);
        for (location, source) in locations {
            let (announce, hear) = watch::channel(None);
            let (tell, brought) = watch::channel(Progress::default());
            let (settle, progress) = watch::channel(Progress::default());
            settling.push(Settling::new(live.clone(), brought, settle));
            let files = ListFiles::new(&crl_directory, &location);
            let channels = Channels {
                announced: hear,
                progress: tell,
                recovered: recovered.clone(),
                fetches_failed: metrics.fetches_failed(),
            };
            // An attacker on the network could put another authority's CRL at a distribution point, and its number
            // would be confirmed as this one's.
            let of = issuers.iter().find(|issuer| issuer.distribution_point().is_ok_and(|point| point == location));
            let issuer = of.map(|issuer| issuer.signs.id().clone());
            announced.push(FeedList { url: location.to_string(), issuer, announce, progress, files: files.clone() });
            // The feed announces the CRLs of the chain's authorities only.
            let link = link.as_ref().filter(|_| of.is_some()).map(|link| link.of(location.to_string()));
            let live = of.map_or_else(|| live.clone(), |issuer| live.only(&issuer.signs)).from(source);
            let origin = Origin { location, link };
            keepers.push(Keeper::restore(live, origin, files, crl_refresh, clock.clone(), channels));
        }
        let feed = feed.map(|(end, standing, instance)| {
            let replacements = server_identity.replacements();
            FeedClient::new(end, standing, announced, recoveries, live.clone(), instance, replacements)
                .counted(metrics.clone())
                .presenting(server_identity.clone())
        });

        let mut roots = RootCertStore::empty();
        roots.add(root.clone())?;
        let verifier = Arc::new(LiveClientVerifier::new(roots, live.clone(), clock.clone()).naming_constraints(root));
        let tls = server_config(server_identity.clone(), Arc::clone(&verifier), &live, &clock)?;
        let acceptor = Acceptor::new(Parts {
            tls: Arc::new(tls),
            verifier,
            live: live.clone(),
            proxy_from,
            clock: clock.clone(),
            metrics: metrics.clone(),
        });
        let interval = crl_refresh.min(STALENESS_INTERVAL);
        let staleness = StalenessLog::new(live.clone(), clock.clone(), interval);
        let renewing = renew.map(|files| {
            let renewer = Renewer::new(files, live.clone(), clock.clone());
            let orders = feed.as_ref().map(FeedClient::renewal_orders);
            Renewing::new(renewer, server_identity.clone(), clock.clone(), orders, metrics.clone())
        });
        let deadlines = Deadlines::new(live.clone(), clock, interval);
        let goodbye = feed.as_ref().map(FeedClient::goodbye);
        let is_kept = Arc::<AtomicBool>::default();
        let upkeep = Upkeep { keepers, settling, staleness, deadlines, feed, renewing, is_kept: Arc::clone(&is_kept) };
        Ok((Self { live, acceptor, identity: server_identity, metrics, goodbye, is_kept }, upkeep))
    }

    /// Serves a router to clients whose certificate is not revoked. Every request carries the
    /// [`Peer`](crate::serve::peer::Peer) as an extension. When `shutdown` is cancelled, no new connection is accepted,
    /// requests in flight are finished within [`limits::DRAIN_TIMEOUT`](crate::serve::limits::DRAIN_TIMEOUT), and the
    /// future completes.
    pub fn serve(
        &self,
        listener: TcpListener,
        router: Router,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        service::serve(listener, self.acceptor.clone(), router, shutdown)
    }

    /// The live set.
    #[must_use]
    pub fn live_set(&self) -> &LiveSet {
        &self.live
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The presented identity. Replace it after a renewal.
    #[must_use]
    pub fn identity(&self) -> &ServerIdentity {
        &self.identity
    }

    /// Signs off at the authority, so that no `revoke` waits for this relying party. Call it when all connections have
    /// ended. It admits nobody from then on. If the goodbye cannot be sent, or a connection is still open, the next run
    /// in the same directory replaces this one.
    pub async fn goodbye(&self) {
        // Before the tasks are started, it is not registered.
        let Some(goodbye) = self.goodbye.as_ref().filter(|_| self.is_kept.load(Ordering::Relaxed)) else { return };
        let gone = async {
            while self.live.open_connections() > 0 {
                sleep(LOOK_FOR_CONNECTIONS).await;
            }
        };
        if timeout(LAST_CONNECTION, gone).await.is_err() {
            warn!(connections = self.live.open_connections(), "connections are still open, so no goodbye is sent");
            return;
        }
        goodbye.say().await;
    }
}

impl Upkeep {
    /// Starts to keep the CRLs current and the feed open, and to end expired connections. Dropping the set stops that.
    /// None of the tasks ends by itself.
    pub fn start(self) -> JoinSet<()> {
        let Self { keepers, settling, staleness, deadlines, feed, renewing, is_kept } = self;
        is_kept.store(true, Ordering::Relaxed);
        let mut tasks: JoinSet<_> = keepers.into_iter().map(Keeper::run).collect();
        for settling in settling {
            tasks.spawn(settling.run());
        }
        tasks.spawn(staleness.run());
        tasks.spawn(deadlines.run());
        if let Some(feed) = feed {
            tasks.spawn(feed.run());
        }
        if let Some(renewing) = renewing {
            tasks.spawn(renewing.run());
        }
        tasks
    }
}

/// The TLS side of a relying party: TLS 1.3 only, and a client certificate is required.
fn server_config(
    identity: ServerIdentity,
    verifier: Arc<LiveClientVerifier>,
    live: &LiveSet,
    clock: &Clock,
) -> Result<ServerConfig, RelyingPartyError> {
    let sessions = Sessions::new(live.clone(), &identity);
    let mut config =
        ServerConfig::builder_with_details(crate::tls::provider::provider(), Arc::new(TlsClock::new(clock)))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(Verifier::new(verifier)))
            .with_cert_resolver(Arc::new(identity));
    config.session_storage = Arc::new(sessions);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // For one more connection. A resumed session gets the next one.
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// Logs the constraints of the authorities above this identity that refuse clients.
fn warn_of_unusable(identity: &Identity, root: &CertificateDer<'_>) {
    let above = identity.chain().iter().skip(1).filter(|authority| *authority != root);
    for (authority, is_root) in above.map(|authority| (authority, false)).chain([(root, true)]) {
        for constraint in constraints(authority, is_root) {
            warn!("{constraint}");
        }
    }
}
