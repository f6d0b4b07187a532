//! The feed: one HTTP/2 stream on which the authority announces CRLs, and the confirmation that is sent once a CRL is
//! enforced and on disk.
//!
//! It never trusts an announcement. It only says what to fetch, and a CRL is signed.

mod questions;

use std::{collections::BTreeMap, error::Error, io, time::Duration};

use edge::{errors::find, files, random};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use pki::{
    certificate::IssuerId,
    instance::InstanceId,
    pem,
    wire::{
        CONFIRM_PATH, Confirmation, Current, FEED_HEARTBEAT, FEED_PATH, FeedEvent, GOODBYE_PATH, HAND_OVER_PATH,
        INSTANCE_HEADER, PEM, PREDECESSORS_HEADER, Problem, ROLL_CALL_CERTIFICATES, ROLL_CALL_PATH, RollCallAnswer,
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use url::Url;

use crate::{
    authority::{backoff::Backoff, instance::Instance},
    errors::error_chain,
    metrics::Metrics,
    revocation::{
        self, AuthorityClient, Connector, FeedEnd, Freshness, ListFiles, LiveSet, Opening, Progress, Question,
    },
    standing::{AuthorityStanding, ServerRefusal},
    tls::ServerIdentity,
};

/// A feed without data for this long is dead. The authority sends at least every [`FEED_HEARTBEAT`].
const SILENCE: Duration = Duration::from_secs(FEED_HEARTBEAT.as_secs() * 2);
/// How long a confirmation may take.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// The average pause before the first reconnect. It doubles with each failure.
const BACKOFF: Duration = Duration::from_millis(100);
/// The upper limit of the pause if the authority answers but the feed cannot be opened.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// The upper limit of the pause while the authority does not answer, because then an attempt costs it nothing.
const MAX_BACKOFF_UNREACHABLE: Duration = Duration::from_secs(1);
/// The average pause once a poll has reached the authority again, because other instances notice at the same time.
const BACKOFF_RECOVERED: Duration = Duration::from_millis(500);
/// How long a CRL that revokes the authority may take to be confirmed. After that, nothing more is sent.
const LAST_WORD: Duration = Duration::from_secs(10);
/// Timeout for handing over CRLs, which may be long.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(30);
/// The media type of messages.
const JSON: &str = "application/json";
/// The longest line that is read, in bytes.
const MAX_LINE: usize = 64 * 1024;
/// The longest refusal that is read, in bytes.
const MAX_REFUSAL: usize = 16 * 1024;
/// Timeout of a goodbye, including the opening of a feed for it.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// A CRL that the feed announces: its distribution point, and the ends of its keeper's channels.
#[derive(Debug)]
pub(crate) struct FeedList {
    pub(crate) url: String,
    /// The issuer of its CRLs, if that is known beforehand.
    pub(crate) issuer: Option<IssuerId>,
    pub(crate) announce: watch::Sender<Option<Current>>,
    pub(crate) progress: watch::Receiver<Progress>,
    /// Where the CRL in force is stored.
    pub(crate) files: ListFiles,
}

impl FeedList {
    /// Whether a CRL is in force that is not settled yet.
    fn is_behind(&self, in_force: &[Freshness]) -> bool {
        let of = in_force.iter().find(|list| Some(&list.issuer) == self.issuer.as_ref());
        let number = of.and_then(|freshness| freshness.list).map(|list| list.number);
        number > self.progress.borrow().settled
    }

    /// Notifies the keeper. Returns whether the number is higher than any that was announced in this run. That is
    /// remembered also while the feed is not open.
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

/// The relying party's side of the feed.
#[derive(Debug)]
pub(crate) struct FeedClient {
    connector: Connector,
    client: AuthorityClient,
    authority: Url,
    opened: watch::Sender<Option<Opening>>,
    /// Queries of keepers to the authority.
    questions: mpsc::Receiver<Question>,
    /// Whether the authority itself is revoked, by the CRLs in force.
    standing: AuthorityStanding,
    lists: Vec<FeedList>,
    /// Changes when a poll reaches the authority after an outage.
    recoveries: watch::Receiver<u64>,
    backoff: Backoff,
    live: LiveSet,
    instance: Instance,
    metrics: Metrics,
    /// Changes when this process presents another certificate.
    replacements: watch::Receiver<u64>,
    /// The number of replacements before the connection was made.
    connected_since: u64,
    /// What this process presents.
    identity: Option<ServerIdentity>,
    /// The stream with the previous certificate, until the first confirmation with the new one has arrived. So the
    /// authority expects this instance at every moment.
    before: Option<(AuthorityClient, Incoming)>,
    /// The number of the last order to renew.
    renewal_orders: watch::Sender<Option<u64>>,
    leaving: CancellationToken,
    has_left: watch::Sender<bool>,
    /// Whether the CRLs were handed over on this connection.
    has_handed_over: bool,
    /// When the CRLs were last handed over because of a keeper's query.
    handed_over: Option<Instant>,
}

/// What ends a feed permanently.
#[derive(Debug)]
pub(crate) struct Goodbye {
    leaving: CancellationToken,
    has_left: watch::Receiver<bool>,
}

/// Why the feed was interrupted. It is opened again.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("{0}")]
    Http(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("the authority refuses ({status}): {detail}")]
    Refused {
        status: StatusCode,
        /// The authority's reason.
        detail: String,
    },
    #[error("no data for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the authority sent a line that is not an announcement: {0}")]
    Line(String),
    #[error("the authority ended it")]
    Ended,
    #[error("this relying party ends")]
    Leaving,
    #[error("the certificate that it was opened with was renewed")]
    Renewed,
    #[error("the authority's own certificate: {0}")]
    Revoked(#[from] ServerRefusal),
}

/// The content of the complete lines that were received.
#[derive(Debug, Default)]
struct FeedLines {
    /// Whether there is a number that was not announced before.
    is_news: bool,
    /// The last roll call in them.
    roll_call: Option<u64>,
}

impl FeedClient {
    pub(crate) fn new(
        end: FeedEnd,
        standing: AuthorityStanding,
        lists: Vec<FeedList>,
        recoveries: watch::Receiver<u64>,
        live: LiveSet,
        instance: Instance,
        replacements: watch::Receiver<u64>,
    ) -> Self {
        let FeedEnd { authority, connector, opened, questions } = end;
        let client = revocation::client_over(connector.clone());
        let (leaving, has_left) = (CancellationToken::new(), watch::Sender::new(false));
        let backoff = Backoff::new(BACKOFF, || u32::from_ne_bytes(random::bytes()));
        Self {
            connector,
            client,
            authority,
            opened,
            questions,
            standing,
            lists,
            recoveries,
            backoff,
            live,
            instance,
            metrics: Metrics::default(),
            replacements,
            connected_since: 0,
            identity: None,
            before: None,
            renewal_orders: watch::Sender::new(None),
            leaving,
            has_left,
            has_handed_over: false,
            handed_over: None,
        }
    }

    /// The same, with the metric of open feeds.
    pub(crate) fn counted(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same for a process that presents this identity. It settles the identity once the authority has registered it.
    pub(crate) fn presenting(self, identity: ServerIdentity) -> Self {
        identity.registers();
        Self { identity: Some(identity), ..self }
    }

    /// Makes a new connection the one that is used, with the certificate that is presented now. Returns the one before.
    fn reconnect(&mut self) -> AuthorityClient {
        self.connected_since = *self.replacements.borrow_and_update();
        self.instance.renewed();
        std::mem::replace(&mut self.client, revocation::client_over(self.connector.clone()))
    }

    /// The number of the last announced order to renew.
    pub(crate) fn renewal_orders(&self) -> watch::Receiver<Option<u64>> {
        self.renewal_orders.subscribe()
    }

    /// Requests a goodbye while the feed runs.
    pub(crate) fn goodbye(&self) -> Goodbye {
        Goodbye { leaving: self.leaving.clone(), has_left: self.has_left.subscribe() }
    }

    /// Keeps the feed open until a goodbye is requested, and sends it. Never returns.
    pub(crate) async fn run(mut self) {
        let leaving = self.leaving.clone();
        let watching = self.instance.clone().watch();
        tokio::select! {
            () = self.stay() => {}
            () = watching => {}
        }
        // The feed ended before the goodbye could be sent on it.
        if leaving.is_cancelled() && !*self.has_left.borrow() {
            let _ = timeout(GOODBYE_TIMEOUT, self.come_back_to_leave()).await;
        }
        self.instance.end();
        self.has_left.send_replace(true);
        std::future::pending::<()>().await;
    }

    /// Keeps the feed open until a goodbye is requested. While it is not open, the keepers poll at their own intervals.
    async fn stay(&mut self) {
        let mut complained = false;
        let mut openings = 0;
        loop {
            let leaving = self.leaving.clone();
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = leaving.cancelled() => return,
            };
            let error = match opened {
                Ok(mut body) => {
                    info!(authority = %self.authority, "feed open: revocations arrive at once");
                    self.backoff.restart();
                    complained = false;
                    openings += 1;
                    self.opened.send_replace(Some(Opening { count: openings, client: self.client.clone() }));
                    self.metrics.feed_is_open(true);
                    let error = self.listen(&mut body).await;
                    if matches!(error, FeedError::Renewed) {
                        // The previous connection stays open until the one with the new certificate is open.
                        self.before = Some((self.reconnect(), body));
                        continue;
                    }
                    error
                }
                Err(error) => error,
            };
            self.before = None;
            self.metrics.feed_is_open(false);
            self.opened.send_replace(None);
            self.instance.disconnected();
            if matches!(error, FeedError::Leaving) {
                return;
            }
            // Logs one line when it begins, not one for each attempt.
            if !std::mem::replace(&mut complained, true) {
                warn!(%error, authority = %self.authority, "no feed: revocations arrive when the CRL is next polled");
            }
            if matches!(error, FeedError::Revoked(_) | FeedError::Refused { .. }) {
                // A new connection, because a certificate may have changed since the last one.
                drop(self.reconnect());
            }
            tokio::select! {
                () = leaving.cancelled() => return,
                () = sleep(self.backoff.pause(longest_backoff(&error))) => {}
                Ok(()) = self.replacements.changed() => drop(self.reconnect()),
                Ok(()) = self.recoveries.changed() => {
                    sleep(self.backoff.jittered(BACKOFF_RECOVERED)).await;
                    self.backoff.restart();
                }
            }
        }
    }

    async fn open(&self) -> Result<Incoming, FeedError> {
        let response = timeout(SILENCE, self.send(Method::GET, FEED_PATH, JSON, Bytes::new()));
        let response = response.await.map_err(|_| FeedError::Silent)??;
        if response.status() != StatusCode::OK {
            return Err(refusal(response).await);
        }
        let standing =
            response.headers().get(PREDECESSORS_HEADER).and_then(|ids| ids.to_str().ok()).unwrap_or_default();
        let standing: Vec<InstanceId> = standing.split(',').filter_map(|id| id.trim().parse().ok()).collect();
        self.instance.registered(&standing).await;
        // Otherwise it was replaced meanwhile, and the feed will be opened again.
        if let Some(identity) = &self.identity
            && *self.replacements.borrow() == self.connected_since
        {
            identity.settle();
        }
        Ok(response.into_body())
    }

    /// Reports on the open feed that this relying party admits nobody any more.
    async fn leave(&mut self) {
        if !self.instance.leave().await {
            return;
        }
        let said = self.post(GOODBYE_PATH, JSON, Vec::new(), CONFIRM_TIMEOUT).await;
        match &said {
            Ok(()) => info!(authority = %self.authority, "said goodbye to the authority"),
            Err(error) => warn!(
                %error, authority = %self.authority,
                "the authority may not have received the goodbye; then it expects this relying party until the next \
                 one is started in its directory"
            ),
        }
        self.instance.left(said.is_ok()).await;
        self.has_left.send_replace(true);
    }

    /// Opens the feed once more, if it was ever open, to send a goodbye on it.
    async fn come_back_to_leave(&mut self) {
        if self.instance.is_registered()
            && let Ok(_body) = self.open().await
        {
            self.leave().await;
        }
    }

    /// Announces received CRLs to the keepers, confirms settled ones, and answers roll calls, until one of these fails.
    async fn listen(&mut self, body: &mut Incoming) -> FeedError {
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
                self.before = None;
            }
            // The feed is opened before the CRLs are present, because they are fetched over its connection. The
            // authority is checked by them as soon as they are in force. The last message confirms the CRL that revokes
            // the authority, because its revocation waits for that.
            if let Err(refusal) = self.standing.check() {
                // It is in force, and may not be on disk yet.
                if timeout(LAST_WORD, self.settled()).await.is_ok() {
                    let settled: Vec<_> = self.lists.iter().map(|list| *list.progress.borrow()).collect();
                    if confirmed.as_ref() != Some(&settled) {
                        let _ = self.confirm(&settled).await;
                    }
                }
                return refusal.into();
            }
            let leaving = self.leaving.clone();
            let settlements = self.lists.iter_mut().map(|list| Box::pin(list.progress.changed()));
            let heard = tokio::select! {
                biased;
                Ok(()) = self.replacements.changed() => return FeedError::Renewed,
                (settled, ..) = futures_util::future::select_all(settlements) => match settled {
                    Ok(()) => continue,
                    // The keepers have ended, so this task will end too. The authority is not the cause.
                    Err(_) => std::future::pending().await,
                },
                Some(question) = self.questions.recv() => Err(question),
                frame = timeout(SILENCE, body.frame()) => Ok(frame),
                () = leaving.cancelled() => break,
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
                    // A heartbeat is answered with the enforced numbers, even if they are not the newest, so that the
                    // authority has a time of last contact. News is answered when it is enforced.
                    if !heard.is_news {
                        confirmed = None;
                    }
                }
            }
        }
        // While the stream is open: it is what identifies this instance.
        self.leave().await;
        FeedError::Leaving
    }

    /// Takes the complete lines out of the received data.
    fn announce(&self, received: &mut Vec<u8>) -> Result<FeedLines, FeedError> {
        let mut heard = FeedLines::default();
        while let Some(end) = received.iter().position(|octet| *octet == b'\n') {
            let line: Vec<u8> = received.drain(..=end).collect();
            let event: FeedEvent = serde_json::from_slice(&line).map_err(|error| FeedError::Line(error.to_string()))?;
            heard.roll_call = event.roll_call.or(heard.roll_call);
            self.renewal_orders.send_if_modified(|known| {
                // After a restore the numbers begin lower again.
                let is_news = event.renewal_order.is_some() && event.renewal_order != *known;
                if is_news {
                    *known = event.renewal_order;
                }
                is_news
            });
            for list in &self.lists {
                if let Some(current) = event.crls.get(&list.url) {
                    heard.is_news |= list.hear(current);
                }
            }
        }
        if received.len() > MAX_LINE {
            return Err(FeedError::Line("a line that is too long".to_owned()));
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
        let admits_until =
            self.live.freshness().iter().filter_map(|freshness| Some(freshness.list?.admits_until)).min();
        let confirmation = Confirmation {
            crls,
            admits_until,
            grace: self.live.policy().grace().as_secs(),
            ended: settled.iter().map(|progress| progress.ended).sum(),
            open_connections: u64::try_from(self.live.open_connections()).unwrap_or(u64::MAX),
        };
        let word = serde_json::to_vec(&confirmation).map_err(|error| FeedError::Line(error.to_string()))?;
        let lead = self.instance.confirming(admits_until);
        match self.post(CONFIRM_PATH, JSON, word.clone(), CONFIRM_TIMEOUT).await {
            Err(error) if error.is_conflict() && !self.has_handed_over => {
                // Once for each connection: a CRL that was refused will be refused again.
                self.has_handed_over = true;
                match self.hand_over().await {
                    // It would be refused on another connection as well.
                    Err(
                        error @ FeedError::Refused {
                            status: StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE,
                            ..
                        },
                    ) => {
                        warn!(%error, authority = %self.authority, "the authority refuses a handover of CRLs");
                    }
                    handed_over => handed_over?,
                }
                self.post(CONFIRM_PATH, JSON, word, CONFIRM_TIMEOUT).await
            }
            answered => answered,
        }
        .or_else(|error| if error.is_conflict() { Ok(()) } else { Err(error) })?;
        self.instance.confirmed(admits_until, lead).await;
        debug!(?confirmation, "confirmed");
        Ok(())
    }

    /// Waits until everything that is in force is settled.
    async fn settled(&mut self) {
        loop {
            let in_force = self.live.freshness();
            let Some(behind) = self.lists.iter_mut().find(|list| list.is_behind(&in_force)) else { return };
            if behind.progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Reports which certificates are connected.
    async fn answer_roll_call(&self, id: u64) -> Result<(), FeedError> {
        let (tally, open_connections) = self.live.tally();
        let omitted = tally.len().saturating_sub(ROLL_CALL_CERTIFICATES);
        let mut connections: BTreeMap<String, BTreeMap<_, u64>> = BTreeMap::new();
        // The roll call has issuers by name only, so all keys of one name are reported as one issuer.
        for (certificate, count) in tally.into_iter().take(ROLL_CALL_CERTIFICATES) {
            let of_issuer = connections.entry(certificate.issuer.name.to_string()).or_default();
            *of_issuer.entry(certificate.serial).or_default() += count;
        }
        let omitted = u64::try_from(omitted).unwrap_or(u64::MAX);
        let answer = RollCallAnswer { id, connections, open_connections, omitted };
        let answer = serde_json::to_vec(&answer).map_err(|error| FeedError::Line(error.to_string()))?;
        self.post(ROLL_CALL_PATH, JSON, answer, CONFIRM_TIMEOUT).await
    }

    /// Hands over the CRLs on disk. The authority does not have the confirmed numbers, because it was restored from an
    /// older copy and has lost the revocations since.
    async fn hand_over(&self) -> Result<(), FeedError> {
        warn!(authority = %self.authority, "the authority does not have the CRLs in force, so they are handed over");
        let files: Vec<_> =
            self.lists.iter().flat_map(|list| [&list.files.complete, &list.files.delta]).cloned().collect();
        // The authority accepts all of them or none. A damaged CRL, or one of another authority, would prevent the
        // others.
        let live = self.live.clone();
        let read = move || {
            let lists = files.iter().filter_map(|file| files::read(file).ok());
            lists.filter(|der| live.identify(der).is_ok()).map(|der| pem::crl(&der)).collect()
        };
        let text: String = spawn_blocking(read).await.expect("reading files does not panic");
        self.post(HAND_OVER_PATH, PEM, text.into_bytes(), HAND_OVER_TIMEOUT).await
    }

    async fn post(&self, path: &str, media: &str, body: Vec<u8>, patience: Duration) -> Result<(), FeedError> {
        let response = timeout(patience, self.send(Method::POST, path, media, body.into()));
        let response = response.await.map_err(|_| FeedError::Silent)??;
        if response.status().is_success() { Ok(()) } else { Err(refusal(response).await) }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: Bytes,
    ) -> Result<http::Response<Incoming>, FeedError> {
        let fail = |error: &(dyn Error + 'static)| FeedError::Http(error_chain(error));
        let url = self.authority.join(path).map_err(|error| fail(&error))?;
        let mut request = Request::new(Full::from(body));
        (*request.method_mut(), *request.uri_mut()) = (method, url.as_str().parse().map_err(|error| fail(&error))?);
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(media).map_err(|error| fail(&error))?);
        insert_secret(headers, INSTANCE_HEADER, &self.instance.secret());
        if path == FEED_PATH {
            insert_secret(headers, PREDECESSORS_HEADER, &self.instance.predecessors());
        }
        self.client.request(request).await.map_err(|error| {
            let text = error_chain(&error);
            if error.is_connect() && is_silence(&error) { FeedError::Unreachable(text) } else { FeedError::Http(text) }
        })
    }
}

/// A header that is not logged. Secrets are ASCII.
fn insert_secret(headers: &mut HeaderMap, name: &'static str, secret: &str) {
    if let Ok(mut value) = HeaderValue::from_str(secret) {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}

impl FeedError {
    /// Whether the authority does not have the confirmed numbers.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::CONFLICT, .. })
    }
}

/// The reason for a refusal.
async fn refusal(response: http::Response<Incoming>) -> FeedError {
    let status = response.status();
    let body = timeout(CONFIRM_TIMEOUT, Limited::new(response.into_body(), MAX_REFUSAL).collect()).await;
    let problem = body.ok().and_then(Result::ok).and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
    let detail = problem.map_or_else(|| "no reason was given".to_owned(), |Problem { detail, .. }| detail);
    FeedError::Refused { status, detail }
}

/// Whether the authority was not reached. Otherwise it has ended the connection.
fn is_silence(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, UnexpectedEof};
    // The TLS library's errors are wrapped in an I/O error.
    let mut io = find::<io::Error>(error);
    while let Some(inner) = io.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref()) {
        io = Some(inner);
    }
    let spoke = io.is_some_and(|error| {
        matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | InvalidData | UnexpectedEof)
    });
    !spoke && find::<rustls::Error>(error).is_none()
}

impl Goodbye {
    /// Requests the goodbye, and waits until it was sent or failed.
    pub(crate) async fn say(&self) {
        self.leaving.cancel();
        let mut has_left = self.has_left.clone();
        // The sender is gone with its tasks, if they were dropped.
        let _ = timeout(GOODBYE_TIMEOUT + CONFIRM_TIMEOUT, has_left.wait_for(|has_left| *has_left)).await;
    }
}

fn longest_backoff(error: &FeedError) -> Duration {
    match error {
        FeedError::Unreachable(_) | FeedError::Silent => MAX_BACKOFF_UNREACHABLE,
        _ => MAX_BACKOFF,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, sync::mpsc};

    use rustls::{ClientConfig, RootCertStore, version::TLS13};
    use tempfile::TempDir;
    use tokio::time::Instant;

    use super::*;
    use edge::clock::Clock;

    /// A feed to an address at which nothing listens, a sender that reports polls, and its directory.
    fn to_nobody() -> (FeedClient, watch::Sender<u64>, TempDir) {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let tls = ClientConfig::builder_with_provider(crate::tls::provider::provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap();
        let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let (recovered, recoveries) = watch::channel(0);
        let authority = format!("https://{address}").parse().unwrap();
        let (live, directory) = (LiveSet::new(Vec::new()), tempfile::tempdir().unwrap());
        let instance = Instance::begin(directory.path(), live.clone(), Clock::system()).unwrap();
        let standing = AuthorityStanding::new(live.clone(), Clock::system());
        let (_, end) = revocation::link(&authority, tls);
        let (_, replacements) = watch::channel(0);
        let feed = FeedClient::new(end, standing, Vec::new(), recoveries, live, instance, replacements);
        (feed, recovered, directory)
    }

    /// A thousand relying parties that lose their authority at the same time must not reconnect at the same time.
    #[tokio::test(start_paused = true)]
    async fn every_pause_between_two_attempts_is_drawn() {
        for (drawn, permille) in [(0, 500), (u32::MAX, 1500)] {
            let (mut feed, recovered, _directory) = to_nobody();
            let (sender, attempts) = mpsc::channel();
            let mut count = 0;
            feed.backoff = Backoff::new(BACKOFF, move || {
                count += 1;
                if count == 7 {
                    // In the middle of the seventh pause. The next draw is for the pause that replaces it.
                    recovered.send_modify(|recoveries| *recoveries += 1);
                }
                let _ = sender.send(Instant::now());
                drawn
            });
            let running = tokio::spawn(feed.run());
            let mut failures = Vec::new();
            // The paused clock advances when no task can make progress.
            let all = async {
                while failures.len() < 10 {
                    sleep(Duration::from_millis(1)).await;
                    failures.extend(attempts.try_iter());
                }
            };
            timeout(Duration::from_mins(5), all).await.expect("each pause is drawn");
            running.abort();
            let pauses = failures.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis());
            let expected = [100, 200, 400, 800, 1000, 1000, 0, 500, 100].map(|average| average * permille / 1000);
            for (pause, expected) in pauses.zip(expected) {
                // Timers have a resolution of a millisecond.
                assert!(
                    (expected..expected + 10).contains(&pause),
                    "{pause} ms in place of {expected} ms, {failures:?}"
                );
            }
        }
    }

    /// It draws from the operating system's generator. Four equal draws are practically impossible.
    #[tokio::test]
    async fn no_two_relying_parties_draw_the_same() {
        let mut pauses: Vec<_> = (0..4).map(|_| to_nobody().0.backoff.pause(MAX_BACKOFF)).collect();
        pauses.dedup();
        assert!(pauses.len() > 1, "{pauses:?}");
    }
}
