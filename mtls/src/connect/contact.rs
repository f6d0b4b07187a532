//! One HTTP/1.1 connection with one request after another, so that what is known of the server applies to all of them.
//!
//! It never reconnects, and never judges the server: the TLS verifier does, and the caller.

use std::{error::Error, time::Duration};

use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use tower::Service as _;

use crate::connect::tcp::{self, Lookup};

/// The connection failed.
#[derive(Debug, thiserror::Error)]
#[error("no connection")]
pub(crate) struct NoContact(#[source] Box<dyn Error + Send + Sync>);

/// The connector for HTTP and HTTPS.
pub(crate) type Connector = HttpsConnector<HttpConnector<Lookup>>;

/// Connects within `patience`, with or without TLS according to the URL.
pub(crate) fn connector(tls: ClientConfig, patience: Duration) -> Connector {
    let mut tcp = tcp::connector(Lookup::default(), patience);
    tcp.enforce_http(false);
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp)
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Contact {
    sender: http1::SendRequest<Full<Bytes>>,
    host: HeaderValue,
    chain: Vec<CertificateDer<'static>>,
}

impl Contact {
    /// Connects to the host of this URL.
    pub(crate) async fn open(connector: &Connector, to: &Uri) -> Result<Self, NoContact> {
        let host = to.authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(host).map_err(|error| NoContact(error.into()))?;
        let stream = connector.clone().call(to.clone()).await.map_err(NoContact)?;
        let chain = match &stream {
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().1.peer_certificates().unwrap_or_default().to_vec(),
            MaybeHttpsStream::Http(_) => Vec::new(),
        };
        let (sender, connection) = http1::handshake(stream).await.map_err(|error| NoContact(error.into()))?;
        // The task ends when the sender is dropped.
        tokio::spawn(connection);
        Ok(Self { sender, host, chain })
    }

    /// The server's presented chain, its own certificate first. Empty without TLS.
    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Sends a request to a URL of this host.
    pub(crate) async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.ready().await?;
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = path.into();
        }
        request.headers_mut().insert(header::HOST, self.host.clone());
        self.sender.send_request(request).await
    }
}
