//! A client that looks at services from outside: holds a connection to see it end, and knocks to see whether it is let in.
//!
//! It never asks a service or the authority what it thinks; it only tries.

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{AlertDescription, ClientConfig, client::Resumption};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Somebody with a certificate.
#[derive(Clone)]
pub(crate) struct Visitor {
    http2: TlsConnector,
    http1: TlsConnector,
}

/// What became of a new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Knock {
    Admitted,
    /// The alert `certificate_revoked`.
    Revoked,
    /// Another alert, or an answer that is none: nginx lets a revoked client in and tells it off.
    Refused(String),
    /// It ended in another way.
    Broken(String),
}

/// An open HTTP/2 connection on which a request was answered.
pub(crate) struct Held {
    /// The moment at which it ended, once it has.
    pub(crate) end: JoinHandle<Instant>,
    // Without it the connection would end by itself.
    sender: http2::SendRequest<Empty<Bytes>>,
}

impl Visitor {
    pub(crate) fn new(mut tls: ClientConfig) -> Self {
        // A resumed handshake is another question.
        tls.resumption = Resumption::disabled();
        let connector = |protocol: &[u8]| {
            let mut tls = tls.clone();
            tls.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(tls))
        };
        Self { http2: connector(b"h2"), http1: connector(b"http/1.1") }
    }

    /// Opens a connection and asks once, so that it is certain that the service has it under its eyes.
    pub(crate) async fn hold(&self, address: SocketAddr) -> anyhow::Result<Held> {
        let stream = connect(&self.http2, address).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let end = tokio::spawn(async move {
            let _ = connection.await;
            Instant::now()
        });
        let mut held = Held { end, sender };
        held.ask(address).await.context("the first request on a connection")?;
        Ok(held)
    }

    /// Makes a new connection with a full handshake, and sees whether a request on it is answered.
    pub(crate) async fn knock(&self, address: SocketAddr) -> Knock {
        match self.ask(address).await {
            Ok(head) if head.starts_with("HTTP/1.1 200") => Knock::Admitted,
            Ok(head) if head.is_empty() => Knock::Broken("closed without a word".to_owned()),
            Ok(head) => Knock::Refused(head),
            Err(error) => match edge::errors::find::<rustls::Error>(&error) {
                Some(rustls::Error::AlertReceived(AlertDescription::CertificateRevoked)) => Knock::Revoked,
                Some(rustls::Error::AlertReceived(_)) => Knock::Refused(error.to_string()),
                _ => Knock::Broken(error.to_string()),
            },
        }
    }

    /// The first line of the answer; nothing if there is none.
    async fn ask(&self, address: SocketAddr) -> io::Result<String> {
        let mut stream = connect(&self.http1, address).await?;
        // In TLS 1.3 the service's judgement arrives with the first answer.
        stream.write_all(b"GET /healthy HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").await?;
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).await?;
        Ok(String::from_utf8_lossy(&bytes[..read]).lines().next().unwrap_or_default().to_owned())
    }
}

impl Held {
    /// Asks once more.
    pub(crate) async fn ask(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let request = Request::get(format!("https://{address}/healthy")).body(Empty::new())?;
        let response = self.sender.send_request(request).await?;
        ensure!(response.status() == StatusCode::OK, "the service answered {}", response.status());
        response.into_body().collect().await?;
        Ok(())
    }

    /// Whether it is still open.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.end.is_finished()
    }
}

async fn connect(tls: &TlsConnector, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    tls.connect(ServerName::IpAddress(address.ip().into()), stream).await
}
