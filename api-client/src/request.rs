//! `api-client request`: sends requests and says how they went.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use edge::random;
use mtls::{
    authority::{Enrolled, IdentityFiles},
    errors::error_chain,
    standing::{self, OnMissingCrl, ServerStanding},
};
use pki::profile::Profile;
use rustix::time::{ClockId, clock_gettime};
use rustls::{ClientConfig, pki_types::CertificateDer};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use url::Url;

use crate::{
    cli::{Exit, Print, RequestArguments, note, say},
    histogram,
    load::{Connections, Load},
    outcome::{Short, Summary},
    progress::Display,
    repeat::Repeats,
    stop::Stop,
};

/// From so many requests on, their latencies are drawn.
const MANY: u64 = 100;

pub(crate) async fn run(arguments: &RequestArguments, print: Print) -> anyhow::Result<Exit> {
    let load = arguments.load();
    let Identities { configurations: identities, _keeping } = identities(arguments).await?;
    let display = Display::choose(print, load.amount, arguments.is_measurement());
    let connections = Connections::new(load.clone(), &identities)?;
    // The first latency is that of a request.
    random::warm_up();
    let stop = Stop::at_interrupt()?;
    connections.warm_up(arguments.warm_up, &stop).await;
    let handshakes_before = connections.handshakes();
    let (began, processor_before) = (Instant::now(), processor_time());
    let summary = display.show(&connections, load.amount, &stop).await?;
    let run = Run {
        elapsed: began.elapsed(),
        processor: processor_time().saturating_sub(processor_before),
        handshakes: (
            connections.handshakes().0 - handshakes_before.0,
            connections.handshakes().1 - handshakes_before.1,
        ),
        repeats: connections.repeats().clone(),
        is_interrupted: stop.is_asked(),
        load,
        summary,
    };
    match print {
        Print::Json => say(run.to_json())?,
        Print::Text => say(run.to_text())?,
    }
    Ok(match run.summary.failed() {
        _ if run.is_interrupted => Exit::Interrupted,
        0 => Exit::Done,
        _ => Exit::RequestsFailed,
    })
}

/// The identities, each with whom it asks about services, and what asks while requests are sent.
struct Identities {
    configurations: Vec<(ClientConfig, ServerStanding)>,
    /// Ends with the last request.
    _keeping: JoinSet<()>,
}

/// Those of one authority share what is known of its services: with a thousand of them, it is asked once.
async fn identities(arguments: &RequestArguments) -> anyhow::Result<Identities> {
    let mut known: Vec<(Above, ServerStanding)> = Vec::new();
    let (mut configurations, mut keeping) = (Vec::new(), JoinSet::new());
    for directory in arguments.directories() {
        let files = IdentityFiles::new(directory, Profile::Client);
        let Some(Enrolled { identity, root, authority }) = files.load()? else {
            anyhow::bail!(
                "{} does not exist; get a certificate first with: api-client enroll --name NAME",
                files.chain().display()
            );
        };
        let above = Above { chain: identity.chain()[1..].to_vec(), root: root.clone(), authority: authority.clone() };
        let standing = if let Some((_, standing)) = known.iter().find(|(of, _)| *of == above) {
            standing.clone()
        } else {
            let options = arguments.standing(files.crl_directory(), authority);
            let (standing, mut lists) = ServerStanding::new(&identity, &root, options)?;
            ask_once(arguments, &standing, &mut lists).await?;
            keeping.spawn(lists.keep_current());
            known.push((above, standing.clone()));
            standing
        };
        configurations.push((standing.tls(&identity)?, standing));
    }
    Ok(Identities { configurations, _keeping: keeping })
}

/// What identities have above them that are of one authority.
#[derive(PartialEq, Eq)]
struct Above {
    chain: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
    authority: Option<Url>,
}

/// Asks which services are revoked, before anything is sent to one.
async fn ask_once(
    arguments: &RequestArguments,
    standing: &ServerStanding,
    lists: &mut standing::Lists,
) -> anyhow::Result<()> {
    let Err(error) = lists.refresh().await else { return Ok(()) };
    let why = error_chain(&error);
    if standing.is_current() {
        note(format_args!("services are judged by the CRLs of an earlier run, as newer ones are not to be had: {why}"))
    } else if arguments.on_missing_crl == OnMissingCrl::Accept {
        note(format_args!(
            "whether services are revoked is not known, and --on-missing-crl says to talk to them: {why}"
        ))
    } else {
        anyhow::bail!(
            "whether services are revoked is not known, so nothing is sent to any: {why}. Is the authority running, and is this \
             machine's clock right? Where no CRL can be fetched, --on-missing-crl accept talks to them all the same"
        )
    }
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
    /// Whether it was stopped before everything was sent.
    is_interrupted: bool,
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
        report["interrupted"] = self.is_interrupted.into();
        report["sentAgain"] = self.repeats.to_json();
        report["handshakes"] = json!({ "full": full, "resumed": resumed });
        report["clientCpuMicroseconds"] = u64::try_from(self.processor.as_micros()).unwrap_or(u64::MAX).into();
        report
    }

    fn to_text(&self) -> String {
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
