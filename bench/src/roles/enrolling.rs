//! Many clients that enroll at once, each over a connection that it keeps or over a new one each time: the load on an authority, out
//! of a process of its own.
//!
//! Keys and requests are made before anything is timed. It never counts what was not answered with a certificate: that is an error.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use edge::{clock::Clock, random};
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use mtls::{authority::TokenSources, tls::pinned};
use pki::{
    csr::Proposal,
    key::KeyPair,
    pem,
    profile::Profile,
    token::Token,
    wire::{ENROLL_PATH, EnrollRequest},
};
use rustls::{ClientConfig, RootCertStore, client::Resumption, version::TLS13};
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::TlsConnector;

use crate::usage;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Enrolls with this token at the authority that it names
    #[arg(long, required_unless_present = "cfssl")]
    token_file: Option<PathBuf>,
    /// Asks a cfssl at this address instead
    #[arg(long, requires = "root")]
    cfssl: Option<SocketAddr>,
    /// The root of cfssl's server certificate
    #[arg(long)]
    root: Option<PathBuf>,
    /// How many enroll at the same time
    #[arg(long)]
    clients: usize,
    /// How many certificates are enrolled altogether
    #[arg(long)]
    count: usize,
    /// A new connection for each
    #[arg(long)]
    fresh: bool,
    /// The authority's process
    #[arg(long)]
    server: u32,
}

/// What an answer with a certificate has in it.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// What a run came to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Enrolled {
    pub(crate) per_second: f64,
    /// The time to an answer, the connection's included where each has its own, in seconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Of the authority, in seconds, for each certificate.
    pub(crate) server_time: f64,
    /// Of the clients.
    pub(crate) client_time: f64,
}

/// Enrolls, and says what that came to as one line of JSON.
pub(super) async fn play(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { token_file, cfssl, root, clients, count, fresh, server } = arguments;
    let door = Arc::new(match (cfssl, root) {
        (Some(address), Some(root)) => Door::of_cfssl(address, &root)?,
        _ => Door::of_authority(&TokenSources { file: token_file, ..TokenSources::default() }.find()?)?,
    });
    let bodies = Arc::new((0..count).map(|_| door.body()).collect::<anyhow::Result<Vec<_>>>()?);
    let next = Arc::new(AtomicUsize::new(0));
    let mut kept = Vec::new();
    for _ in 0..clients {
        kept.push(if fresh { None } else { Some(door.open().await?) });
    }
    let own = std::process::id();
    let (began, before) = (Instant::now(), [usage::processor_time(server)?, usage::processor_time(own)?]);
    let mut tasks = JoinSet::new();
    for kept in kept {
        tasks.spawn(enroll_some(Arc::clone(&door), kept, Arc::clone(&bodies), Arc::clone(&next)));
    }
    let mut waits = Vec::new();
    while let Some(done) = tasks.join_next().await {
        waits.extend(done??);
    }
    let took = began.elapsed();
    let after = [usage::processor_time(server)?, usage::processor_time(own)?];
    waits.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "there are some thousand")]
    let count = waits.len() as f64;
    let each = |index: usize| after[index].saturating_sub(before[index]).as_secs_f64() / count;
    let at = |percent: usize| waits[(waits.len() * percent / 100).min(waits.len() - 1)].as_secs_f64();
    let enrolled = Enrolled {
        per_second: count / took.as_secs_f64(),
        p50: at(50),
        p99: at(99),
        server_time: each(0),
        client_time: each(1),
    };
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string(&enrolled)?)?)
}

/// One client: enrolls until nothing is left, and says how long it waited each time.
async fn enroll_some(
    door: Arc<Door>,
    mut kept: Option<Connection>,
    bodies: Arc<Vec<Bytes>>,
    next: Arc<AtomicUsize>,
) -> anyhow::Result<Vec<Duration>> {
    let mut waits = Vec::new();
    while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
        let began = Instant::now();
        match &mut kept {
            Some(connection) => door.enroll(connection, body).await?,
            None => door.enroll(&mut door.open().await?, body).await?,
        }
        waits.push(began.elapsed());
    }
    Ok(waits)
}

type Connection = SendRequest<Full<Bytes>>;

/// Where the authority listens, and how it is asked.
struct Door {
    address: SocketAddr,
    tls: TlsConnector,
    path: &'static str,
    /// None: nobody is asked for any.
    bearer: Option<String>,
}

impl Door {
    fn of_authority(token: &Token) -> anyhow::Result<Self> {
        let address = token.url.socket_addrs(|| None)?.first().copied().context("the token names no address")?;
        let bearer = format!("Bearer {}", *token.secret.to_bearer());
        Ok(Self {
            address,
            tls: connector(pinned(token.root, &Clock::system())?),
            path: ENROLL_PATH,
            bearer: Some(bearer),
        })
    }

    fn of_cfssl(address: SocketAddr, root: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for root in pem::read_chain(fs::read(root)?)? {
            roots.add(root)?;
        }
        let tls = ClientConfig::builder_with_provider(mtls::tls::provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { address, tls: connector(tls), path: "/api/v1/cfssl/sign", bearer: None })
    }

    async fn open(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::IpAddress(self.address.ip().into()), stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn enroll(&self, connection: &mut Connection, body: &Bytes) -> anyhow::Result<()> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.path)
            .header(header::HOST, "bench")
            .header(header::CONTENT_TYPE, "application/json");
        let request = match &self.bearer {
            Some(bearer) => request.header(header::AUTHORIZATION, bearer),
            None => request,
        };
        let request = request.body(Full::from(body.clone()))?;
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
        // Both answer in JSON; a thorough reading of it would be the clients' time only.
        ensure!(
            body.windows(BEGIN.len()).any(|window| window == BEGIN),
            "no certificate: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(())
    }

    /// A request with a key and a name of its own.
    fn body(&self) -> anyhow::Result<Bytes> {
        let name = format!("{:016x}", u64::from_ne_bytes(random::bytes()));
        let proposal = Proposal { common_name: format!("host-{name}").parse()?, organization: None, hosts: Vec::new() };
        let csr = pem::csr(&proposal.sign(&KeyPair::generate()?)?);
        let body = match self.bearer {
            Some(_) => serde_json::to_vec(&EnrollRequest { profile: Profile::Client, csr })?,
            None => serde_json::to_vec(&serde_json::json!({ "certificate_request": csr }))?,
        };
        Ok(body.into())
    }
}

fn connector(mut tls: ClientConfig) -> TlsConnector {
    // Who comes for the first time has no session to resume.
    tls.resumption = Resumption::disabled();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(tls))
}
