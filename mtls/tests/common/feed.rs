//! A fake authority: its feed, on which the test announces CRLs, and the confirmations that it receives.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use axum_server::Handle;
use futures_util::stream;
use pki::{
    certificate::Fingerprint,
    crl::CrlNumber,
    instance::{InstanceId, read_secrets},
    token::Secret,
    wire::{
        CONFIRM_PATH, Current, FEED_PATH, FeedEvent, GOODBYE_PATH, HAND_OVER_PATH, INSTANCE_HEADER, KNOWN_PATH,
        KnownAnswer, KnownQuestion, Listing, PREDECESSORS_HEADER,
    },
};
use serde_json::Value;
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
    /// Which instance opened the feed, and which ones it replaced.
    feeds: Vec<(InstanceId, Vec<InstanceId>)>,
    confirmations: Vec<Value>,
    goodbyes: Vec<InstanceId>,
    /// If set, confirmed numbers are unknown, and handed over CRLs are refused with this status.
    refuses: Option<StatusCode>,
    /// Whether goodbyes are received but not answered.
    loses_goodbyes: bool,
    /// Whether the feed refuses connections.
    is_closed: bool,
    /// CRLs that are served beside the feed, by path.
    lists: HashMap<String, Vec<u8>>,
    /// The first number whose CRLs contain the queried ones.
    vouched: Option<CrlNumber>,
    questions: Vec<KnownQuestion>,
    handed_over: Vec<String>,
}

type Shared = (watch::Receiver<String>, Arc<Mutex<Heard>>);

impl FeedServer {
    pub(crate) async fn presenting(issued: &Issued) -> Self {
        let (said, hear) = watch::channel(line(&FeedEvent::default()));
        let heard = Arc::<Mutex<Heard>>::default();
        let handle = Handle::new();
        let routes = Router::new()
            .route(FEED_PATH, get(feed))
            .route(CONFIRM_PATH, post(confirm))
            .route(GOODBYE_PATH, post(goodbye))
            .route(KNOWN_PATH, post(known))
            .route(HAND_OVER_PATH, post(hand_over))
            .fallback(list)
            .layer(DefaultBodyLimit::disable())
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

    /// Announces these CRLs on every present and future feed. Their paths do not exist beside the feed.
    pub(crate) fn announce(&self, crls: &[(&str, i64)]) {
        let current = |number| Current {
            number,
            complete: Listing { path: path_of(number), number, size: None, sha256: None },
            delta: None,
        };
        let crls = crls.iter().map(|(url, number)| ((*url).to_owned(), current(CrlNumber::new(*number).unwrap())));
        self.said.send_replace(line(&FeedEvent { crls: crls.collect(), ..FeedEvent::default() }));
    }

    /// Announces this complete CRL with all its fields.
    pub(crate) fn announce_list(&self, url: &str, number: i64, der: &[u8]) {
        let number = CrlNumber::new(number).unwrap();
        let size = Some(u64::try_from(der.len()).unwrap());
        let sha256 = Some(Fingerprint::of(der).to_string());
        let complete = Listing { path: path_of(number), number, size, sha256 };
        let crls = [(url.to_owned(), Current { number, complete, delta: None })].into();
        self.said.send_replace(line(&FeedEvent { crls, ..FeedEvent::default() }));
    }

    /// Serves a complete CRL at its announced path, or removes it.
    pub(crate) fn serve_list(&self, number: i64, der: Option<Vec<u8>>) {
        let path = path_of(CrlNumber::new(number).unwrap());
        let lists = &mut self.heard.lock().unwrap().lists;
        match der {
            Some(der) => _ = lists.insert(path, der),
            None => _ = lists.remove(&path),
        }
    }

    /// Refuses new feeds until it is opened again. Open ones continue.
    pub(crate) fn close(&self, is_closed: bool) {
        self.heard.lock().unwrap().is_closed = is_closed;
    }

    /// From now on, confirmed numbers are unknown, and handed over CRLs are refused with this status.
    pub(crate) fn know_nothing(&self, refusal: StatusCode) {
        self.heard.lock().unwrap().refuses = Some(refusal);
    }

    /// Goodbyes are received, but not answered.
    pub(crate) fn lose_goodbyes(&self) {
        self.heard.lock().unwrap().loses_goodbyes = true;
    }

    /// Ends the open feeds.
    pub(crate) fn hang_up(&self) {
        self.said.send_replace(String::new());
    }

    /// The first number whose CRLs contain the queried ones. `None` means that nothing is known, as at first.
    pub(crate) fn vouch_from(&self, number: Option<i64>) {
        self.heard.lock().unwrap().vouched = number.and_then(CrlNumber::new);
    }

    /// The numbers of each query.
    pub(crate) fn questions(&self, url: &str) -> Vec<Vec<i64>> {
        let heard = self.heard.lock().unwrap();
        let numbers = heard.questions.iter().filter_map(|question| question.crls.get(url));
        numbers.map(|numbers| numbers.iter().map(|number| number.get()).collect()).collect()
    }

    /// The handed over CRLs in PEM.
    pub(crate) fn handed_over(&self) -> Vec<String> {
        self.heard.lock().unwrap().handed_over.clone()
    }

    /// How many feeds were requested, and how many confirmations were received.
    pub(crate) fn requests(&self) -> (usize, usize) {
        let heard = self.heard.lock().unwrap();
        (heard.feeds.len(), heard.confirmations.len())
    }

    /// Which instance opened the feed last, and which ones it replaced.
    pub(crate) fn opened_last(&self) -> Option<(InstanceId, Vec<InstanceId>)> {
        self.heard.lock().unwrap().feeds.last().cloned()
    }

    /// Which instances signed off.
    pub(crate) fn goodbyes(&self) -> Vec<InstanceId> {
        self.heard.lock().unwrap().goodbyes.clone()
    }

    /// The number of this CRL in the last confirmation, if it contains the CRL.
    pub(crate) fn confirmed_last(&self, crl: &str) -> Option<i64> {
        self.heard.lock().unwrap().confirmations.last().and_then(|last| last["crls"][crl].as_i64())
    }

    /// A field of the last confirmation, if there was one.
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

fn path_of(number: CrlNumber) -> String {
    format!("/crl/{number}.crl")
}

fn line(event: &FeedEvent) -> String {
    serde_json::to_string(event).unwrap() + "\n"
}

/// Sends the current state at once, and then every change, until the state is `None`.
async fn feed(State((hear, heard)): State<Shared>, headers: HeaderMap) -> Response {
    {
        let mut heard = heard.lock().unwrap();
        if heard.is_closed {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let predecessors = read_secrets(headers[PREDECESSORS_HEADER].to_str().unwrap(), 16).unwrap();
        heard.feeds.push((instance(&headers), predecessors.iter().map(InstanceId::of).collect()));
    }
    let mut hear = hear;
    hear.mark_changed();
    let body = Body::from_stream(stream::unfold(hear, async |mut hear| {
        hear.changed().await.ok()?;
        let line = hear.borrow_and_update().clone();
        (!line.is_empty()).then_some((Ok::<_, std::io::Error>(line), hear))
    }));
    body.into_response()
}

async fn list(State((_, heard)): State<Shared>, uri: Uri) -> Response {
    match heard.lock().unwrap().lists.get(uri.path()) {
        Some(list) => list.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn known(State((_, heard)): State<Shared>, Json(question): Json<KnownQuestion>) -> Json<KnownAnswer> {
    let mut heard = heard.lock().unwrap();
    let crls = question.crls.keys().map(|url| (url.clone(), heard.vouched)).collect();
    heard.questions.push(question);
    Json(KnownAnswer { crls })
}

async fn hand_over(State((_, heard)): State<Shared>, pem: Bytes) -> StatusCode {
    let mut heard = heard.lock().unwrap();
    heard.handed_over.push(String::from_utf8(pem.to_vec()).unwrap());
    heard.refuses.unwrap_or(StatusCode::NO_CONTENT)
}

fn instance(headers: &HeaderMap) -> InstanceId {
    InstanceId::of(&Secret::from_bearer(headers[INSTANCE_HEADER].to_str().unwrap()).unwrap())
}

async fn goodbye(State((_, heard)): State<Shared>, headers: HeaderMap) -> StatusCode {
    let mut heard = heard.lock().unwrap();
    heard.goodbyes.push(instance(&headers));
    if heard.loses_goodbyes { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
}

async fn confirm(State((_, heard)): State<Shared>, Json(confirmation): Json<Value>) -> StatusCode {
    let mut heard = heard.lock().unwrap();
    heard.confirmations.push(confirmation);
    if heard.refuses.is_some() { StatusCode::CONFLICT } else { StatusCode::NO_CONTENT }
}
