//! A relying party put together: from an identity and a root to an acceptor that enforces revocation, and the tasks that keep its CRLs
//! current.
//!
//! It never decides anything itself: each part of this library does its own.

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
        feed::{FeedClient, FeedList, Goodbye},
        instance::{Instance, InstanceError},
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

/// At most so long after its CRL became stale, or current again, a relying party says so in its log. So often it looks for connections
/// whose time is over, and more often when one is near its end.
const STALENESS_INTERVAL: Duration = Duration::from_secs(1);

/// How long connections that were cut off may take to be gone before a goodbye ...
const LAST_CONNECTION: Duration = Duration::from_secs(2);
/// ... and how often they are looked for.
const LOOK_FOR_CONNECTIONS: Duration = Duration::from_millis(10);

/// What may be chosen about a relying party.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the CRLs come from.
    pub crls: CrlLocations,
    /// The authority whose feed says at once when there is a new CRL, if it has one: its HTTPS address.
    pub feed: Option<Url>,
    /// Where the last good CRLs are kept; the directory exists.
    pub crl_directory: PathBuf,
    /// How often each CRL is asked for, with a feed or without.
    pub crl_refresh: Duration,
    /// What happens to clients when a CRL is stale.
    pub on_stale_crl: OnStaleCrl,
    /// Which balancers speak the PROXY protocol.
    pub proxy_from: ProxyFrom,
    /// What time it is.
    pub clock: Clock,
}

impl Options {
    /// What most services want: CRLs from where the certificates say, asked for every second and kept in this directory; no feed and no
    /// balancer; a stale CRL refuses everybody.
    #[must_use]
    pub fn new(crl_directory: PathBuf) -> Self {
        Self {
            crls: CrlLocations::DistributionPoints,
            feed: None,
            crl_directory,
            crl_refresh: Duration::from_secs(1),
            on_stale_crl: OnStaleCrl::Refuse,
            proxy_from: ProxyFrom::default(),
            clock: Clock::system(),
        }
    }
}

/// Where CRLs come from.
#[derive(Clone, Debug, Default)]
pub enum CrlLocations {
    /// From where the certificates say, this relying party's own chain included (RFC 5280 section 4.2.1.13).
    #[default]
    DistributionPoints,
    /// From elsewhere; each CRL says itself whose it is. There has to be one for every authority in the chain. Where there are several of
    /// one authority, what any of them revokes is revoked, and all of them have to be current.
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

/// The tasks that keep a relying party's CRLs current and its feed open, not started yet.
#[derive(Debug)]
#[must_use = "until it is started, no CRL is fetched and no revocation arrives"]
pub struct Upkeep {
    keepers: Vec<Keeper>,
    settling: Vec<Settling>,
    staleness: StalenessLog,
    deadlines: Deadlines,
    feed: Option<FeedClient>,
    is_kept: Arc<AtomicBool>,
}

/// Why a relying party cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum RelyingPartyError {
    /// Its own identity, the root, or an authority between them is not usable.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// It cannot be told from other runs of itself.
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
    /// Puts a relying party together. Its own chain says which issuers there are and where their CRLs lie. The CRLs that were in force when
    /// it last ran are in force again on return, if they can be believed.
    pub fn new(
        identity: &Identity,
        root: &CertificateDer<'static>,
        options: Options,
    ) -> Result<(Self, Upkeep), RelyingPartyError> {
        let Options { crls, feed, crl_directory, crl_refresh, on_stale_crl, proxy_from, clock } = options;
        check_root(root, clock.now())?;
        warn_of_unusable(identity, root);
        let issuers = issuers(identity.chain(), root)?;
        let live = LiveSet::new(issuers.iter().map(|issuer| issuer.signs.clone()).collect()).on_stale_crl(on_stale_crl);
        let locations: Vec<_> = match crls {
            // No issuer has two, so that they need no numbers of their own.
            CrlLocations::DistributionPoints => {
                let point = |issuer: &ChainIssuer| Ok((issuer.distribution_point()?, Source::default()));
                issuers.iter().map(point).collect::<Result<_, ChainError>>()?
            }
            CrlLocations::Given(locations) => {
                // Whose list a place has is not known before it comes, and it may revoke somebody whom the others do not.
                locations.iter().cloned().map(Barrier::NothingFrom).for_each(|barrier| _ = live.bar(barrier));
                locations.into_iter().enumerate().map(|(place, location)| (location, Source(place))).collect()
            }
        };
        let metrics = Metrics::of(&live);
        let server_identity = ServerIdentity::under(identity, root, &live)?;
        let authority = match feed {
            // Without lists there is nothing to hear of.
            Some(authority) if !locations.is_empty() => {
                let standing = AuthorityStanding::new(live.clone(), clock.clone());
                let tls =
                    connecting::to_authority(identity, Fingerprint::of(root), &clock, Arc::new(standing.clone()))?;
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
            // Who is on the way to a distribution point could put another authority's list there, and its number would be confirmed
            // as this one's.
            let of = issuers.iter().find(|issuer| issuer.distribution_point().is_ok_and(|point| point == location));
            let issuer = of.map(|issuer| issuer.signs.id().clone());
            announced.push(FeedList { url: location.to_string(), issuer, announce, progress, files: files.clone() });
            // The feed speaks of the lists of the authorities above; others are not its to vouch for.
            let link = link.as_ref().filter(|_| of.is_some()).map(|link| link.of(location.to_string()));
            let live = of.map_or_else(|| live.clone(), |issuer| live.only(&issuer.signs)).from(source);
            let origin = Origin { location, link };
            keepers.push(Keeper::restore(live, origin, files, crl_refresh, clock.clone(), channels));
        }
        let feed = feed.map(|(end, standing, instance)| {
            FeedClient::new(end, standing, announced, recoveries, live.clone(), instance).counted(metrics.clone())
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
        let deadlines = Deadlines::new(live.clone(), clock, interval);
        let goodbye = feed.as_ref().map(FeedClient::goodbye);
        let is_kept = Arc::<AtomicBool>::default();
        let upkeep = Upkeep { keepers, settling, staleness, deadlines, feed, is_kept: Arc::clone(&is_kept) };
        Ok((Self { live, acceptor, identity: server_identity, metrics, goodbye, is_kept }, upkeep))
    }

    /// Serves a router to clients whose certificate is not revoked; every request carries the
    /// [`Peer`](crate::serve::peer::Peer) as an extension. When `shutdown` is cancelled, no new connection is accepted, requests in
    /// flight are finished within [`limits::DRAIN_TIMEOUT`](crate::serve::limits::DRAIN_TIMEOUT), and it returns.
    pub fn serve(
        &self,
        listener: TcpListener,
        router: Router,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        service::serve(listener, self.acceptor.clone(), router, shutdown)
    }

    /// What is revoked at this moment.
    #[must_use]
    pub fn live_set(&self) -> &LiveSet {
        &self.live
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The identity that is presented, to be replaced when it was renewed.
    #[must_use]
    pub fn identity(&self) -> &ServerIdentity {
        &self.identity
    }

    /// Tells the authority that this relying party is over, so that no `revoke` waits for it: to be called when everything that it serves
    /// has ended. It admits nobody from then on. Where that cannot be said, or a connection is still there, the next run in the same
    /// directory takes its place.
    pub async fn goodbye(&self) {
        // Before the tasks are started, nobody has heard of it.
        let Some(goodbye) = self.goodbye.as_ref().filter(|_| self.is_kept.load(Ordering::Relaxed)) else { return };
        let gone = async {
            while self.live.open_connections() > 0 {
                sleep(LOOK_FOR_CONNECTIONS).await;
            }
        };
        if timeout(LAST_CONNECTION, gone).await.is_err() {
            warn!(
                connections = self.live.open_connections(),
                "connections are left, so the authority is not told goodbye"
            );
            return;
        }
        goodbye.say().await;
    }
}

impl Upkeep {
    /// Starts to keep the CRLs current and the feed open, and to end the connections of those whose time is over. Dropping the set ends
    /// that. None of the tasks ends by itself.
    pub fn start(self) -> JoinSet<()> {
        let Self { keepers, settling, staleness, deadlines, feed, is_kept } = self;
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
        tasks
    }
}

/// The TLS side of a relying party: TLS 1.3 only, a client certificate is required.
fn server_config(
    identity: ServerIdentity,
    verifier: Arc<LiveClientVerifier>,
    live: &LiveSet,
    clock: &Clock,
) -> Result<ServerConfig, RelyingPartyError> {
    let mut config =
        ServerConfig::builder_with_details(crate::tls::provider::provider(), Arc::new(TlsClock::new(clock)))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(Verifier::new(verifier)))
            .with_cert_resolver(Arc::new(identity));
    config.session_storage = Arc::new(Sessions::new(live.clone()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // For one more connection; a session that is resumed gets the next.
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// Says what keeps clients beneath the authorities above this identity from being let in.
fn warn_of_unusable(identity: &Identity, root: &CertificateDer<'_>) {
    let above = identity.chain().iter().skip(1).filter(|authority| *authority != root);
    for (authority, is_root) in above.map(|authority| (authority, false)).chain([(root, true)]) {
        for constraint in constraints(authority, is_root) {
            warn!("{constraint}");
        }
    }
}
