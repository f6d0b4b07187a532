//! A relying party put together: from an identity and a root to an acceptor that enforces revocation, with the tasks
//! that keep its CRLs current.
//!
//! Everything it does is done with the other public items of this library.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use pki::{
    certificate::{CertificateError, CertificateInfo, Fingerprint, VerifiedId},
    crl::CrlIssuer,
};
use rustls::{RootCertStore, ServerConfig, version::TLS13};
use rustls_pki_types::CertificateDer;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    acceptor::{Acceptor, Parts},
    client,
    clock::Clock,
    feed::{self, Announced, Feed},
    identity::{Identity, IdentityError, ServerIdentity},
    metrics::Metrics,
    proxy::ProxyFrom,
    revocation::{Channels, Keeper, ListFiles, LiveSet, Location, OnStaleCrl, Origin, Progress, Source, StalenessLog},
    server,
    sessions::Sessions,
    verifier::LiveClientVerifier,
};

/// At most so long after its CRL became stale, or current again, a relying party says so in its log.
const STALENESS_INTERVAL: Duration = Duration::from_secs(1);

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
    keepers: Vec<Keeper>,
    staleness: Option<StalenessLog>,
    feed: Option<Feed>,
}

/// Why a relying party cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum RelyingPartyError {
    /// Its own identity is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A certificate above it cannot be read.
    #[error("a certificate of the chain cannot be read: {0}")]
    Certificate(#[from] CertificateError),
    /// A certificate of the chain does not say where its CRL is.
    #[error("the certificate of {0} names no http:// CRL distribution point, so its revocation could not be noticed")]
    NoCrlLocation(String),
    /// A certificate above it may not sign CRLs.
    #[error("{0} may not sign CRLs, so no revocation of its certificates could be believed")]
    NotACrlIssuer(String),
    /// The certificate that issued another is neither in the chain nor the root.
    #[error("the certificate of {0} is missing from the chain")]
    MissingIssuer(String),
    /// The TLS library does not take the root.
    #[error("the root certificate cannot be used: {0}")]
    Root(#[from] rustls::Error),
}

impl RelyingParty {
    /// Puts a relying party together. Its own chain says which issuers there are and where their CRLs lie. The CRLs that were in force when
    /// it last ran are in force again on return, if they can be believed.
    pub fn new(
        identity: &Identity,
        root: &CertificateDer<'static>,
        options: Options,
    ) -> Result<Self, RelyingPartyError> {
        let Options { crls, feed, crl_directory, crl_refresh, on_stale_crl, proxy_from, clock } = options;
        let issuers = issuers(identity, root)?;
        let live = LiveSet::new(issuers.iter().map(|issuer| issuer.signs.clone()).collect()).on_stale_crl(on_stale_crl);
        let locations: Vec<_> = match crls {
            // No issuer has two, so that they need no numbers of their own.
            CrlLocations::DistributionPoints => {
                let point = |issuer: &Issuer| Ok((issuer.distribution_point()?, Source::default()));
                issuers.iter().map(point).collect::<Result<_, RelyingPartyError>>()?
            }
            CrlLocations::Given(locations) => {
                locations.into_iter().enumerate().map(|(place, location)| (location, Source(place))).collect()
            }
        };
        let authority = match feed {
            // Without lists there is nothing to hear of.
            Some(authority) if !locations.is_empty() => {
                Some(feed::link(&authority, client::to_authority(identity, Fingerprint::of(root), &clock)?))
            }
            _ => None,
        };
        let (link, feed) = authority.unzip();
        let mut keepers = Vec::new();
        let mut announced = Vec::new();
        let (recovered, recoveries) = watch::channel(0);
        for (location, source) in locations {
            let (announce, hear) = watch::channel(None);
            let (tell, progress) = watch::channel(Progress::default());
            let name = Fingerprint::of(location.to_string().as_bytes()).short();
            let files = ListFiles {
                complete: crl_directory.join(format!("{name}.crl")),
                delta: crl_directory.join(format!("{name}.delta.crl")),
            };
            announced.push(Announced { url: location.to_string(), announce, progress, files: files.clone() });
            let channels = Channels { announced: hear, progress: tell, recovered: recovered.clone() };
            // Who is on the way to a distribution point could put another authority's list there, and its number would be confirmed
            // as this one's.
            let of = issuers.iter().find(|issuer| issuer.distribution_point().is_ok_and(|point| point == location));
            // The feed speaks of the lists of the authorities above; others are not its to vouch for.
            let link = link.as_ref().filter(|_| of.is_some()).map(|link| link.of(location.to_string()));
            let live = of.map_or_else(|| live.clone(), |issuer| live.only(&issuer.signs)).from(source);
            let origin = Origin { location, link };
            keepers.push(Keeper::restore(live, origin, files, crl_refresh, clock.clone(), channels));
        }
        let feed = feed.map(|end| Feed::new(end, announced, recoveries, live.clone()));

        let server_identity = ServerIdentity::new(identity)?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone())?;
        let verifier = Arc::new(LiveClientVerifier::new(roots, live.clone(), clock.clone()));
        let tls = server_config(server_identity.clone(), Arc::clone(&verifier), &live, &clock)?;
        let metrics = Metrics::default();
        let acceptor = Acceptor::new(Parts {
            tls: Arc::new(tls),
            verifier,
            live: live.clone(),
            proxy_from,
            clock: clock.clone(),
            metrics: metrics.clone(),
        });
        let staleness = Some(StalenessLog::new(live.clone(), clock, crl_refresh.min(STALENESS_INTERVAL)));
        Ok(Self { live, acceptor, identity: server_identity, metrics, keepers, staleness, feed })
    }

    /// Serves a router to clients whose certificate is not revoked; every request carries the
    /// [`Peer`](crate::peer::Peer) as an extension. When `shutdown` is cancelled, no new connection is accepted, requests in
    /// flight are finished within [`limits::DRAIN_TIMEOUT`](crate::limits::DRAIN_TIMEOUT), and it returns.
    pub fn serve(
        &self,
        listener: TcpListener,
        router: Router,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        server::serve(listener, self.acceptor.clone(), router, shutdown)
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

    /// Starts to keep the CRLs current, and the feed open; dropping the set ends that. None of the tasks ends by itself.
    pub fn keep_current(&mut self) -> JoinSet<()> {
        let mut tasks: JoinSet<_> = self.keepers.drain(..).map(Keeper::run).collect();
        if let Some(staleness) = self.staleness.take() {
            tasks.spawn(staleness.run());
        }
        if let Some(feed) = self.feed.take() {
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
    let mut config = ServerConfig::builder_with_details(crate::provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(identity));
    config.session_storage = Arc::new(Sessions::new(live.clone()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // For one more connection; a session that is resumed gets the next.
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// An authority in the chain of a relying party.
struct Issuer {
    signs: CrlIssuer,
    /// The certificate that it signed, which is who says where its CRL lies.
    subject: CertificateInfo,
}

impl Issuer {
    fn new(issuer: &CertificateInfo, subject: CertificateInfo) -> Result<Self, RelyingPartyError> {
        let signs = CrlIssuer::from_certificate(issuer)
            .ok_or_else(|| RelyingPartyError::NotACrlIssuer(issuer.display_name()))?;
        Ok(Self { signs, subject })
    }

    fn distribution_point(&self) -> Result<Location, RelyingPartyError> {
        let uri = self.subject.crl_urls.iter().find_map(|url| url.parse().ok());
        uri.map(Location::Url).ok_or_else(|| RelyingPartyError::NoCrlLocation(self.subject.display_name()))
    }
}

impl Issuer {
    /// The certificate below it on the relying party's own path.
    #[expect(dead_code, reason = "for the standing of the relying party's own certificate")]
    fn subject_id(&self) -> VerifiedId {
        VerifiedId { issuer: self.signs.id().clone(), serial: self.subject.id.serial }
    }
}

/// The authorities on the path from this identity to the root, the nearest first. Its chain may have other certificates in it, such as a
/// cross-certificate.
fn issuers(identity: &Identity, root: &CertificateDer<'static>) -> Result<Vec<Issuer>, RelyingPartyError> {
    let chain: Vec<_> = identity.chain().iter().filter(|certificate| *certificate != root).collect();
    let Some((own, above)) = chain.split_first() else { return Ok(Vec::new()) };
    let missing = CertificateInfo::from_der(own)?.id.issuer;
    let path = path(own, above, root)?.ok_or_else(|| RelyingPartyError::MissingIssuer(missing.to_string()))?;
    let authorities = path.iter().skip(1);
    path.iter().zip(authorities).map(|(subject, issuer)| Issuer::new(issuer, subject.clone())).collect()
}

/// A certificate and those above it up to the root, each of which has signed the one before it; none if they do not lead there.
fn path(
    certificate: &CertificateDer<'_>,
    above: &[&CertificateDer<'_>],
    root: &CertificateDer<'_>,
) -> Result<Option<Vec<CertificateInfo>>, CertificateError> {
    let info = CertificateInfo::from_der(certificate)?;
    let root_info = CertificateInfo::from_der(root)?;
    if root_info.has_signed(certificate) {
        return Ok(Some(vec![info, root_info]));
    }
    for (place, issuer) in above.iter().enumerate() {
        let others = [&above[..place], &above[place + 1..]].concat();
        if CertificateInfo::from_der(issuer)?.has_signed(certificate)
            && let Some(path) = path(issuer, &others, root)?
        {
            return Ok(Some([vec![info], path].concat()));
        }
    }
    Ok(None)
}
