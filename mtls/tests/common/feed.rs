//! What answers at an authority's address: its feed, on which the test says what exists, and confirmations, which it keeps.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::HeaderMap,
    routing::{get, post},
};
use axum_server::Handle;
use futures_util::stream;
use pki::{
    instance::{InstanceId, read_secrets},
    token::Secret,
    wire::{CONFIRM_PATH, FEED_PATH, GOODBYE_PATH, INSTANCE_HEADER, PREDECESSORS_HEADER},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use url::Url;

use super::{Issued, listen, tls::Tls};

pub(crate) struct FeedServer {
    pub(crate) address: SocketAddr,
    said: watch::Sender<String>,
    heard: Arc<Mutex<Heard>>,
    handle: Handle<SocketAddr>,
}

#[derive(Default)]
struct Heard {
    /// Who opened the feed, and whose place it took.
    feeds: Vec<(InstanceId, Vec<InstanceId>)>,
    confirmations: Vec<Value>,
    goodbyes: Vec<InstanceId>,
}

type Shared = (watch::Receiver<String>, Arc<Mutex<Heard>>);

impl FeedServer {
    pub(crate) async fn presenting(issued: &Issued) -> Self {
        let (said, hear) = watch::channel(line(&[]));
        let heard = Arc::<Mutex<Heard>>::default();
        let handle = Handle::new();
        let routes = Router::new()
            .route(FEED_PATH, get(feed))
            .route(CONFIRM_PATH, post(confirm))
            .route(GOODBYE_PATH, post(goodbye))
            .with_state((hear, Arc::clone(&heard)));
        let server = axum_server::from_tcp(listen()).unwrap().handle(handle.clone());
        let server = server.acceptor(Tls::presenting(issued.chain.clone(), &issued.key));
        tokio::spawn(server.serve(routes.into_make_service()));
        let address = handle.listening().await.unwrap();
        Self { address, said, heard, handle }
    }

    pub(crate) fn url(&self) -> Url {
        format!("https://localhost:{}", self.address.port()).parse().unwrap()
    }

    /// Says on every feed, present and future, that these CRLs exist.
    pub(crate) fn announce(&self, crls: &[(&str, i64)]) {
        self.said.send_replace(line(crls));
    }

    /// How many feeds were asked for, and how often something was confirmed.
    pub(crate) fn requests(&self) -> (usize, usize) {
        let heard = self.heard.lock().unwrap();
        (heard.feeds.len(), heard.confirmations.len())
    }

    /// Who opened the feed last, and whose place it took.
    pub(crate) fn opened_last(&self) -> Option<(InstanceId, Vec<InstanceId>)> {
        self.heard.lock().unwrap().feeds.last().cloned()
    }

    /// Who said goodbye.
    pub(crate) fn goodbyes(&self) -> Vec<InstanceId> {
        self.heard.lock().unwrap().goodbyes.clone()
    }

    /// The number that was confirmed last for this CRL, if the last confirmation speaks of it.
    pub(crate) fn confirmed_last(&self, crl: &str) -> Option<i64> {
        self.heard.lock().unwrap().confirmations.last().and_then(|last| last["crls"][crl].as_i64())
    }

    /// What a field of the last confirmation says, if there was one.
    pub(crate) fn said_last(&self, field: &str) -> Option<Value> {
        self.heard.lock().unwrap().confirmations.last().map(|last| last[field].clone())
    }

    /// The highest number that was confirmed for this CRL.
    pub(crate) fn confirmed(&self, crl: &str) -> Option<i64> {
        let heard = self.heard.lock().unwrap();
        heard.confirmations.iter().filter_map(|confirmation| confirmation["crls"][crl].as_i64()).max()
    }
}

impl Drop for FeedServer {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

fn line(crls: &[(&str, i64)]) -> String {
    let crls: serde_json::Map<_, _> = crls.iter().map(|(url, number)| ((*url).to_owned(), json!(number))).collect();
    json!({ "crls": crls }).to_string() + "\n"
}

/// What was said last at once, and then whatever is said.
async fn feed(State((hear, heard)): State<Shared>, headers: HeaderMap) -> Body {
    let predecessors = read_secrets(headers[PREDECESSORS_HEADER].to_str().unwrap(), 16).unwrap();
    heard.lock().unwrap().feeds.push((instance(&headers), predecessors.iter().map(InstanceId::of).collect()));
    let mut hear = hear;
    hear.mark_changed();
    Body::from_stream(stream::unfold(hear, async |mut hear| {
        hear.changed().await.ok()?;
        let line = hear.borrow_and_update().clone();
        Some((Ok::<_, std::io::Error>(line), hear))
    }))
}

fn instance(headers: &HeaderMap) -> InstanceId {
    InstanceId::of(&Secret::from_bearer(headers[INSTANCE_HEADER].to_str().unwrap()).unwrap())
}

async fn goodbye(State((_, heard)): State<Shared>, headers: HeaderMap) {
    heard.lock().unwrap().goodbyes.push(instance(&headers));
}

async fn confirm(State((_, heard)): State<Shared>, Json(confirmation): Json<Value>) {
    heard.lock().unwrap().confirmations.push(confirmation);
}
