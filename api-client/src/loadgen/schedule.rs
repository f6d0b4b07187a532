//! How many requests are sent, and when each is due.
//!
//! It never sends any.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

/// How late a timer may fire: it counts in milliseconds, and so does the system call below it. Such a delay is not
/// counted as the service's latency.
const TIMER: Duration = Duration::from_millis(2);

/// The amount to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    /// This number of requests.
    Requests(u64),
    /// As many as can be sent in this time.
    Time(Duration),
}

/// The remaining amount of one connection. Its streams share it.
#[derive(Debug)]
pub(crate) enum Budget {
    Requests(AtomicU64),
    Until(Instant),
}

impl Budget {
    /// The share of one connection. Shares are fixed so that every connection is opened, because a layer-4 balancer
    /// distributes connections only.
    pub(crate) fn of(amount: Amount, began: Instant, index: u64, connections: u64) -> Self {
        match amount {
            Amount::Requests(requests) => {
                let share = requests / connections + u64::from(index < requests % connections);
                Self::Requests(AtomicU64::new(share))
            }
            Amount::Time(period) => Self::Until(began + period),
        }
    }

    /// Takes one request, if any is left.
    pub(crate) fn take(&self) -> bool {
        match self {
            Self::Requests(left) => {
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            }
            Self::Until(end) => Instant::now() < *end,
        }
    }

    /// When sending ends. `None` if the amount is a number of requests.
    pub(crate) fn end(&self) -> Option<Instant> {
        match self {
            Self::Requests(_) => None,
            Self::Until(end) => Some(*end),
        }
    }
}

/// The pace of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Each is sent when the one before it on its stream is answered.
    Closed,
    /// At this rate on all connections together, whether or not earlier requests are answered.
    Open {
        /// Positive.
        per_second: f64,
    },
}

impl Pace {
    /// The schedule of one stream. The streams take turns.
    pub(crate) fn schedule(self, began: Instant, index: u64, streams: u64) -> Schedule {
        let Self::Open { per_second } = self else { return Schedule::Closed };
        #[expect(clippy::cast_precision_loss, reason = "there are at most some millions of streams")]
        let (index, streams) = (index as f64, streams as f64);
        Schedule::Open {
            first: began + Duration::from_secs_f64(index / per_second),
            interval: Duration::from_secs_f64(streams / per_second),
            sent: AtomicU64::new(0),
        }
    }
}

/// When the requests of one stream are due.
#[derive(Debug)]
pub(crate) enum Schedule {
    Closed,
    Open { first: Instant, interval: Duration, sent: AtomicU64 },
}

impl Schedule {
    /// Waits until the next request is due, and returns from when its latency counts. If this stream is behind, that is
    /// when the request was due; if only the timer fired a little late, it is when the request is sent. `None` if the
    /// request would be due after `end`.
    pub(crate) async fn wait(&self, end: Option<Instant>) -> Option<Instant> {
        match self {
            Self::Closed => Some(Instant::now()),
            Self::Open { first, interval, sent } => {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                #[expect(clippy::cast_precision_loss, reason = "nobody sends 2^52 requests")]
                let due = *first + interval.mul_f64(number as f64);
                if due <= Instant::now() {
                    return Some(due);
                }
                if end.is_some_and(|end| due >= end) {
                    return None;
                }
                sleep_until(due.into()).await;
                Some(Instant::now().min(due + TIMER))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_sent_by_exactly_one_connection() {
        for (requests, connections) in [(1, 1), (50, 6), (7, 7), (100, 9)] {
            let began = Instant::now();
            let taken = |index| {
                let budget = Budget::of(Amount::Requests(requests), began, index, connections);
                std::iter::repeat_with(|| budget.take()).take_while(|taken| *taken).count()
            };
            let shares: Vec<_> = (0..connections).map(taken).collect();
            assert_eq!(shares.iter().sum::<usize>(), usize::try_from(requests).unwrap(), "{shares:?}");
            assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
        }
    }

    #[tokio::test]
    async fn an_open_loop_does_not_wait_for_answers() {
        // Ten seconds behind: everything is due at once, and latencies count from when requests were due.
        let began = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let streams: Vec<_> = (0..2).map(|index| Pace::Open { per_second: 100.0 }.schedule(began, index, 2)).collect();
        let mut due = Vec::new();
        for stream in streams.iter().chain(&streams) {
            due.push((stream.wait(None).await.unwrap() - began).as_millis());
        }
        assert_eq!(due, [0, 10, 20, 30]);
    }

    #[tokio::test]
    async fn nothing_is_waited_for_that_is_due_after_the_end() {
        let began = Instant::now();
        let budget = Budget::of(Amount::Time(Duration::from_hours(1)), began, 0, 1);
        // The last of many streams, whose turn comes in ten hours.
        let schedule = Pace::Open { per_second: 0.1 }.schedule(began, 3_600, 3_601);
        assert!(budget.take());
        assert_eq!(schedule.wait(budget.end()).await, None);
    }
}
