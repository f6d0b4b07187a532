//! A service that relies on an authority: the acceptor of a [`RelyingParty`] in a real server.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    http::Version,
    routing::get,
};
use edge::clock::Clock;
use mtls::{
    relying_party::{CrlLocations, Options, RelyingParty, Upkeep},
    revocation::{LiveSet, OnStaleCrl},
    serve::{Peer, proxy::ProxyFrom},
    tls::Identity,
};
use pki::certificate::{CertificateInfo, Fingerprint};
use prometheus_client::{encoding::text, registry::Registry};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::{
    sync::Notify,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{Authority, start};

/// The environment of a service. By default no address may send the PROXY protocol, and no CRL is fetched.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) crl_directory: Arc<TempDir>,
    pub(crate) on_stale_crl: OnStaleCrl,
    pub(crate) proxy_from: ProxyFrom,
}

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) relying_party: RelyingParty,
    upkeep: Option<Upkeep>,
    pub(crate) clock: Clock,
    registry: Registry,
    held: Arc<Notify>,
    pub(crate) gate: Arc<Gate>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
    // Removed when the service is dropped.
    _crl_directory: Arc<TempDir>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            clock: Clock::manual(start()),
            crl_directory: Arc::new(tempfile::tempdir().unwrap()),
            on_stale_crl: OnStaleCrl::default(),
            proxy_from: ProxyFrom::default(),
        }
    }
}

impl Surroundings {
    pub(crate) fn options(&self) -> Options {
        Options {
            crls: CrlLocations::DistributionPoints,
            feed: None,
            crl_directory: self.crl_directory.path().to_owned(),
            crl_refresh: Duration::from_millis(10),
            on_stale_crl: self.on_stale_crl,
            proxy_from: self.proxy_from.clone(),
            renew: None,
            clock: self.clock.clone(),
        }
    }
}

impl Service {
    /// A service with an empty CRL of each level in force.
    pub(crate) async fn start(authority: &Authority) -> Self {
        let service = Self::start_in(authority, Surroundings::default()).await;
        service.install(&authority.root_crl(1, &[]));
        service.install(&authority.crl(1, &[]));
        service
    }

    /// A service without any CRL except those in its directory.
    pub(crate) async fn start_in(authority: &Authority, surroundings: Surroundings) -> Self {
        let identity = authority.server("service0").identity();
        let options = surroundings.options();
        Self::with(&identity, authority.root.certificate(), options, surroundings).await
    }

    /// A service with these options.
    pub(crate) async fn with(
        identity: &Identity,
        root: &CertificateDer<'static>,
        options: Options,
        surroundings: Surroundings,
    ) -> Self {
        let (relying_party, upkeep) = RelyingParty::new(identity, root, options).unwrap();
        let mut registry = Registry::default();
        relying_party.metrics().register(&mut registry);
        let shutdown = CancellationToken::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (held, gate) = (Arc::new(Notify::new()), Arc::<Gate>::default());
        let routes = Router::new().route("/", get(who)).route("/endless", get(endless));
        let routes = routes.route("/held", get(until_released)).layer(Extension(Arc::clone(&held)));
        let routes = routes.route("/blocks", get(blocks)).layer(Extension(Arc::clone(&gate)));
        let routes =
            routes.route("/large", get(async || vec![b'x'; LARGE])).route("/medium", get(async || vec![b'x'; 65536]));
        let serving = tokio::spawn(relying_party.serve(listener, routes, shutdown.clone()));
        let Surroundings { clock, crl_directory, .. } = surroundings;
        let upkeep = Some(upkeep);
        Self {
            address,
            relying_party,
            upkeep,
            clock,
            registry,
            held,
            gate,
            shutdown,
            serving,
            _crl_directory: crl_directory,
        }
    }

    /// Starts the tasks that keep its CRLs current. Call it once.
    pub(crate) fn keep_current(&mut self) -> JoinSet<()> {
        self.upkeep.take().expect("it is started once").start()
    }

    /// Requests a shutdown, without waiting for it.
    pub(crate) fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Lets one answer of `/held` end.
    pub(crate) fn release(&self) {
        self.held.notify_one();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.serving.is_finished()
    }

    pub(crate) fn live(&self) -> &LiveSet {
        self.relying_party.live_set()
    }

    pub(crate) fn install(&self, crl: &[u8]) {
        self.live().install(crl, self.clock.now()).unwrap();
    }

    /// A counter or gauge, by its name and labels in the Prometheus text format.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.registry).unwrap();
        let value = encoded.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    pub(crate) fn handshakes_refused(&self, reason: &str) -> u64 {
        self.metric(&format!("tls_handshakes_refused_total{{reason=\"{reason}\"}}"))
    }

    pub(crate) fn requests_refused(&self, reason: &str) -> u64 {
        self.metric(&format!("requests_refused_total{{reason=\"{reason}\"}}"))
    }

    /// Handshakes that admitted a client: `Full` or `Resumed`.
    pub(crate) fn accepted(&self, kind: &str) -> u64 {
        self.metric(&format!("tls_handshakes_total{{kind=\"{kind}\"}}"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shutdown.cancel();
        // A blocked thread would prevent a failing test from ending.
        self.gate.open();
    }
}

/// Stores a complete CRL as a relying party does after it was in force: the CRL of this issuer from this distribution
/// point, and its number.
pub(crate) fn keep_crl(directory: &Path, url: &str, issuer: &CertificateInfo, number: i64, crl: &[u8]) {
    let name = Fingerprint::of(url.as_bytes()).short();
    let key: Vec<_> = issuer.spki_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let settled = format!("{number} {}", key.concat());
    let check = Fingerprint::of(settled.as_bytes()).short();
    fs::write(directory.join(format!("{name}.crl")), crl).unwrap();
    fs::write(directory.join(format!("{name}.settled")), format!("{settled} {check}\n")).unwrap();
}

/// The length of an answer of known length.
pub(crate) const LARGE: usize = 32 * 1024 * 1024;

/// Blocks threads until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    /// How many threads it has blocked.
    pub(crate) fn came(&self) -> usize {
        self.state.lock().unwrap().0
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        drop(self.changed.wait_while(state, |(_, is_open)| !*is_open).unwrap());
    }
}

/// An answer that blocks its thread, which a handler should not do.
async fn blocks(Extension(gate): Extension<Arc<Gate>>) -> &'static str {
    gate.wait();
    "at last"
}

/// The protocol, the client's name and its address: `HTTP/2.0 client_1 127.0.0.1:4711`.
async fn who(version: Version, Extension(peer): Extension<Peer>) -> String {
    format!("{version:?} {} {}", peer.certificate().display_name(), peer.address())
}

/// An answer that never ends by itself.
async fn endless() -> Body {
    Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>())
}

/// An answer that begins at once, and ends when it is released.
async fn until_released(Extension(held): Extension<Arc<Notify>>) -> Body {
    Body::from_stream(futures_util::stream::once(async move {
        held.notified().await;
        Ok::<_, std::io::Error>(Bytes::from_static(b"at last"))
    }))
}

/// A listener on a free port of this machine.
pub(crate) fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}
