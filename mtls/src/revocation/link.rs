//! The keepers' side of the feed: whether it is open, its connection, and a queue of queries to the authority.
//!
//! It never decides what is in force.

use std::time::Duration;

use http::Uri;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use pki::{crl::CrlNumber, wire::FEED_HEARTBEAT};
use rustls::ClientConfig;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use url::Url;

use crate::connect::tcp::{self, Lookup};

pub(crate) type Connector = HttpsConnector<HttpConnector<Lookup>>;
/// Sends requests to the authority as this relying party. Clones share one HTTP/2 connection.
pub(crate) type AuthorityClient = Client<Connector, Full<Bytes>>;

/// How many queries of keepers may wait. Each keeper sends one at a time.
const QUESTIONS: usize = 8;
/// How long a keeper waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout to connect, and for unacknowledged data.
const PATIENCE: Duration = Duration::from_secs(2);

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
pub(crate) struct Opening {
    /// How many times the feed was opened.
    pub(crate) count: u64,
    /// The connection of the feed.
    pub(crate) client: AuthorityClient,
}

/// The feed's end.
#[derive(Debug)]
pub(crate) struct FeedEnd {
    pub(crate) authority: Url,
    pub(crate) connector: Connector,
    /// `None` while the feed is not open.
    pub(crate) opened: watch::Sender<Option<Opening>>,
    pub(crate) questions: mpsc::Receiver<Question>,
}

/// A keeper's query: from which number on do the authority's CRLs contain the revocations of these?
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) url: String,
    pub(crate) numbers: Vec<CrlNumber>,
    pub(crate) answer: oneshot::Sender<Option<CrlNumber>>,
}

/// Both ends of the channel between the keepers and the feed of this authority. [`Link::of`] makes a link for each CRL.
pub(crate) fn link(authority: &Url, tls: ClientConfig) -> (Link, FeedEnd) {
    let mut tcp = tcp::connector(Lookup::default(), PATIENCE);
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http2().wrap_connector(tcp);
    let (open, opened) = watch::channel(None);
    let (ask, questions) = mpsc::channel(QUESTIONS);
    let keepers = Link { url: String::new(), authority: authority.clone(), opened, questions: ask };
    (keepers, FeedEnd { authority: authority.clone(), connector, opened: open, questions })
}

pub(crate) fn client_over(connector: Connector) -> AuthorityClient {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_only(true)
        // So that a connection that is dead is noticed also while a confirmation is to be sent.
        .http2_keep_alive_interval(FEED_HEARTBEAT)
        .http2_keep_alive_timeout(FEED_HEARTBEAT)
        .build(connector)
}

impl Link {
    /// The same link, for the CRL of this distribution point.
    pub(crate) fn of(&self, url: String) -> Self {
        Self { url, ..self.clone() }
    }

    /// Which opening of the feed is current, counted from the start. `None` while it is not open; then queries are not
    /// answered.
    pub(crate) fn opening(&self) -> Option<u64> {
        self.opened.borrow().as_ref().map(|opening| opening.count)
    }

    /// Waits until the feed is open.
    pub(crate) async fn opened(&self) {
        if self.opened.clone().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A client over the feed's connection. `None` while the feed is not open.
    pub(crate) fn client(&self) -> Option<AuthorityClient> {
        self.opened.borrow().as_ref().map(|opening| opening.client.clone())
    }

    /// The URL of a CRL at the authority. An announcement contains only a path, so it cannot redirect to another host.
    pub(crate) fn uri(&self, path: &str) -> Option<Uri> {
        let authority = self.authority.as_str().parse::<Uri>().ok()?;
        let place = authority.authority()?.as_str();
        Uri::builder().scheme("https").authority(place).path_and_query(path).build().ok()
    }

    /// From which number on the authority's CRLs contain the revocations of the CRLs with these numbers. `None` if the
    /// authority does not have them, or cannot be queried.
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
