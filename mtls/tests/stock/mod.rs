//! Sends broken HTTP/2 and TLS to our service and to one made of stock rustls and hyper. Both must react alike, because
//! our changes to connections must not violate the protocols. The cases follow the sections of RFC 9113 and RFC 8446.

mod http2;
mod tls;

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, body::Body, routing::get};
use edge::clock::Clock;
use futures_util::stream;
use http::StatusCode;
use hyper::body::Bytes;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier, version::TLS13};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::common::{Authority, Service, start};

/// The number of streams that our service allows.
const STREAMS: u32 = 32;

/// Our service and the stock one, with the same authority.
struct Both {
    authority: Authority,
    service: Service,
    stock: SocketAddr,
}

impl Both {
    async fn start() -> Self {
        let authority = Authority::new();
        let service = Service::start(&authority).await;
        let stock = start_stock(&authority).await;
        Self { authority, service, stock }
    }
}

/// Starts stock rustls and hyper, until the test ends.
async fn start_stock(authority: &Authority) -> SocketAddr {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.certificate().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), mtls::tls::provider()).build().unwrap();
    let identity = authority.server("service0");
    let mut tls = ServerConfig::builder_with_provider(mtls::tls::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), PrivateKeyDer::Pkcs8(identity.key.to_pkcs8()))
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // The tests' authority has a clock of its own.
    tls.time_provider = Arc::new(mtls::tls::TlsClock::new(&Clock::manual(start())));
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let endless = async || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let routes = Router::new().route("/", get(async || StatusCode::OK)).route("/endless", get(endless));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, routes) = (acceptor.clone(), routes.clone());
            tokio::spawn(async move {
                stream.set_nodelay(true).unwrap();
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let mut http = auto::Builder::new(TokioExecutor::new());
                http.http2().max_concurrent_streams(STREAMS).max_header_list_size(16 * 1024);
                let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)).await;
            });
        }
    });
    address
}
