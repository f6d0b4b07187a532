//! `api-client request`: sends requests and reports the results.
//!
//! It never sends anything to a service before it has checked which services are revoked.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use edge::random;
use http::Uri;
use mtls::{
    authority::{Enrolled, IdentityFiles},
    errors::error_chain,
    standing::{self, OnMissingCrl, ServerStanding},
};
use pki::profile::Profile;
use rustls::{ClientConfig, pki_types::CertificateDer};
use tokio::task::JoinSet;
use url::Url;

use crate::{
    connection::{Handshakes, Target},
    loadgen::{
        load::{Connections, Load},
        progress::Display,
        report::{Run, processor_time},
        schedule::{Amount, Pace},
    },
    output::{Exit, Print, note, say},
    stop::Stop,
};

#[derive(Debug, Args)]
pub(crate) struct RequestArguments {
    /// The number of requests [default: 1, unless --duration is given]
    #[arg(short = 'n', long = "requests", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,

    /// Send requests for this long, instead of -n
    #[arg(long, conflicts_with = "requests", value_parser = parse_period)]
    duration: Option<Duration>,

    /// The number of connections; a layer-4 balancer distributes connections, not requests [default: 6, at most the
    /// number of requests]
    #[arg(short = 'c', long = "connections", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    connections: Option<u64>,

    /// Concurrent requests on each connection (HTTP/2 streams)
    #[arg(short = 'm', long = "streams", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    streams: u64,

    /// Requests per second on all connections together, sent whether or not earlier ones are answered; a latency counts
    /// from when the request was due [default: each request is sent when the one before it is answered]
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    rate: Option<f64>,

    /// Make a new connection with a full handshake for every request
    #[arg(long)]
    handshakes: bool,

    /// With --handshakes: resume a session if there is one
    #[arg(long, requires = "handshakes")]
    resume: bool,

    /// Send requests for this long first, without counting them
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    warm_up: Duration,

    /// Where the requests are sent
    #[arg(long, default_value = "https://localhost:8443/hello", value_parser = parse_url)]
    url: Uri,

    /// The directory of the certificate and key
    #[arg(long, default_value = ".")]
    dir: PathBuf,

    /// A directory of a certificate and key, instead of --dir; may be repeated: connections use them in turn
    #[arg(long = "identity", value_name = "DIR", conflicts_with = "dir")]
    identities: Vec<PathBuf>,

    /// What to do if no current CRL shows whether a service is revoked: `refuse`, or `accept` if no CRL can be fetched.
    /// A service that is known to be revoked is always refused
    #[arg(long, default_value = "refuse", value_name = "refuse|accept", value_parser = parse_on_missing_crl)]
    on_missing_crl: OnMissingCrl,

    /// How often the CRL of services is fetched while requests are sent; it is always fetched before the first
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_period)]
    crl_refresh: Duration,

    /// The time limit of one request, including its connection
    #[arg(long, default_value = "10s", value_parser = parse_period)]
    timeout: Duration,
}

impl RequestArguments {
    /// The load to send.
    fn load(&self) -> Load {
        let amount = self.duration.map_or_else(|| Amount::Requests(self.requests.unwrap_or(1)), Amount::Time);
        let most = if let Amount::Requests(requests) = amount { requests } else { u64::MAX };
        Load {
            target: Target {
                uri: self.url.clone(),
                handshakes: match (self.handshakes, self.resume) {
                    (false, _) => Handshakes::AsNeeded,
                    (true, false) => Handshakes::Full,
                    (true, true) => Handshakes::Resumed,
                },
                timeout: self.timeout,
            },
            amount,
            pace: self.rate.map_or(Pace::Closed, |per_second| Pace::Open { per_second }),
            connections: self.connections.unwrap_or(6).min(most),
            streams: self.streams,
        }
    }

    /// How the revocation status of services is found, with an identity of this authority.
    fn standing(&self, crl_directory: &Path, authority: Option<Url>) -> standing::Options {
        standing::Options {
            authority,
            crl_refresh: self.crl_refresh,
            on_missing_crl: self.on_missing_crl,
            ..standing::Options::new(crl_directory.to_owned())
        }
    }

    /// The directories of the identities; at least one.
    fn directories(&self) -> &[PathBuf] {
        if self.identities.is_empty() { std::slice::from_ref(&self.dir) } else { &self.identities }
    }

    /// Whether the run measures speed, so that answers are not shown.
    fn is_measurement(&self) -> bool {
        self.duration.is_some() || self.streams > 1 || self.rate.is_some() || self.handshakes
    }
}

pub(crate) async fn run(arguments: &RequestArguments, print: Print) -> anyhow::Result<Exit> {
    let load = arguments.load();
    let Identities { configurations: identities, _keeping } = identities(arguments).await?;
    let display = Display::choose(print, load.amount, arguments.is_measurement());
    let connections = Connections::new(load.clone(), &identities)?;
    // So that the first latency does not include the random generator's start.
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

/// The identities, each with the revocation status of services, and the tasks that update it.
struct Identities {
    configurations: Vec<(ClientConfig, ServerStanding)>,
    /// The tasks end when this is dropped, after the last request.
    _keeping: JoinSet<()>,
}

/// Loads the identities. Those of one authority share the revocation status of its services, so a thousand identities
/// fetch it once.
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

/// What identities of one authority have in common.
#[derive(PartialEq, Eq)]
struct Above {
    chain: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
    authority: Option<Url>,
}

/// Fetches the revocation status of services before the first request.
async fn ask_once(
    arguments: &RequestArguments,
    standing: &ServerStanding,
    lists: &mut standing::Lists,
) -> anyhow::Result<()> {
    let Err(error) = lists.refresh().await else { return Ok(()) };
    let why = error_chain(&error);
    if standing.is_current() {
        note(format_args!("CRLs of an earlier run are used, because newer ones cannot be fetched: {why}"))
    } else if arguments.on_missing_crl == OnMissingCrl::Accept {
        note(format_args!(
            "it is not known whether services are revoked; they are accepted because of --on-missing-crl: {why}"
        ))
    } else {
        anyhow::bail!(
            "it is not known whether services are revoked, so nothing is sent: {why}. Is the authority running, \
             and is this machine's clock right? If no CRL can be fetched, --on-missing-crl accept sends requests all the same"
        )
    }
}

fn parse_url(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    if uri.scheme_str() == Some("https") && uri.host().is_some() {
        Ok(uri)
    } else {
        Err("use an https:// URL: a client certificate needs TLS".to_owned())
    }
}

fn parse_on_missing_crl(text: &str) -> Result<OnMissingCrl, String> {
    match text {
        "refuse" => Ok(OnMissingCrl::Refuse),
        "accept" => Ok(OnMissingCrl::Accept),
        _ => Err("use refuse or accept".to_owned()),
    }
}

fn parse_period(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(period) if period.is_zero() => Err("must be longer than zero, such as 10s".to_owned()),
        Ok(period) => Ok(period),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("use a number of requests per second between 0.001 and 10000000".to_owned()),
    }
}
