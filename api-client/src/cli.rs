//! The command line: what can be asked for, and which exit code says what came of it.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;
use edge::errors::{problem, usage_problem};
use http::Uri;
use mtls::{
    authority::{TokenSources, TokenText},
    errors::error_chain,
    standing::{self, OnMissingCrl},
};
use pki::{
    csr::Proposal,
    name::{CommonName, Host, Organization},
    profile::Profile,
};
use url::Url;

use crate::{
    enroll,
    load::{Handshakes, Load},
    request,
    schedule::{Amount, Pace},
    status,
};

/// Enrolls a client, sends requests over mutual TLS, and says what came of them.
#[derive(Debug, Parser)]
#[command(
    name = "api-client",
    version,
    after_help = "Exit codes:\n  0  done\n  1  something broke\n  2  bad usage\n  3  at least one request failed\n  4  the authority denied the enrollment, or there is an identity already\n  130  stopped by Ctrl-C; the summary is of what was sent so far\n\nEnvironment:\n  CA_TOKEN  an enrollment token, where no flag gives one\n  API_LOG   what is logged to standard error: error, warn, info, debug (default: warn)"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key and get a certificate for it
    Enroll(EnrollArguments),
    /// Send requests and say how they went
    Request(RequestArguments),
    /// Say what is on disk and until when it is good
    Status {
        /// Where the certificate and key lie
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// Print a completion script for a shell
    Completions {
        /// For which shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EnrollArguments {
    /// The name in the certificate [default: of a server, its first host]
    #[arg(long, required_unless_present_any = ["server", "profile"])]
    name: Option<CommonName>,

    /// What the certificate is for [default: client]; server is for one that nginx, PostgreSQL or another program presents
    #[arg(long, value_name = "client|server", value_parser = parse_profile, conflicts_with = "server")]
    profile: Option<Profile>,

    /// The same as --profile server
    #[arg(long)]
    server: bool,

    /// A DNS name or address that a server is reached by; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    pub(crate) hosts: Vec<Host>,

    /// Where client.crt and client.key (server.crt and server.key) and ca.crt are written
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,

    /// The organization in the certificate
    #[arg(long)]
    pub(crate) org: Option<Organization>,

    /// Replace an identity that is there already
    #[arg(long)]
    pub(crate) force: bool,

    /// A CA's directory on this machine, whose bootstrap token is used [default: ca, unless `CA_TOKEN` is set]
    #[arg(long)]
    ca_dir: Option<PathBuf>,

    /// The enrollment token; better in a file, as arguments can be seen by everybody on the machine
    #[arg(long, conflicts_with_all = ["token_file", "ca_dir"])]
    token: Option<TokenText>,

    /// A file that holds the enrollment token
    #[arg(long, conflicts_with = "ca_dir")]
    token_file: Option<PathBuf>,
}

impl EnrollArguments {
    /// What the certificate is for.
    pub(crate) fn profile(&self) -> Profile {
        if self.server { Profile::Server } else { self.profile.unwrap_or(Profile::Client) }
    }

    /// What it asks for.
    pub(crate) fn proposal(&self) -> Result<Proposal, clap::Error> {
        let wrong = |kind, message: &str| Err(Arguments::command().error(kind, message));
        let hosts = match (self.profile(), self.hosts.as_slice()) {
            (Profile::Client, [_, ..]) => {
                return wrong(
                    ErrorKind::ArgumentConflict,
                    "--host is for servers: a client is known by its name; see --server",
                );
            }
            (Profile::Server, []) => {
                return wrong(
                    ErrorKind::MissingRequiredArgument,
                    "give the server's names or addresses, each with --host HOST",
                );
            }
            (_, hosts) => hosts.to_vec(),
        };
        let first_host = || hosts.first().and_then(|host| host.to_string().parse().ok());
        match self.name.clone().or_else(first_host) {
            Some(common_name) => Ok(Proposal { common_name, organization: self.org.clone(), hosts }),
            None => wrong(ErrorKind::MissingRequiredArgument, "give a name with --name"),
        }
    }

    pub(crate) fn token_sources(&self) -> TokenSources {
        TokenSources {
            text: self.token.clone(),
            file: self.token_file.clone(),
            ca_directory: self.ca_dir.clone(),
            environment: TokenText::from_environment(),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RequestArguments {
    /// How many requests [default: 1, unless --duration is given]
    #[arg(short = 'n', long = "requests", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,

    /// For how long requests are sent, in place of -n
    #[arg(long, conflicts_with = "requests", value_parser = parse_period)]
    duration: Option<Duration>,

    /// Over how many connections; a layer-4 balancer spreads connections, not requests [default: 6, at most the number of requests]
    #[arg(short = 'c', long = "connections", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    connections: Option<u64>,

    /// How many requests each connection has under way at a time (HTTP/2 streams)
    #[arg(short = 'm', long = "streams", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    streams: u64,

    /// How many requests are sent in a second altogether, answered or not; latencies count from when a request was due
    /// [default: each is sent when the one before it is answered]
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    rate: Option<f64>,

    /// Make a new connection with a full handshake for every request
    #[arg(long)]
    handshakes: bool,

    /// With --handshakes: resume a session where there is one
    #[arg(long, requires = "handshakes")]
    resume: bool,

    /// Send requests for so long first, which are not counted
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) warm_up: Duration,

    /// Where the requests are sent
    #[arg(long, default_value = "https://localhost:8443/hello", value_parser = parse_url)]
    url: Uri,

    /// Where the certificate and key lie
    #[arg(long, default_value = ".")]
    dir: PathBuf,

    /// Where a certificate and key lie, in place of --dir; may be repeated: connections use them in turn
    #[arg(long = "identity", value_name = "DIR", conflicts_with = "dir")]
    identities: Vec<PathBuf>,

    /// What happens to a service when no current CRL says whether it is revoked: `refuse`, or `accept` where no CRL can be fetched. One
    /// that is known to be revoked is refused in any case
    #[arg(long, default_value = "refuse", value_name = "refuse|accept", value_parser = parse_on_missing_crl)]
    pub(crate) on_missing_crl: OnMissingCrl,

    /// How often it is asked which services are revoked while requests are sent; it is asked once before the first
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_period)]
    crl_refresh: Duration,

    /// How long one request may take, its connection included
    #[arg(long, default_value = "10s", value_parser = parse_period)]
    timeout: Duration,
}

impl RequestArguments {
    /// What is to be sent.
    pub(crate) fn load(&self) -> Load {
        let amount = self.duration.map_or_else(|| Amount::Requests(self.requests.unwrap_or(1)), Amount::Time);
        let most = if let Amount::Requests(requests) = amount { requests } else { u64::MAX };
        Load {
            uri: self.url.clone(),
            amount,
            pace: self.rate.map_or(Pace::Closed, |per_second| Pace::Open { per_second }),
            connections: self.connections.unwrap_or(6).min(most),
            streams: self.streams,
            handshakes: match (self.handshakes, self.resume) {
                (false, _) => Handshakes::AsNeeded,
                (true, false) => Handshakes::Full,
                (true, true) => Handshakes::Resumed,
            },
            timeout: self.timeout,
        }
    }

    /// How it is found out whether services are revoked, with an identity of this authority.
    pub(crate) fn standing(&self, crl_directory: &Path, authority: Option<Url>) -> standing::Options {
        standing::Options {
            authority,
            crl_refresh: self.crl_refresh,
            on_missing_crl: self.on_missing_crl,
            ..standing::Options::new(crl_directory.to_owned())
        }
    }

    /// Where the identities lie; at least one place.
    pub(crate) fn directories(&self) -> &[PathBuf] {
        if self.identities.is_empty() { std::slice::from_ref(&self.dir) } else { &self.identities }
    }

    /// Whether this is about speed, and not about what is answered.
    pub(crate) fn is_measurement(&self) -> bool {
        self.duration.is_some() || self.streams > 1 || self.rate.is_some() || self.handshakes
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Something broke.
    Failure,
    /// The command line makes no sense.
    Usage,
    /// At least one request failed.
    RequestsFailed,
    /// The authority said no, or there is an identity already.
    Refused,
    /// Stopped by Ctrl-C, with a summary of what was sent so far; the code is a shell's for that.
    Interrupted,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::RequestsFailed => 3,
            Self::Refused => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Arguments {
    /// For whom the output is.
    #[must_use]
    pub fn print(&self) -> Print {
        if self.json { Print::Json } else { Print::Text }
    }

    /// Does what was asked for.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let print = self.print();
        match self.command {
            Command::Enroll(arguments) => enroll::run(&arguments, print).await,
            Command::Request(arguments) => request::run(&arguments, print).await,
            Command::Status { dir } => status::run(&dir, print),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "api-client", &mut script);
                // clap_complete spells the hyphen in two ways in a script for bash, which would complete the first word only.
                let script = String::from_utf8_lossy(&script).replace("api__subcmd__client", "api__client");
                io::stdout().lock().write_all(script.as_bytes())?;
                Ok(Exit::Done)
            }
        }
    }
}

/// For whom the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    /// People.
    Text,
    /// Programs.
    Json,
}

impl Print {
    /// Whether programs read it.
    #[must_use]
    pub fn is_json(self) -> bool {
        self == Self::Json
    }
}

/// Writes a line to standard output.
pub(crate) fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

/// Writes what else there is to know for people to standard error.
pub(crate) fn note(what: impl std::fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(io::stderr().lock(), "note: {what}")?)
}

/// The authority said no, or there is an identity already.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// How a program ends that did not do what it was asked for, and what is to be said on standard error: nothing, where whoever reads the
/// output has seen enough (`api-client request -n 1000 | head`).
#[must_use]
pub fn explain(error: &anyhow::Error, print: Print) -> (Exit, Option<String>) {
    let is_closed = error.downcast_ref().map(io::Error::kind) == Some(io::ErrorKind::BrokenPipe);
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        let text = usage.to_string();
        return (Exit::Usage, Some(if print.is_json() { usage_problem(&text) } else { text.trim_end().to_owned() }));
    }
    let (exit, kind) = match error.downcast_ref::<Refused>() {
        _ if is_closed => return (Exit::Done, None),
        Some(_) => (Exit::Refused, "/problems/refused"),
        None => (Exit::Failure, "/problems/failed"),
    };
    let why = error_chain(error.as_ref());
    let said = match print {
        Print::Text => format!("error: {why}"),
        Print::Json => problem(kind, &why, exit.code()),
    };
    (exit, Some(said))
}

fn parse_url(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    if uri.scheme_str() == Some("https") && uri.host().is_some() {
        Ok(uri)
    } else {
        Err("give an https:// URL: without TLS there is no client certificate".to_owned())
    }
}

fn parse_profile(text: &str) -> Result<Profile, String> {
    match text {
        "client" => Ok(Profile::Client),
        "server" => Ok(Profile::Server),
        _ => Err("give client or server".to_owned()),
    }
}

fn parse_on_missing_crl(text: &str) -> Result<OnMissingCrl, String> {
    match text {
        "refuse" => Ok(OnMissingCrl::Refuse),
        "accept" => Ok(OnMissingCrl::Accept),
        _ => Err("give refuse or accept".to_owned()),
    }
}

fn parse_period(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(period) if period.is_zero() => Err("give some time, such as 10s".to_owned()),
        Ok(period) => Ok(period),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("give a number of requests per second between 0.001 and 10000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(line: &[&str]) -> Result<(Profile, Proposal), String> {
        let arguments = Arguments::try_parse_from([&["api-client", "enroll"], line].concat());
        let Command::Enroll(arguments) = arguments.map_err(|error| error.to_string())?.command else { unreachable!() };
        let proposal = arguments.proposal().map_err(|error| error.to_string())?;
        Ok((arguments.profile(), proposal))
    }

    #[test]
    fn a_server_is_named_by_its_hosts_and_a_client_by_its_name() {
        let (profile, asked) = proposal(&["--server", "--host", "db.fleet", "--host", "10.0.0.1"]).unwrap();
        assert_eq!((profile, asked.common_name.as_str()), (Profile::Server, "db.fleet"));
        assert_eq!(asked.hosts, ["db.fleet".parse().unwrap(), "10.0.0.1".parse().unwrap()]);
        let (profile, asked) = proposal(&["--profile", "server", "--host", "::1", "--name", "db"]).unwrap();
        assert_eq!((profile, asked.common_name.as_str()), (Profile::Server, "db"));
        let (profile, asked) = proposal(&["--name", "client_1", "--profile", "client"]).unwrap();
        assert_eq!((profile, asked.common_name.as_str(), asked.hosts.len()), (Profile::Client, "client_1", 0));

        for (line, expected) in [
            (&[][..], "--name"),
            (&["--profile", "client"], "--name"),
            (&["--server"], "--host HOST"),
            (&["--server", "--host", "::1"], "--name"),
            (&["--name", "a", "--host", "a.example"], "--server"),
            (&["--server", "--profile", "client"], "cannot be used with"),
            (&["--profile", "both", "--name", "a"], "client or server"),
        ] {
            let error = proposal(line).unwrap_err();
            assert!(error.contains(expected), "{line:?}: {error}");
        }
    }
}
