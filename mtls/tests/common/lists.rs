//! A fake listener of an authority: it serves the root's CRL and the list of servers, as the test sets them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use axum_server::Handle;
use pki::{
    certificate::Fingerprint,
    crl::{ROOT_CRL_PATH, SERVERS_CRL_PATH},
};
use url::Url;

use super::{Authority, Issued, listen, tls::Tls};

/// The CRLs. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Lists(Arc<Mutex<Given>>);

#[derive(Default)]
pub(crate) struct Given {
    pub(crate) root: Option<Vec<u8>>,
    pub(crate) servers: Option<Vec<u8>>,
    /// Requests for the list of servers are never answered.
    pub(crate) servers_never_come: bool,
    /// Requests and the status of their answers.
    pub(crate) asked: Vec<(String, StatusCode)>,
}

impl Lists {
    /// The first CRLs of this authority, without entries.
    pub(crate) fn of(authority: &Authority) -> Self {
        let lists = Self::default();
        lists.give(|given| {
            given.root = Some(authority.root_crl(1, &[]));
            given.servers = Some(authority.servers_crl(1, &[]));
        });
        lists
    }

    pub(crate) fn give(&self, change: impl FnOnce(&mut Given)) {
        change(&mut self.0.lock().unwrap());
    }

    /// Requests since the last call, and the status of their answers.
    pub(crate) fn asked(&self) -> Vec<(String, u16)> {
        let asked = std::mem::take(&mut self.0.lock().unwrap().asked);
        asked.into_iter().map(|(path, status)| (path, status.as_u16())).collect()
    }

    pub(crate) fn routes(&self) -> Router {
        Router::new().fallback(get(answer)).with_state(self.clone())
    }
}

async fn answer(State(lists): State<Lists>, uri: Uri, headers: HeaderMap) -> Response {
    let is_silent = lists.0.lock().unwrap().servers_never_come && uri.path() == SERVERS_CRL_PATH;
    if is_silent {
        std::future::pending::<()>().await;
    }
    let mut given = lists.0.lock().unwrap();
    let list = match uri.path() {
        ROOT_CRL_PATH => given.root.clone(),
        SERVERS_CRL_PATH => given.servers.clone(),
        _ => None,
    };
    let tag = list.as_ref().map(|list| format!("\"{}\"", Fingerprint::of(list).short()));
    let response = match (list, tag) {
        (Some(_), Some(tag)) if headers.get(header::IF_NONE_MATCH).is_some_and(|given| given == tag.as_str()) => {
            StatusCode::NOT_MODIFIED.into_response()
        }
        (Some(list), Some(tag)) => ([(header::ETAG, tag)], list).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    };
    given.asked.push((uri.path().to_owned(), response.status()));
    response
}

/// The authority's own listener.
pub(crate) struct ListServer {
    pub(crate) address: SocketAddr,
    pub(crate) lists: Lists,
    handle: Handle<SocketAddr>,
}

impl ListServer {
    pub(crate) async fn of(authority: &Authority) -> Self {
        Self::presenting(&authority.own().with_root(authority), Lists::of(authority)).await
    }

    pub(crate) async fn presenting(issued: &Issued, lists: Lists) -> Self {
        let handle = Handle::new();
        let server = axum_server::from_tcp(listen()).unwrap().handle(handle.clone());
        let server = server.acceptor(Tls::presenting(issued.chain.clone(), &issued.key));
        tokio::spawn(server.serve(lists.routes().into_make_service()));
        let address = handle.listening().await.unwrap();
        Self { address, lists, handle }
    }

    pub(crate) fn url(&self) -> Url {
        format!("https://{}", self.address).parse().unwrap()
    }

    /// Stops answering.
    pub(crate) fn goes_down(&self) {
        self.handle.shutdown();
    }
}

impl Drop for ListServer {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}
