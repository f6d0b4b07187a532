//! `api-client request`: sends requests and says how they went.

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use mtls::{
    client::mutual_tls,
    clock::Clock,
    enroll::{Enrolled, IdentityFiles},
};
use pki::profile::Profile;
use rustix::time::{ClockId, clock_gettime};
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::{
    cli::{Exit, Print, RequestArguments, say},
    histogram,
    load::{Connections, Load},
    outcome::{Short, Summary},
    progress::Display,
    repeat::Repeats,
};

/// From so many requests on, their latencies are drawn.
const MANY: u64 = 100;

pub(crate) async fn run(arguments: &RequestArguments, print: Print) -> anyhow::Result<Exit> {
    let load = arguments.load();
    let identities: Vec<_> =
        arguments.directories().iter().map(|directory| tls(directory)).collect::<Result<_, _>>()?;
    let display = Display::choose(print, load.amount, arguments.is_measurement());
    let connections = Connections::new(load.clone(), &identities)?;
    connections.warm_up(arguments.warm_up).await;
    let handshakes_before = connections.handshakes();
    let (began, processor_before) = (Instant::now(), processor_time());
    let summary = display.show(&connections, load.amount).await?;
    let run = Run {
        elapsed: began.elapsed(),
        processor: processor_time().saturating_sub(processor_before),
        handshakes: (
            connections.handshakes().0 - handshakes_before.0,
            connections.handshakes().1 - handshakes_before.1,
        ),
        repeats: connections.repeats().clone(),
        load,
        summary,
    };
    match print {
        Print::Json => say(run.to_json())?,
        Print::Text => say(run.to_text())?,
    }
    Ok(if run.summary.failed() == 0 { Exit::Done } else { Exit::RequestsFailed })
}

fn tls(directory: &Path) -> anyhow::Result<ClientConfig> {
    let files = IdentityFiles::new(directory, Profile::Client);
    let Some(Enrolled { identity, root, .. }) = files.load()? else {
        anyhow::bail!(
            "{} does not exist; get a certificate first with: api-client enroll --name NAME",
            files.chain().display()
        );
    };
    Ok(mutual_tls(&identity, &root, &Clock::system())?)
}

/// What this process has used of the processor so far, all of its threads together.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}

/// Everything that is known when the last answer is there.
struct Run {
    load: Load,
    summary: Summary,
    /// Those of the warm-up included.
    repeats: Repeats,
    elapsed: Duration,
    /// What this client itself used of the processor: where it is more than the service did, it is the client that was measured.
    processor: Duration,
    /// Full ones, and those that resumed a session.
    handshakes: (u64, u64),
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

    fn to_json(&self) -> Value {
        let mut report = self.summary.to_json(self.elapsed);
        let (full, resumed) = self.handshakes;
        report["connections"] = self.load.connections.into();
        report["streams"] = self.load.streams.into();
        report["answeredPerSecond"] = self.per_second().into();
        report["sentAgain"] = self.repeats.to_json();
        report["handshakes"] = json!({ "full": full, "resumed": resumed });
        report["clientCpuMicroseconds"] = u64::try_from(self.processor.as_micros()).unwrap_or(u64::MAX).into();
        report
    }

    fn to_text(&self) -> String {
        let mut text = self.summary.to_text(self.elapsed);
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
