//! A plain HTTP server that publishes CRLs as the test sets them.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use axum_server::Handle;
use futures_util::stream;

use super::{Authority, authority::Founding, eventually, listen};

/// Publishes CRLs at an address that stays the same while it is down.
pub(crate) struct Publisher {
    pub(crate) address: SocketAddr,
    published: Arc<Mutex<Published>>,
    handle: Handle<SocketAddr>,
}

#[derive(Default)]
pub(crate) struct Published {
    pub(crate) root: Vec<u8>,
    pub(crate) issuing: Vec<u8>,
    pub(crate) delta: Option<Vec<u8>>,
    pub(crate) mode: Mode,
    /// Answers to requests for the issuing CA's CRL.
    whole: usize,
    not_modified: usize,
    other: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Normal,
    Unavailable,
    /// The body breaks off.
    Broken,
    /// Only the issuing CA's complete CRL cannot be fetched.
    WithoutComplete,
    /// Only its delta cannot be fetched.
    WithoutDelta,
}

impl Publisher {
    pub(crate) async fn start() -> Self {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let mut publisher = Self { address, published: Arc::default(), handle: Handle::new() };
        publisher.listen(listener).await;
        publisher
    }

    async fn listen(&mut self, listener: TcpListener) {
        self.handle = Handle::new();
        let routes = Router::new().route("/{file}", get(answer)).with_state(Arc::clone(&self.published));
        let server = axum_server::from_tcp(listener).unwrap().handle(self.handle.clone());
        tokio::spawn(server.serve(routes.into_make_service()));
        self.handle.listening().await.unwrap();
    }

    pub(crate) async fn goes_down(&self) {
        self.handle.shutdown();
        let address = self.address;
        eventually("the publisher is down", move || std::net::TcpStream::connect(address).is_err()).await;
    }

    pub(crate) async fn comes_up(&mut self) {
        self.listen(TcpListener::bind(self.address).unwrap()).await;
    }

    /// An authority whose first CRLs are published here.
    pub(crate) fn authority(&self) -> Authority {
        self.authority_of(Founding::default())
    }

    pub(crate) fn authority_of(&self, founding: Founding<'_>) -> Authority {
        let authority = Authority::found(Founding { base: &format!("http://{}", self.address), ..founding });
        self.publish(|published| {
            published.root = authority.root_crl(1, &[]);
            published.issuing = authority.crl(1, &[]);
        });
        authority
    }

    pub(crate) fn publish(&self, change: impl FnOnce(&mut Published)) {
        change(&mut self.published.lock().unwrap());
    }

    /// How often the issuing CA's CRL was sent, was unchanged, or could not be fetched.
    pub(crate) fn answers(&self) -> (usize, usize, usize) {
        let published = self.published.lock().unwrap();
        (published.whole, published.not_modified, published.other)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

async fn answer(
    State(published): State<Arc<Mutex<Published>>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let mut published = published.lock().unwrap();
    let counts = file == "issuing.crl";
    let crl = match file.as_str() {
        "issuing.crl" => published.issuing.clone(),
        "issuing-delta.crl" => match &published.delta {
            Some(delta) => delta.clone(),
            None => return StatusCode::NOT_FOUND.into_response(),
        },
        _ => published.root.clone(),
    };
    let tag = format!("\"{:?}\"", pki::certificate::Fingerprint::of(&crl).short());
    let is_missing = match published.mode {
        Mode::Unavailable => true,
        Mode::WithoutComplete => counts,
        Mode::WithoutDelta => file == "issuing-delta.crl",
        Mode::Normal | Mode::Broken => false,
    };
    match published.mode {
        _ if is_missing => {
            published.other += usize::from(counts);
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        Mode::Broken => {
            published.other += usize::from(counts);
            let half = Bytes::copy_from_slice(&crl[..crl.len() / 2]);
            let body = Body::from_stream(stream::iter([Ok(half), Err(io::Error::other("cut"))]));
            ([(header::ETAG, tag), (header::CONTENT_LENGTH, crl.len().to_string())], body).into_response()
        }
        _ if headers.get(header::IF_NONE_MATCH).is_some_and(|given| given == tag.as_str()) => {
            published.not_modified += usize::from(counts);
            (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response()
        }
        _ => {
            published.whole += usize::from(counts);
            ([(header::ETAG, tag)], crl).into_response()
        }
    }
}
