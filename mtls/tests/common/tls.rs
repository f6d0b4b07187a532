//! A TLS server without client certificates, for the fake authority.

use std::sync::Arc;

use axum_server::accept::Accept;
use futures_util::future::BoxFuture;
use pki::key::KeyPair;
use rustls::{ServerConfig, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

#[derive(Clone)]
pub(crate) struct Tls(Arc<ServerConfig>);

impl Tls {
    pub(crate) fn presenting(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        let mut tls = ServerConfig::builder_with_provider(mtls::tls::provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key.to_pkcs8()))
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Arc::new(tls))
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for Tls {
    type Stream = TlsStream<TcpStream>;
    type Service = S;
    type Future = BoxFuture<'static, std::io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepting = TlsAcceptor::from(Arc::clone(&self.0)).accept(stream);
        Box::pin(async move { Ok((accepting.await?, service)) })
    }
}
