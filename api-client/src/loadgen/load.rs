//! Distributes requests over connections, and connections over threads.
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

use mtls::standing::ServerStanding;
use rustls::ClientConfig;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    lanes::Lanes,
    schedule::{Amount, Budget, Pace},
    summary::Summary,
};
use crate::{
    connection::{Connection, Target},
    outcome::{Answer, Failure},
    repeat::Repeats,
    stop::Stop,
};

/// The load to send.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) target: Target,
    pub(crate) amount: Amount,
    pub(crate) pace: Pace,
    pub(crate) connections: u64,
    /// The number of concurrent requests on each connection.
    pub(crate) streams: u64,
}

/// What is reported while requests are sent.
#[derive(Clone, Debug)]
pub(crate) enum Watcher {
    /// The outcome of each request, in order of completion.
    Each(mpsc::Sender<Result<Answer, Failure>>),
    /// The number of completed requests.
    Count(Arc<AtomicU64>),
}

/// The connections of a load, made when they are needed.
pub(crate) struct Connections {
    all: Vec<Arc<Connection>>,
    lanes: Lanes,
    repeats: Repeats,
    load: Load,
}

impl Connections {
    /// Connections use the identities in turn: each is a TLS configuration and the revocation status of services.
    pub(crate) fn new(load: Load, identities: &[(ClientConfig, ServerStanding)]) -> io::Result<Self> {
        let repeats = Repeats::default();
        let tls = identities.iter().cycle().zip(0..load.connections);
        let all = tls.map(|((tls, standing), _)| {
            Arc::new(Connection::new(load.target.clone(), tls.clone(), standing, repeats.clone()))
        });
        let all = all.collect();
        Ok(Self { all, lanes: Lanes::start(load.connections)?, repeats, load })
    }

    /// Sends requests for this long and discards the outcomes, to open connections and fill caches.
    pub(crate) async fn warm_up(&self, period: Duration, stop: &Stop) {
        if !period.is_zero() {
            self.drive(Amount::Time(period), &Watcher::Count(Arc::default()), stop).await;
        }
    }

    /// Sends everything, or until stopped. Requests in flight at that time are not counted.
    pub(crate) async fn send(&self, watcher: Watcher, stop: &Stop) -> Summary {
        self.drive(self.load.amount, &watcher, stop).await
    }

    async fn drive(&self, amount: Amount, watcher: &Watcher, stop: &Stop) -> Summary {
        let mut workers = JoinSet::new();
        let began = Instant::now();
        let total = self.load.connections * self.load.streams;
        // One summary per thread, so no thread waits for another. One per stream would not fit into the processor's
        // caches.
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

    /// The repeated requests.
    pub(crate) fn repeats(&self) -> &Repeats {
        &self.repeats
    }

    /// The number of handshakes so far: full ones, and resumed ones.
    pub(crate) fn handshakes(&self) -> (u64, u64) {
        let counts = self.all.iter().map(|connection| connection.handshakes());
        counts.fold((0, 0), |(full, resumed), (more, others)| (full + more, resumed + others))
    }
}

impl Watcher {
    /// Fails if nothing receives outcomes any more.
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
