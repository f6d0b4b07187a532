//! The report after the last answer, for people and for programs.
//!
//! It never prints.

use std::{fmt::Write as _, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::{
    histogram,
    load::Load,
    summary::{Short, Summary},
};
use crate::repeat::Repeats;

/// From this number of requests on, the latencies are drawn.
const MANY: u64 = 100;

/// The results of a run.
pub(crate) struct Run {
    pub(crate) load: Load,
    pub(crate) summary: Summary,
    /// Includes those of the warm-up.
    pub(crate) repeats: Repeats,
    /// Whether the run was stopped early.
    pub(crate) is_interrupted: bool,
    pub(crate) elapsed: Duration,
    /// The CPU time of this client. If it is more than that of the service, the run measured the client.
    pub(crate) processor: Duration,
    /// Full handshakes and resumed ones.
    pub(crate) handshakes: (u64, u64),
}

impl Run {
    fn per_request(&self) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "nobody sends 2^52 requests")]
        let requests = self.summary.requests().max(1) as f64;
        self.processor.div_f64(requests)
    }

    fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "nobody sends 2^52 requests")]
        let answered = self.summary.answered() as f64;
        answered / self.elapsed.as_secs_f64()
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut report = self.summary.to_json(self.elapsed);
        let (full, resumed) = self.handshakes;
        report["connections"] = self.load.connections.into();
        report["streams"] = self.load.streams.into();
        report["answeredPerSecond"] = self.per_second().into();
        report["interrupted"] = self.is_interrupted.into();
        report["sentAgain"] = self.repeats.to_json();
        report["handshakes"] = json!({ "full": full, "resumed": resumed });
        report["clientCpuMicroseconds"] = u64::try_from(self.processor.as_micros()).unwrap_or(u64::MAX).into();
        report
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = if self.is_interrupted { "stopped before everything was sent\n" } else { "" }.to_owned();
        text += &self.summary.to_text(self.elapsed);
        if let Some(repeats) = self.repeats.to_text() {
            let _ = write!(text, "\n{repeats}");
        }
        if self.summary.requests() >= MANY {
            let Load { connections, streams, .. } = self.load;
            let (full, resumed) = self.handshakes;
            let (per_second, own) = (self.per_second(), Short(self.per_request()));
            let _ = write!(
                text,
                "\n{per_second:.0} requests/s over {connections} connections x {streams} streams; {full} full handshakes, {resumed} resumed\n\
                 this client's own CPU: {own} per request{}",
                histogram::draw(self.summary.latencies())
            );
        }
        text
    }
}

/// The CPU time of all threads of this process so far.
pub(crate) fn processor_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}
