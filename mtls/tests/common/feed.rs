//! What answers at an authority's address: its feed, on which the test says what exists, and confirmations, which it keeps.

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
    /// Who opened the feed, and whose place it took.
    feeds: Vec<(InstanceId, Vec<InstanceId>)>,
    confirmations: Vec<Value>,
    goodbyes: Vec<InstanceId>,
    /// With numbers that are confirmed unknown, how lists that are handed over are refused.
    refuses: Option<StatusCode>,
    /// Whether nobody hears that a goodbye has arrived.
    loses_goodbyes: bool,
    /// Whether there is no feed to be had.
    is_closed: bool,
    /// What is served beside the feed, by path.
    lists: HashMap<String, Vec<u8>>,
    /// The number from which on lists contain what was asked about.
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

    /// Says on every feed, present and future, that these CRLs exist. Where they lie beside the feed, nobody knows.
    pub(crate) fn announce(&self, crls: &[(&str, i64)]) {
        let current = |number| Current {
            number,
            complete: Listing { path: path_of(number), number, size: None, sha256: None },
            delta: None,
        };
        let crls = crls.iter().map(|(url, number)| ((*url).to_owned(), current(CrlNumber::new(*number).unwrap())));
        self.said.send_replace(line(&FeedEvent { crls: crls.collect(), ..FeedEvent::default() }));
    }

    /// Says that this complete CRL exists, with everything that there is to say about it.
    pub(crate) fn announce_list(&self, url: &str, number: i64, der: &[u8]) {
        let number = CrlNumber::new(number).unwrap();
        let size = Some(u64::try_from(der.len()).unwrap());
        let sha256 = Some(Fingerprint::of(der).to_string());
        let complete = Listing { path: path_of(number), number, size, sha256 };
        let crls = [(url.to_owned(), Current { number, complete, delta: None })].into();
        self.said.send_replace(line(&FeedEvent { crls, ..FeedEvent::default() }));
    }

    /// Serves a complete CRL where it was announced to lie, or takes it away from there.
    pub(crate) fn serve_list(&self, number: i64, der: Option<Vec<u8>>) {
        let path = path_of(CrlNumber::new(number).unwrap());
        let lists = &mut self.heard.lock().unwrap().lists;
        match der {
            Some(der) => _ = lists.insert(path, der),
            None => _ = lists.remove(&path),
        }
    }

    /// No feed is to be had until it is opened again; those that are open go on.
    pub(crate) fn close(&self, is_closed: bool) {
        self.heard.lock().unwrap().is_closed = is_closed;
    }

    /// What is confirmed is unknown from now on, and what is handed over is refused like this.
    pub(crate) fn know_nothing(&self, refusal: StatusCode) {
        self.heard.lock().unwrap().refuses = Some(refusal);
    }

    /// Goodbyes arrive, and those who say them do not hear of it.
    pub(crate) fn lose_goodbyes(&self) {
        self.heard.lock().unwrap().loses_goodbyes = true;
    }

    /// Ends the feeds that are open.
    pub(crate) fn hang_up(&self) {
        self.said.send_replace(String::new());
    }

    /// From which number on lists contain what was revoked, as far as it is asked; nothing is known at first.
    pub(crate) fn vouch_from(&self, number: Option<i64>) {
        self.heard.lock().unwrap().vouched = number.and_then(CrlNumber::new);
    }

    /// The numbers that were asked about, question by question.
    pub(crate) fn questions(&self, url: &str) -> Vec<Vec<i64>> {
        let heard = self.heard.lock().unwrap();
        let numbers = heard.questions.iter().filter_map(|question| question.crls.get(url));
        numbers.map(|numbers| numbers.iter().map(|number| number.get()).collect()).collect()
    }

    /// What was handed over, PEM.
    pub(crate) fn handed_over(&self) -> Vec<String> {
        self.heard.lock().unwrap().handed_over.clone()
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

fn path_of(number: CrlNumber) -> String {
    format!("/crl/{number}.crl")
}

fn line(event: &FeedEvent) -> String {
    serde_json::to_string(event).unwrap() + "\n"
}

/// What was said last at once, and then whatever is said, until that is nothing.
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
