//! The feed: one HTTP/2 stream to the authority on which it says that a CRL exists, and the confirmation that goes back once it is
//! enforced and on the disk.
//!
//! Nothing is believed for having come this way: an announcement only says what to fetch, and that is signed.

mod link;

use std::{collections::BTreeMap, error::Error, io, time::Duration};

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use pki::{
    pem,
    wire::{
        CONFIRM_PATH, Confirmation, Current, FEED_HEARTBEAT, FEED_PATH, FeedEvent, HAND_OVER_PATH, PEM,
        ROLL_CALL_CERTIFICATES, ROLL_CALL_PATH, RollCallAnswer,
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};
use url::Url;

use self::link::{AuthorityClient, Question};
pub(crate) use self::link::{FeedEnd, Link, link};
use crate::{
    errors::{error_chain, find},
    files,
    names::Names,
    random,
    revocation::{ListFiles, LiveSet, Progress},
    tcp,
};

/// A feed that is silent for so long is dead; the authority speaks at least every [`FEED_HEARTBEAT`].
const SILENCE: Duration = Duration::from_secs(FEED_HEARTBEAT.as_secs() * 2);
/// How long a confirmation may take.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to connect, and for how long nothing may be acknowledged.
const PATIENCE: Duration = Duration::from_secs(2);
/// The wait before the first attempt to connect again, on average; it doubles with each failure ...
const BACKOFF: Duration = Duration::from_millis(100);
/// ... up to this, where the authority answers and the feed cannot be had, ...
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// ... and up to this while nobody is there, which costs nobody anything.
const MAX_BACKOFF_UNREACHABLE: Duration = Duration::from_secs(1);
/// The wait once a poll has reached the authority again, on average: others have, too, at the same moment.
const BACKOFF_RECOVERED: Duration = Duration::from_millis(500);
/// How long it may take to hand CRLs over: they may be long.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(30);
/// The media type of what is said.
const JSON: &str = "application/json";
/// The longest line that is read.
const MAX_LINE: usize = 64 * 1024;

/// A list that the feed speaks of: its distribution point, and the ends of its keeper's channels.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) url: String,
    pub(crate) announce: watch::Sender<Option<Current>>,
    pub(crate) progress: watch::Receiver<Progress>,
    /// Where what is in force is kept.
    pub(crate) files: ListFiles,
}

impl Announced {
    /// Tells the keeper. Whether there is a higher number than was ever announced in this run: that is remembered, also while the
    /// feed is not open.
    fn hear(&self, current: &Current) -> bool {
        self.announce.send_if_modified(|known| {
            let (before, now) = (known.as_ref().map(|known| known.number), Some(current.number));
            if now >= before {
                *known = Some(current.clone());
            }
            now > before
        })
    }
}

/// The relying party's end of the feed.
#[derive(Debug)]
pub(crate) struct Feed {
    client: AuthorityClient,
    authority: Url,
    opened: watch::Sender<Option<u64>>,
    /// What keepers want to know of the authority.
    questions: mpsc::Receiver<Question>,
    lists: Vec<Announced>,
    /// Changes when a poll reaches the authority after an outage.
    recoveries: watch::Receiver<u64>,
    live: LiveSet,
    /// Tells this run from every other.
    instance: String,
    /// What was reported as ended already.
    reported: u64,
    /// Whether this connection has seen the CRLs handed over.
    has_handed_over: bool,
    /// When a keeper's question last had the CRLs handed over.
    handed_over: Option<Instant>,
}

/// Why the feed broke off; it is opened again.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("{0}")]
    Http(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("the authority answered {0}")]
    Status(StatusCode),
    #[error("nothing was heard for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the authority said something that is no announcement: {0}")]
    Line(String),
    #[error("the authority ended it")]
    Ended,
}

/// What whole lines of the feed said.
#[derive(Debug, Default)]
struct Heard {
    /// Whether there is a number that was not announced before.
    is_news: bool,
    /// The last roll call in them.
    roll_call: Option<u64>,
}

impl Feed {
    pub(crate) fn new(end: FeedEnd, lists: Vec<Announced>, recoveries: watch::Receiver<u64>, live: LiveSet) -> Self {
        let FeedEnd { authority, client, opened, questions } = end;
        let instance = format!("{:032x}", u128::from_ne_bytes(random::octets()));
        Self {
            client,
            authority,
            opened,
            questions,
            lists,
            recoveries,
            live,
            instance,
            reported: 0,
            has_handed_over: false,
            handed_over: None,
        }
    }

    /// Keeps the feed open, for ever. While it is not, the keepers' own intervals are what brings news.
    pub(crate) async fn run(mut self) {
        let mut backoff = BACKOFF;
        let mut complained = false;
        let mut openings = 0;
        loop {
            let error = match self.open().await {
                Ok(body) => {
                    info!(authority = %self.authority, "feed open: revocations arrive at once");
                    (backoff, complained) = (BACKOFF, false);
                    openings += 1;
                    self.opened.send_replace(Some(openings));
                    let error = self.listen(body).await;
                    self.opened.send_replace(None);
                    error
                }
                Err(error) => error,
            };
            // One line when it begins, not one for each attempt.
            if !std::mem::replace(&mut complained, true) {
                warn!(%error, authority = %self.authority, "no feed: revocations arrive when the CRL is next polled");
            }
            backoff = backoff.min(longest_backoff(&error));
            tokio::select! {
                () = sleep(jittered(backoff)) => backoff *= 2,
                Ok(()) = self.recoveries.changed() => {
                    sleep(jittered(BACKOFF_RECOVERED)).await;
                    backoff = BACKOFF;
                }
            }
        }
    }

    async fn open(&self) -> Result<Incoming, FeedError> {
        let response = timeout(SILENCE, self.send(Method::GET, FEED_PATH, JSON, Bytes::new()));
        let response = response.await.map_err(|_| FeedError::Silent)??;
        if response.status() == StatusCode::OK {
            Ok(response.into_body())
        } else {
            Err(FeedError::Status(response.status()))
        }
    }

    /// Announces to the keepers what comes in, confirms what they have settled, and answers roll calls, until one fails.
    async fn listen(&mut self, mut body: Incoming) -> FeedError {
        let mut line = Vec::new();
        let mut confirmed = None;
        let mut roll_answered = None;
        self.has_handed_over = false;
        loop {
            let settled: Vec<_> = self.lists.iter_mut().map(|list| *list.progress.borrow_and_update()).collect();
            if confirmed.as_ref() != Some(&settled) {
                if let Err(error) = self.confirm(&settled).await {
                    return error;
                }
                confirmed = Some(settled);
            }
            let settlements = self.lists.iter_mut().map(|list| Box::pin(list.progress.changed()));
            let heard = tokio::select! {
                (settled, ..) = futures_util::future::select_all(settlements) => match settled {
                    Ok(()) => continue,
                    // The keepers have ended, and so is this to: the authority has nothing to do with it.
                    Err(_) => std::future::pending().await,
                },
                Some(question) = self.questions.recv() => Err(question),
                frame = timeout(SILENCE, body.frame()) => Ok(frame),
            };
            let frame = match heard {
                Ok(frame) => frame,
                Err(question) => match self.answer_keeper(question).await {
                    Ok(()) => continue,
                    Err(error) => return error,
                },
            };
            match frame {
                Err(_) => return FeedError::Silent,
                Ok(None) => return FeedError::Ended,
                Ok(Some(Err(error))) => return FeedError::Http(error_chain(&error)),
                Ok(Some(Ok(frame))) => {
                    line.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                    let heard = match self.announce(&mut line) {
                        Ok(heard) => heard,
                        Err(error) => return error,
                    };
                    if let Some(id) = heard.roll_call
                        && roll_answered != Some(id)
                    {
                        if let Err(error) = self.answer_roll_call(id).await {
                            return error;
                        }
                        roll_answered = Some(id);
                    }
                    // A heartbeat is answered with what is enforced, be it the newest or not: the authority says of each relying
                    // party when it was last heard of. News is answered when it is enforced.
                    if !heard.is_news {
                        confirmed = None;
                    }
                }
            }
        }
    }

    /// Takes the whole lines out of what came in.
    fn announce(&self, received: &mut Vec<u8>) -> Result<Heard, FeedError> {
        let mut heard = Heard::default();
        while let Some(end) = received.iter().position(|octet| *octet == b'\n') {
            let line: Vec<u8> = received.drain(..=end).collect();
            let event: FeedEvent = serde_json::from_slice(&line).map_err(|error| FeedError::Line(error.to_string()))?;
            heard.roll_call = event.roll_call.or(heard.roll_call);
            for list in &self.lists {
                if let Some(current) = event.crls.get(&list.url) {
                    heard.is_news |= list.hear(current);
                }
            }
        }
        if received.len() > MAX_LINE {
            return Err(FeedError::Line("a line without an end".to_owned()));
        }
        Ok(heard)
    }

    async fn confirm(&mut self, settled: &[Progress]) -> Result<(), FeedError> {
        let crls: BTreeMap<_, _> = self
            .lists
            .iter()
            .zip(settled)
            .filter_map(|(list, progress)| Some((list.url.clone(), progress.settled?)))
            .collect();
        let ended: u64 = settled.iter().map(|progress| progress.ended).sum();
        let admits_until = self.live.freshness().iter().filter_map(|list| list.admits_until).min();
        let confirmation = Confirmation {
            crls,
            admits_until,
            grace: self.live.policy().grace().as_secs(),
            instance: Some(self.instance.clone()),
            ended: ended - self.reported,
            open_connections: u64::try_from(self.live.open_connections()).unwrap_or(u64::MAX),
        };
        let word = serde_json::to_vec(&confirmation).map_err(|error| FeedError::Line(error.to_string()))?;
        match self.post(CONFIRM_PATH, JSON, word.clone(), CONFIRM_TIMEOUT).await {
            Err(FeedError::Status(StatusCode::CONFLICT)) if !self.has_handed_over => {
                // Once in a connection: whoever does not believe it then will not believe it later.
                self.has_handed_over = true;
                self.hand_over().await?;
                self.post(CONFIRM_PATH, JSON, word, CONFIRM_TIMEOUT).await
            }
            answered => answered,
        }
        .or_else(|error| if matches!(error, FeedError::Status(StatusCode::CONFLICT)) { Ok(()) } else { Err(error) })?;
        self.reported = ended;
        debug!(?confirmation, "confirmed");
        Ok(())
    }

    /// Says who is connected.
    async fn answer_roll_call(&self, id: u64) -> Result<(), FeedError> {
        let (tally, open_connections) = self.live.tally();
        let omitted = tally.len().saturating_sub(ROLL_CALL_CERTIFICATES);
        let mut connections: BTreeMap<String, BTreeMap<_, u64>> = BTreeMap::new();
        // The keys of one name are one issuer to who reads it: what is named there is a certificate of the authority that asks.
        for (certificate, count) in tally.into_iter().take(ROLL_CALL_CERTIFICATES) {
            let of_issuer = connections.entry(certificate.issuer.name.to_string()).or_default();
            *of_issuer.entry(certificate.serial).or_default() += count;
        }
        let omitted = u64::try_from(omitted).unwrap_or(u64::MAX);
        let answer = RollCallAnswer { id, connections, open_connections, omitted };
        let answer = serde_json::to_vec(&answer).map_err(|error| FeedError::Line(error.to_string()))?;
        self.post(ROLL_CALL_PATH, JSON, answer, CONFIRM_TIMEOUT).await
    }

    /// The authority does not know the numbers that were confirmed: it was restored from an older copy, and has forgotten what was
    /// revoked since. It gets the lists back that it had signed, as they are on the disk.
    async fn hand_over(&self) -> Result<(), FeedError> {
        warn!(authority = %self.authority, "the authority does not know the CRLs in force: it gets them back");
        let files: Vec<_> =
            self.lists.iter().flat_map(|list| [&list.files.complete, &list.files.delta]).cloned().collect();
        let read = move || files.iter().filter_map(|file| files::read(file).ok()).map(|der| pem::crl(&der)).collect();
        let text: String = spawn_blocking(read).await.expect("reading files does not panic");
        self.post(HAND_OVER_PATH, PEM, text.into_bytes(), HAND_OVER_TIMEOUT).await
    }

    async fn post(&self, path: &str, media: &str, body: Vec<u8>, patience: Duration) -> Result<(), FeedError> {
        let response = timeout(patience, self.send(Method::POST, path, media, body.into()));
        match response.await.map_err(|_| FeedError::Silent)??.status() {
            status if status.is_success() => Ok(()),
            status => Err(FeedError::Status(status)),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: Bytes,
    ) -> Result<http::Response<Incoming>, FeedError> {
        let fail = |error: &dyn Error| FeedError::Http(error_chain(error));
        let url = self.authority.join(path).map_err(|error| fail(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(header::CONTENT_TYPE, media)
            .body(Full::from(body))
            .map_err(|error| fail(&error))?;
        self.client.request(request).await.map_err(|error| {
            let text = error_chain(&error);
            if error.is_connect() && is_silence(&error) { FeedError::Unreachable(text) } else { FeedError::Http(text) }
        })
    }
}

/// Whether nobody was there to talk to; otherwise somebody was, and has ended the conversation.
fn is_silence(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, UnexpectedEof};
    // The TLS library's errors come wrapped in another.
    let mut io = find::<io::Error>(error);
    while let Some(inner) = io.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref()) {
        io = Some(inner);
    }
    let spoke = io.is_some_and(|error| {
        matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | InvalidData | UnexpectedEof)
    });
    !spoke && find::<rustls::Error>(error).is_none()
}

fn longest_backoff(error: &FeedError) -> Duration {
    match error {
        FeedError::Unreachable(_) | FeedError::Silent => MAX_BACKOFF_UNREACHABLE,
        _ => MAX_BACKOFF,
    }
}

/// Half of it to one and a half times it, so that a thousand relying parties do not come back in the same instant.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + f64::from(u32::from_ne_bytes(random::octets())) / f64::from(u32::MAX))
}
