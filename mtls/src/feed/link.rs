//! What keepers have of the feed: whether it is open, the way over which it came, and somebody who asks the authority for them.
//!
//! It never decides what is in force.

use http::Uri;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use pki::{
    crl::CrlNumber,
    wire::{FEED_HEARTBEAT, KNOWN_PATH, KnownAnswer, KnownQuestion},
};
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot, watch};

use super::*;

pub(super) type Connector = HttpsConnector<HttpConnector<Lookup>>;
/// Speaks to the authority, as this relying party. Clones share one HTTP/2 connection.
pub(crate) type AuthorityClient = Client<Connector, Full<Bytes>>;

/// How many questions of keepers may wait; each keeper asks one at a time.
const QUESTIONS: usize = 8;
/// The longest answer to a question.
const MAX_ANSWER: usize = 4 * 1024;
/// How long a keeper waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two times that the same lists are handed over because the authority does not know their numbers.
const HAND_OVER_PAUSE: Duration = Duration::from_secs(10);

/// A keeper's end, for one distribution point.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    url: String,
    authority: Url,
    opened: watch::Receiver<Option<Opening>>,
    questions: mpsc::Sender<Question>,
}

/// The feed while it is open.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    /// How often it was opened.
    pub(super) count: u64,
    /// The connection that it came over.
    pub(super) client: AuthorityClient,
}

/// The feed's end.
#[derive(Debug)]
pub(crate) struct FeedEnd {
    pub(super) authority: Url,
    pub(super) connector: Connector,
    /// None while the feed is not open.
    pub(super) opened: watch::Sender<Option<Opening>>,
    pub(super) questions: mpsc::Receiver<Question>,
}

/// A keeper's question: from which number on do lists contain what these revoked?
#[derive(Debug)]
pub(super) struct Question {
    url: String,
    numbers: Vec<CrlNumber>,
    answer: oneshot::Sender<Option<CrlNumber>>,
}

/// Both ends of what lies between keepers and the feed of this authority; [`Link::of`] makes one for each list.
pub(crate) fn link(authority: &Url, tls: ClientConfig) -> (Link, FeedEnd) {
    let mut tcp = tcp::connector(Lookup::default(), PATIENCE);
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http2().wrap_connector(tcp);
    let (open, opened) = watch::channel(None);
    let (ask, questions) = mpsc::channel(QUESTIONS);
    let keepers = Link { url: String::new(), authority: authority.clone(), opened, questions: ask };
    (keepers, FeedEnd { authority: authority.clone(), connector, opened: open, questions })
}

pub(super) fn client(connector: Connector) -> AuthorityClient {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_only(true)
        // A peer that vanished without a word is noticed while a confirmation is to be sent, too.
        .http2_keep_alive_interval(FEED_HEARTBEAT)
        .http2_keep_alive_timeout(FEED_HEARTBEAT)
        .build(connector)
}

impl Link {
    /// The same, for the list of this distribution point.
    pub(crate) fn of(&self, url: String) -> Self {
        Self { url, ..self.clone() }
    }

    /// The how-manieth opening of the feed it is that holds now; none while it is not open, and then nobody answers.
    pub(crate) fn opening(&self) -> Option<u64> {
        self.opened.borrow().as_ref().map(|opening| opening.count)
    }

    /// Waits until the feed is open.
    pub(crate) async fn opened(&self) {
        if self.opened.clone().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Over the connection of the feed, while that is open.
    pub(crate) fn client(&self) -> Option<AuthorityClient> {
        self.opened.borrow().as_ref().map(|opening| opening.client.clone())
    }

    /// The authority's own address of a list. What it announces is a path, and cannot lead to somebody else.
    pub(crate) fn uri(&self, path: &str) -> Option<Uri> {
        let authority = self.authority.as_str().parse::<Uri>().ok()?;
        let place = authority.authority()?.as_str();
        Uri::builder().scheme("https").authority(place).path_and_query(path).build().ok()
    }

    /// From which number on the authority's lists contain what the lists with these numbers revoked. None: it does not know, or
    /// cannot be asked.
    pub(crate) async fn contained_from(&self, numbers: Vec<CrlNumber>) -> Option<CrlNumber> {
        self.opening()?;
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.questions.send(Question { url: self.url.clone(), numbers, answer }).await.ok()?;
            answered.await.ok()?
        };
        timeout(ANSWER_TIMEOUT, asked).await.ok()?
    }
}

impl Feed {
    /// Asks the authority for a keeper. What it does not know it gets back, on the disk's word; the keeper will ask again.
    pub(super) async fn answer_keeper(&mut self, question: Question) -> Result<(), FeedError> {
        // It waited for a feed that was not open, and has given up.
        if question.answer.is_closed() {
            return Ok(());
        }
        let known = KnownQuestion { crls: BTreeMap::from([(question.url.clone(), question.numbers)]) };
        let known = timeout(CONFIRM_TIMEOUT, self.ask_known(&known)).await.map_err(|_| FeedError::Silent)??;
        let from = known.as_ref().and_then(|known| known.crls.get(&question.url).copied().flatten());
        let _ = question.answer.send(from);
        let is_due = self.handed_over.is_none_or(|at| at.elapsed() >= HAND_OVER_PAUSE);
        if known.is_some() && from.is_none() && is_due {
            self.handed_over = Some(Instant::now());
            match self.hand_over().await {
                // What the authority does not take now it may take later; the list in force stays.
                Err(error @ FeedError::Refused { .. }) => debug!(%error, "the authority has not taken the CRLs"),
                handed_over => return handed_over,
            }
        }
        Ok(())
    }

    /// None if the authority does not answer such questions now.
    async fn ask_known(&self, question: &KnownQuestion) -> Result<Option<KnownAnswer>, FeedError> {
        let body = serde_json::to_vec(question).map_err(|error| FeedError::Line(error.to_string()))?;
        let response = self.send(Method::POST, KNOWN_PATH, JSON, body.into()).await?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| FeedError::Http(error.to_string()))?.to_bytes();
        serde_json::from_slice(&body).map(Some).map_err(|error| FeedError::Line(error.to_string()))
    }
}
