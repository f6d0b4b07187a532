//! A service in two forms: guarded, out of the public parts of `mtls` like `api-server`; and unguarded, the same answer behind the
//! same TLS and HTTP settings and nobody who asks about revocation, to tell what the asking costs.
//!
//! The unguarded one is for measuring only: it lets in whoever has a certificate of the authority, revoked or not.

use std::{io::Write as _, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use clap::{Args, ValueEnum};
use edge::clock::Clock;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use mtls::{
    authority::{Enrolled, IdentityFiles, TokenSources, enroll},
    relying_party::{CrlLocations, Options, RelyingParty},
    revocation::Location,
    serve::limits,
};
use pki::{csr::Proposal, profile::Profile};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier, sign::SingleCertAndKey, version::TLS13};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::answer::ANSWER;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    kind: Kind,
    #[arg(long)]
    host: Ipv4Addr,
    #[arg(long)]
    token_file: PathBuf,
    /// CRL files to follow, in place of the authority's distribution points
    #[arg(long)]
    crl: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Guarded,
    Unguarded,
}

/// Prints its address when it is ready; and, if it follows files, `CRL number N` whenever another list of the first issuer is in force.
pub(super) async fn play(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { kind, host, token_file, crl } = arguments;
    let token = TokenSources { file: Some(token_file), ..TokenSources::default() }.find()?;
    let clock = Clock::system();
    let name = if kind == Kind::Guarded { "guarded" } else { "unguarded" };
    let directory = PathBuf::from(name);
    let files = IdentityFiles::new(&directory, Profile::Server);
    let hosts = vec![host.to_string().parse()?];
    let proposal = Proposal { common_name: name.parse()?, organization: None, hosts };
    let enrolled = enroll(&files, &token, Profile::Server, &proposal, &clock).await?;
    let listener = TcpListener::bind((host, 0)).await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/hello", get(async || ANSWER)).route("/healthy", get(async || "healthy"));
    match kind {
        Kind::Guarded => {
            let Enrolled { identity, root, authority } = enrolled;
            let follows_files = !crl.is_empty();
            let options = if follows_files {
                let crls = CrlLocations::Given(crl.into_iter().map(Location::File).collect());
                Options { crls, crl_refresh: Duration::from_millis(100), ..Options::new(directory) }
            } else {
                Options { feed: authority, ..Options::new(directory) }
            };
            let (party, upkeep) = RelyingParty::new(&identity, &root, options)?;
            let _keepers = upkeep.start();
            let live = party.live_set().clone();
            while live.ready(clock.now()).is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            writeln!(std::io::stdout(), "{address}")?;
            tokio::select! {
                () = party.serve(listener, router, CancellationToken::new()) => Ok(()),
                never = tell_of_lists(&live), if follows_files => never,
            }
        }
        Kind::Unguarded => {
            writeln!(std::io::stdout(), "{address}")?;
            serve_unguarded(listener, router, &enrolled).await
        }
    }
}

async fn tell_of_lists(live: &mtls::revocation::LiveSet) -> anyhow::Result<()> {
    let mut told = None;
    loop {
        let number = live.freshness().first().and_then(|issuer| Some(issuer.list?.number));
        if number != told {
            told = number;
            writeln!(std::io::stdout(), "CRL number {}", number.map_or(0, pki::crl::CrlNumber::get))?;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What `mtls::serve` does, with the same bounds, less everything that has to do with revocation.
async fn serve_unguarded(listener: TcpListener, router: Router, enrolled: &Enrolled) -> anyhow::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(enrolled.root.clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), mtls::tls::provider()).build()?;
    let mut tls = ServerConfig::builder_with_provider(mtls::tls::provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(enrolled.identity.certified_key()?)));
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(tls));
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits::HEADER_TIMEOUT).max_buf_size(16 * 1024);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let http = Arc::new(http);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve_connection(stream, tls.clone(), Arc::clone(&http), router.clone()));
    }
}

async fn serve_connection(stream: TcpStream, tls: TlsAcceptor, http: Arc<Builder<TokioExecutor>>, router: Router) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(limits::HANDSHAKE_TIMEOUT, tls.accept(stream)).await else { return };
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}
