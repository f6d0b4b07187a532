//! What attackers need: connections that follow no rules but those of the wire.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use e2e::{CONTAINER_MEMORY, Client, Fleet, MemoryLimit};
use edge::clock::Clock;
use h2::client::SendRequest;
use hyper::body::Bytes;
use mtls::tls::Identity;
use pki::certificate::Fingerprint;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Runtime,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long an attacker waits for anything: a victim that is slow is no reason to stop.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads can be started")
}

pub(crate) fn address(fleet: &Fleet, port: u16) -> SocketAddr {
    (fleet.address(), port).into()
}

/// TLS without a certificate.
pub(crate) fn stranger(fleet: &Fleet) -> Arc<ClientConfig> {
    let root = std::fs::read_to_string(fleet.ca_directory().join("root.crt")).expect("the root is public");
    let root = pki::pem::read_chain(&root).expect("it is PEM").swap_remove(0);
    over_http2(mtls::tls::pinned(Fingerprint::of(&root), &Clock::system()).expect("it is a root"))
}

/// TLS as whoever has these files.
pub(crate) fn known(certificate: &Path, key: &Path, root: &Path) -> Arc<ClientConfig> {
    let identity = Identity::load(certificate, key).expect("it was enrolled");
    let root = pki::pem::read_chain(std::fs::read_to_string(root).expect("it is there")).expect("it is PEM");
    over_http2(mtls::tls::mutual_tls(&identity, &root[0], &Clock::system()).expect("it is an identity"))
}

pub(crate) fn as_client(client: &Client) -> Arc<ClientConfig> {
    known(&client.file("client.crt"), &client.file("client.key"), &client.file("ca.crt"))
}

fn over_http2(mut tls: ClientConfig) -> Arc<ClientConfig> {
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(tls)
}

pub(crate) async fn tcp(address: SocketAddr) -> Option<TcpStream> {
    timeout(PATIENCE, TcpStream::connect(address)).await.ok()?.ok()
}

pub(crate) async fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> Option<TlsStream<TcpStream>> {
    let stream = tcp(address).await?;
    let name = ServerName::from(address.ip());
    timeout(PATIENCE, TlsConnector::from(Arc::clone(config)).connect(name, stream)).await.ok()?.ok()
}

/// HTTP/2 whose streams take so many bytes of an answer. The task ends with the connection.
pub(crate) async fn http2<S>(stream: S, window: u32) -> Option<(SendRequest<Bytes>, tokio::task::JoinHandle<()>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).max_concurrent_reset_streams(10_000).max_send_buffer_size(1024 * 1024);
    let (sender, connection) = timeout(PATIENCE, builder.handshake(stream)).await.ok()?.ok()?;
    let driver = tokio::spawn(async move {
        let _ = connection.await;
    });
    Some((sender, driver))
}

/// Says what an attack took of the memory, and that nobody was killed for it.
pub(crate) fn judge(attack: &str, program: &str, limit: &MemoryLimit) {
    let (peak, kills) = (limit.peak(), limit.kills());
    #[expect(clippy::print_stderr, reason = "it is what these tests measure")]
    {
        let mib = |bytes: u64| bytes / 1024 / 1024;
        eprintln!("MEMORY {attack}: {program} peak {} MiB of {} MiB", mib(peak), mib(CONTAINER_MEMORY));
    }
    assert_eq!(kills, 0, "{program} was killed for its memory: {attack}");
}
