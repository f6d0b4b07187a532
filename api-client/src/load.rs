//! Sends requests over a number of connections, each of its own, and counts what came of every one.
//!
//! It never prints.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use edge::errors::find;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use mtls::{
    errors::{certificate_error, error_chain},
    standing::{ServerRefusal, ServerStanding},
};
use pki::wire::Problem;
use rustls::{ClientConfig, client::Resumption};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    alert::{LastAlert, Noting},
    lanes::Lanes,
    outcome::{Answer, Failure, FailureKind, Summary},
    repeat::{self, Fate, Repeats},
    schedule::{Amount, Budget, Pace},
    stop::Stop,
};

/// The largest answer that is read.
const MAX_BODY: usize = 1024 * 1024;

/// What is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) uri: Uri,
    pub(crate) amount: Amount,
    pub(crate) pace: Pace,
    pub(crate) connections: u64,
    /// How many requests each connection has under way at a time.
    pub(crate) streams: u64,
    pub(crate) handshakes: Handshakes,
    pub(crate) timeout: Duration,
}

/// When a connection is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshakes {
    /// When there is none yet, or no more.
    AsNeeded,
    /// For every request, in full.
    Full,
    /// For every request, resuming a session where there is one.
    Resumed,
}

/// What is told while requests are under way.
#[derive(Clone, Debug)]
pub(crate) enum Watcher {
    /// What came of each, in the order in which it came about.
    Each(mpsc::Sender<Result<Answer, Failure>>),
    /// How many are done.
    Count(Arc<AtomicU64>),
}

/// The connections over which a load is sent, made as they are needed.
pub(crate) struct Connections {
    all: Vec<Arc<Connection>>,
    lanes: Lanes,
    repeats: Repeats,
    load: Load,
}

impl Connections {
    /// Each configuration in turn is that of a connection: one for every identity, with whom it asks about services.
    pub(crate) fn new(load: Load, identities: &[(ClientConfig, ServerStanding)]) -> io::Result<Self> {
        let repeats = Repeats::default();
        let tls = identities.iter().cycle().zip(0..load.connections);
        let all =
            tls.map(|((tls, standing), _)| Arc::new(Connection::new(&load, tls.clone(), standing, repeats.clone())));
        let all = all.collect();
        Ok(Self { all, lanes: Lanes::start(load.connections)?, repeats, load })
    }

    /// Sends for so long, and forgets what came of it: caches are filled then, and connections open.
    pub(crate) async fn warm_up(&self, period: Duration, stop: &Stop) {
        if !period.is_zero() {
            self.drive(Amount::Time(period), &Watcher::Count(Arc::default()), stop).await;
        }
    }

    /// Sends everything, or what can be sent until it is stopped. What is under way then counts for nothing.
    pub(crate) async fn send(&self, watcher: Watcher, stop: &Stop) -> Summary {
        self.drive(self.load.amount, &watcher, stop).await
    }

    async fn drive(&self, amount: Amount, watcher: &Watcher, stop: &Stop) -> Summary {
        let mut workers = JoinSet::new();
        let began = Instant::now();
        let total = self.load.connections * self.load.streams;
        // One for each thread, where nobody waits for it: one for each stream would not fit into the processor's caches.
        let summaries: Vec<_> = (0..self.lanes.len()).map(|_| Arc::new(Mutex::new(Summary::new()))).collect();
        for (lane, (connection, index)) in self.all.iter().zip(0..).enumerate() {
            let budget = Arc::new(Budget::of(amount, began, index, self.load.connections));
            let lane = lane % self.lanes.len();
            for stream in 0..self.load.streams {
                let schedule = self.load.pace.schedule(began, stream * self.load.connections + index, total);
                let (connection, budget, watcher) = (Arc::clone(connection), Arc::clone(&budget), watcher.clone());
                let summary = Arc::clone(&summaries[lane]);
                let worker = async move {
                    while budget.take() {
                        let Some(due) = schedule.wait(budget.end()).await else { break };
                        let outcome = connection.request(due).await;
                        summary.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome);
                        if watcher.tell(outcome).await.is_err() {
                            break;
                        }
                    }
                };
                workers.spawn_on(worker, self.lanes.handle(lane));
            }
        }
        loop {
            tokio::select! {
                ended = workers.join_next() => match ended {
                    None => break,
                    Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Some(_) => {}
                },
                () = stop.asked(), if !workers.is_empty() => {
                    workers.shutdown().await;
                    break;
                }
            }
        }
        let mut sum = Summary::new();
        for summary in &summaries {
            sum.merge(&summary.lock().unwrap_or_else(PoisonError::into_inner));
        }
        sum
    }

    /// What was sent again.
    pub(crate) fn repeats(&self) -> &Repeats {
        &self.repeats
    }

    /// How many handshakes there were so far: full ones, and those that resumed a session.
    pub(crate) fn handshakes(&self) -> (u64, u64) {
        let counts = self.all.iter().map(|connection| connection.last_alert.handshakes());
        counts.fold((0, 0), |(full, resumed), (more, others)| (full + more, resumed + others))
    }
}

impl Watcher {
    /// An error if nobody watches any more.
    async fn tell(&self, outcome: Result<Answer, Failure>) -> Result<(), ()> {
        match self {
            Self::Each(outcomes) => outcomes.send(outcome).await.map_err(|_| ()),
            Self::Count(done) => {
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

/// A client of its own for each connection: a shared one would send everything over one.
struct Connection {
    client: Client<Noting, Empty<Bytes>>,
    last_alert: LastAlert,
    repeats: Repeats,
    uri: Uri,
    timeout: Duration,
}

impl Connection {
    fn new(load: &Load, mut tls: ClientConfig, standing: &ServerStanding, repeats: Repeats) -> Self {
        if load.handshakes == Handshakes::Full {
            tls.resumption = Resumption::disabled();
        }
        let last_alert = LastAlert::default();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // With several requests under way, each would wait for the acknowledgement of the one before it.
        tcp.set_nodelay(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_all_versions().wrap_connector(tcp);
        let mut client = Client::builder(TokioExecutor::new());
        if load.handshakes != Handshakes::AsNeeded {
            client.pool_max_idle_per_host(0);
        }
        let connector = standing.connector(connector);
        let client = client.build(Noting { connector, last: last_alert.clone() });
        Self { client, last_alert, repeats, uri: load.uri.clone(), timeout: load.timeout }
    }

    /// Sends one request. Its latency counts from `due`, which was before now if the requests before it took too long: otherwise a
    /// service that stalls would be asked less often just then, and look the better for it.
    async fn request(&self, due: Instant) -> Result<Answer, Failure> {
        let body = timeout(self.timeout, self.persistent_exchange()).await.unwrap_or_else(|_| {
            let detail = format!("no answer within {}", humantime::format_duration(self.timeout));
            Err(Failure { kind: FailureKind::Timeout, detail })
        })?;
        Ok(Answer { body, latency: due.elapsed() })
    }

    /// An exchange that is repeated where that is right.
    async fn persistent_exchange(&self) -> Result<String, Failure> {
        for pause in repeat::PAUSES {
            match self.exchange().await {
                Err((_, Some(fate))) => self.repeats.count(fate),
                result => return result.map_err(|(failure, _)| failure),
            }
            sleep(pause).await;
        }
        self.exchange().await.map_err(|(failure, _)| failure)
    }

    async fn exchange(&self) -> Result<String, (Failure, Option<Fate>)> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        let response = self.client.request(request).await.map_err(|error| self.failure(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| self.failure(error.as_ref()))?.to_bytes();
        if status == StatusCode::OK {
            return Ok(String::from_utf8_lossy(&body).into_owned());
        }
        let detail = serde_json::from_slice(&body).map_or_else(|_| String::new(), |problem: Problem| problem.detail);
        Err((Failure { kind: FailureKind::status(status), detail }, None))
    }

    fn failure(&self, error: &(dyn std::error::Error + 'static)) -> (Failure, Option<Fate>) {
        let failure = self.explain(error);
        let fate = repeat::fate(&failure.kind, error);
        (failure, fate)
    }

    fn explain(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        let told = |kind| Failure { kind, detail: String::new() };
        let explained = |kind| Failure { kind, detail: error_chain(error) };
        if let Some(alert) = self.last_alert.take() {
            return told(FailureKind::alert(alert));
        }
        if let Some(refusal) = ServerRefusal::find(error) {
            let kind = match refusal {
                ServerRefusal::Revoked(_) => FailureKind::ServerRevoked,
                ServerRefusal::Unknown(_) => FailureKind::ServerNotKnown,
            };
            return Failure { kind, detail: refusal.to_string() };
        }
        if let Some(tls) = find::<rustls::Error>(error) {
            return match tls {
                rustls::Error::AlertReceived(alert) => told(FailureKind::alert(*alert)),
                rustls::Error::InvalidCertificate(why) => {
                    Failure { kind: FailureKind::ServerNotTrusted, detail: certificate_error(why) }
                }
                _ => explained(FailureKind::Other),
            };
        }
        match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => told(FailureKind::ConnectionRefused),
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof) => {
                explained(FailureKind::ConnectionClosed)
            }
            // What HTTP itself reports without an I/O error beneath is a connection that ended too early.
            None if find::<hyper::Error>(error).is_some() => explained(FailureKind::ConnectionClosed),
            _ => explained(FailureKind::Other),
        }
    }
}
