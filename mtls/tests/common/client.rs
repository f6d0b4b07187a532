//! Test clients: their certificates and connections.

use std::{io, net::SocketAddr, sync::Arc};

use edge::{clock::Clock, errors::find};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mtls::tls::mutual_tls;
use pki::{key::KeyPair, wire::Problem};
use rustls::{AlertDescription, ClientConfig, HandshakeKind, RootCertStore, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use testkit::tls::Presenting;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Authority, Issued};

/// A client. Clones share its sessions.
#[derive(Clone)]
pub(crate) struct Client {
    tls: Arc<ClientConfig>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Http {
    One,
    Two,
}

/// An open connection.
pub(crate) struct Connection {
    sender: Sender,
    pub(crate) kind: HandshakeKind,
}

enum Sender {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Client {
    /// A client as `mtls` makes it.
    pub(crate) fn new(authority: &Authority, issued: &Issued, http: Http, clock: &Clock) -> Self {
        Self::with(mutual_tls(&issued.identity(), authority.root.certificate(), clock).unwrap(), http)
    }

    /// A client that presents these certificates and signs with this key, whether they match or not.
    pub(crate) fn presenting(
        authority: &Authority,
        chain: Vec<CertificateDer<'static>>,
        key: &KeyPair,
        clock: &Clock,
    ) -> Self {
        let key = PrivateKeyDer::Pkcs8(key.to_pkcs8());
        let tls = trusting(authority, clock).with_client_cert_resolver(Presenting::new(chain, &key));
        Self::with(tls, Http::One)
    }

    /// A client without a certificate.
    pub(crate) fn anonymous(authority: &Authority, clock: &Clock) -> Self {
        Self::with(trusting(authority, clock).with_no_client_auth(), Http::One)
    }

    pub(crate) fn with(mut tls: ClientConfig, http: Http) -> Self {
        tls.alpn_protocols = vec![match http {
            Http::One => b"http/1.1".to_vec(),
            Http::Two => b"h2".to_vec(),
        }];
        Self { tls: Arc::new(tls) }
    }

    /// A handshake over an existing connection.
    pub(crate) async fn shake_hands(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(Arc::clone(&self.tls)).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.shake_hands(TcpStream::connect(address).await?).await
    }

    pub(crate) async fn open(&self, address: SocketAddr) -> Connection {
        self.try_open(address).await.unwrap()
    }

    pub(crate) async fn open_over(&self, stream: TcpStream) -> Connection {
        self.try_open_over(stream).await.unwrap()
    }

    /// Opens a connection that the service may refuse.
    pub(crate) async fn try_open(&self, address: SocketAddr) -> io::Result<Connection> {
        self.try_open_over(TcpStream::connect(address).await?).await
    }

    async fn try_open_over(&self, stream: TcpStream) -> io::Result<Connection> {
        let stream = self.shake_hands(stream).await?;
        let (_, session) = stream.get_ref();
        let kind = session.handshake_kind().unwrap();
        let two = session.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        let sender = if two {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), stream).await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            Sender::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            Sender::One(sender)
        };
        Ok(Connection { sender, kind })
    }

    /// One request over a new connection.
    pub(crate) async fn get(&self, address: SocketAddr) -> Answer {
        self.open(address).await.get().await.unwrap()
    }

    /// Sends a request over a new connection, which the service must refuse. Returns how the connection ended.
    pub(crate) async fn refused(&self, address: SocketAddr) -> Refusal {
        match TcpStream::connect(address).await {
            Ok(stream) => self.refused_over(stream).await,
            Err(error) => panic!("nothing listens: {error}"),
        }
    }

    pub(crate) async fn refused_over(&self, stream: TcpStream) -> Refusal {
        let (mut answer, mut kind) = (Vec::new(), None);
        let exchange = async {
            let mut stream = self.shake_hands(stream).await?;
            kind = stream.get_ref().1.handshake_kind();
            // The refusal may have arrived already. Then the read returns it.
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            stream.read_to_end(&mut answer).await?;
            io::Result::Ok(())
        };
        let end = exchange.await;
        assert!(answer.is_empty(), "served: {}", String::from_utf8_lossy(&answer));
        Refusal { kind, end }
    }
}

/// A connection that ended without an answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The kind of handshake, as the client sees it: the server decides about the client later (RFC 8446 section 4.4).
    pub(crate) kind: Option<HandshakeKind>,
    end: io::Result<()>,
}

impl Refusal {
    /// The alert that ended it.
    #[track_caller]
    pub(crate) fn alert(self) -> AlertDescription {
        match self.end.as_ref().map_err(|error| find(error)) {
            Err(Some(rustls::Error::AlertReceived(alert))) => *alert,
            _ => panic!("no alert, but {self:?}"),
        }
    }
}

impl Connection {
    pub(crate) async fn get(&mut self) -> Result<Answer, hyper::Error> {
        self.get_with(HeaderMap::new()).await
    }

    /// A request whose answer the caller reads.
    pub(crate) async fn start(&mut self, path: &str) -> Result<Incoming, hyper::Error> {
        Ok(self.send(path, HeaderMap::new()).await?.into_body())
    }

    pub(crate) async fn get_with(&mut self, headers: HeaderMap) -> Result<Answer, hyper::Error> {
        let (parts, body) = self.send("/", headers).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: parts.status, version: parts.version, headers: parts.headers, body })
    }

    async fn send(&mut self, path: &str, headers: HeaderMap) -> Result<Response<Incoming>, hyper::Error> {
        let mut request = Request::get(format!("https://localhost{path}")).body(Empty::new()).unwrap();
        *request.headers_mut() = headers;
        match &mut self.sender {
            Sender::One(sender) => {
                *request.uri_mut() = path.parse().unwrap();
                request.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static("localhost"));
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        }
    }
}

impl Answer {
    /// The body of a refusal.
    pub(crate) fn problem(&self) -> Problem {
        assert_eq!(self.headers[http::header::CONTENT_TYPE], pki::wire::PROBLEM_JSON);
        let problem: Problem = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        problem
    }
}

fn trusting(
    authority: &Authority,
    clock: &Clock,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.certificate().clone()).unwrap();
    ClientConfig::builder_with_details(mtls::tls::provider(), Arc::new(mtls::tls::TlsClock::new(clock)))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
}
