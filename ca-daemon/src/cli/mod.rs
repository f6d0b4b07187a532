//! The command line: each command parses into what cannot be wrong, asks the authority or the daemon, and prints.
//!
//! It never decides anything that the daemon would have to decide as well.

mod commands;
mod revoke;
mod ui;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use edge::{
    clock::Clock,
    errors::{usage_problem, wants_json},
    log::{self, FilterError, Log},
};
use tokio::sync::OnceCell;

use self::{
    commands::{
        crl, examples, healthcheck, init, issue, list, relying_parties, renew, renewals, serve, show, start, token,
    },
    ui::output::{self, Output},
};
use crate::{authority::Authority, home::directory::Directory};

/// A certificate authority for mutual TLS: enrolls, issues, revokes and publishes.
#[derive(Debug, Parser)]
#[command(name = "ca-daemon", version, after_help = EXIT_CODES, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something broke
  2  the command line makes no sense
  3  nothing matches what was named
  4  refused; nothing was changed
  5  revoked, but not every relying party has confirmed it

Examples:
  ca-daemon init
  ca-daemon serve
  ca-daemon revoke client_1 --reason key-compromise

Environment:
  CA_DIR  as --dir
  CA_LOG  what is logged to standard error: error, warn, info, debug (default: info for serve and start, else warn)";

#[derive(Debug, clap::Args)]
struct Common {
    /// The authority's directory
    #[arg(long, env = "CA_DIR", default_value = Directory::DEFAULT, global = true, value_name = "DIR")]
    dir: PathBuf,
    /// Print JSON instead of text for people
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Found an authority: root, issuing CA, database, first CRLs and a bootstrap token. Whoever has that token enrolls under any name, as
    /// client or server: use it up, or revoke it
    #[command(after_help = examples::INIT)]
    Init(init::Arguments),
    /// Run the authority: enrollment over HTTPS, CRLs over HTTP
    #[command(after_help = examples::SERVE)]
    Serve(serve::Arguments),
    /// Found an authority if there is none yet, hand out tokens to its services, and run it: what a container does
    #[command(after_help = examples::START)]
    Start(Box<start::Arguments>),
    /// Ask a running daemon on this machine whether it is ready: exit code 0 if it is
    #[command(after_help = examples::HEALTHCHECK)]
    Healthcheck(healthcheck::Arguments),
    /// Issue a certificate and its key right here, without a token
    #[command(after_help = examples::ISSUE)]
    Issue(issue::Arguments),
    /// Create, list and revoke enrollment tokens
    #[command(after_help = examples::TOKEN)]
    Token(token::Arguments),
    /// List certificates
    #[command(after_help = examples::LIST)]
    List(list::Arguments),
    /// Show certificates in full
    #[command(after_help = examples::SHOW)]
    Show(show::Arguments),
    /// Have certificates renewed now, and not when it is time: their holders are told, and renew by themselves
    #[command(after_help = examples::RENEW)]
    Renew(renew::Arguments),
    /// Report how many of the certificates that were to be renewed have been, and which have not
    #[command(after_help = examples::RENEWALS)]
    Renewals,
    /// Revoke certificates, for good
    #[command(after_help = examples::REVOKE)]
    Revoke(revoke::Arguments),
    /// List the relying parties and what each of them enforces, or forget one
    #[command(after_help = examples::RELYING_PARTIES)]
    RelyingParties(relying_parties::Arguments),
    /// Write out the current CRL, or sign a new one
    #[command(after_help = examples::CRL)]
    Crl(crl::Arguments),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// Which shell
        shell: CompletedShell,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompletedShell {
    Bash,
    Zsh,
    Fish,
}

/// Why a command ends with another code than "something broke".
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Exit code 2: caught after the command line was parsed.
    #[error("{0}")]
    Usage(String),
    /// Exit code 3.
    #[error("{0}")]
    NothingMatches(String),
    /// Exit code 4.
    #[error("{0}")]
    Refused(String),
    /// Exit code 5.
    #[error("{0}")]
    Unconfirmed(String),
}

/// What every command is given.
struct Context {
    directory: Directory,
    output: Output,
    clock: Clock,
    opened: OnceCell<Authority>,
}

impl Context {
    fn new(directory: PathBuf, output: Output, clock: Clock) -> Self {
        Self { directory: Directory::new(directory), output, clock, opened: OnceCell::new() }
    }

    /// The authority, opened by the first who asks for it.
    async fn authority(&self) -> anyhow::Result<&Authority> {
        Ok(self.opened.get_or_try_init(|| Authority::open(&self.directory)).await?)
    }

    /// Carries out a command, and leaves nothing behind in a write-ahead log that nobody else has open: who copies `ca.db` then
    /// has all of it.
    async fn carry_out(&self, command: Command) -> anyhow::Result<()> {
        let done = dispatch(self, command).await;
        if let Some(authority) = self.opened.get() {
            authority.store().close().await;
        }
        done
    }
}

/// The command line, for whoever documents it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line, does what it says and returns the exit code that `--help` documents.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && wants_json(std::env::args_os()) => {
            let _ = writeln!(io::stderr(), "{}", usage_problem(&error.to_string()));
            return ExitCode::from(2);
        }
        Err(error) => error.exit(),
    };
    let json = cli.common.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: no thread can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let done = match start_logging(&cli.command) {
            // The log is written when the command is over, before it is said how it ended.
            Ok(_log) => {
                let context = Context::new(cli.common.dir, Output::new(json), Clock::system());
                context.carry_out(cli.command).await
            }
            Err(error) => Err(Failure::Usage(error.to_string()).into()),
        };
        let code = match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
            Err(error) => ended_by(&error, json),
        };
        output::end_remarks().await;
        code
    })
}

fn ended_by(error: &anyhow::Error, json: bool) -> ExitCode {
    let (code, kind) = classify(error);
    output::complain(error, json, code, kind);
    ExitCode::from(code)
}

/// The exit code, and the kind of problem, which does not change.
fn classify(error: &anyhow::Error) -> (u8, &'static str) {
    match error.downcast_ref::<Failure>() {
        None => (1, "/problems/failed"),
        Some(Failure::Usage(_)) => (2, "/problems/usage"),
        Some(Failure::NothingMatches(_)) => (3, "/problems/nothing-matches"),
        Some(Failure::Refused(_)) => (4, "/problems/refused"),
        Some(Failure::Unconfirmed(_)) => (5, "/problems/unconfirmed"),
    }
}

async fn dispatch(context: &Context, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(arguments) => init::run(context, arguments).await,
        Command::Serve(arguments) => serve::run(context, &arguments).await,
        Command::Start(arguments) => start::run(context, *arguments).await,
        Command::Healthcheck(arguments) => healthcheck::run(context, &arguments).await,
        Command::Issue(arguments) => issue::run(context, arguments).await,
        Command::Token(arguments) => token::run(context, arguments).await,
        Command::List(arguments) => list::run(context, arguments).await,
        Command::Show(arguments) => show::run(context, &arguments).await,
        Command::Renew(arguments) => renew::run(context, arguments).await,
        Command::Renewals => renewals::run(context).await,
        Command::Revoke(arguments) => revoke::run(context, arguments).await,
        Command::RelyingParties(arguments) => relying_parties::run(context, arguments).await,
        Command::Crl(arguments) => crl::run(context, &arguments).await,
        Command::Completions { shell } => completions(context, shell),
    }
}

fn completions(context: &Context, shell: CompletedShell) -> anyhow::Result<()> {
    let shell = match shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Zsh => Shell::Zsh,
        CompletedShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ca-daemon", &mut script);
    // clap_complete spells the hyphen in two ways in a script for bash, which would complete the first word only.
    let script = String::from_utf8_lossy(&script).replace("ca__subcmd__daemon", "ca__daemon");
    context.output.raw(script.as_bytes())
}

/// A daemon's log ends with what is returned; that of a command is part of what it says on standard error.
fn start_logging(command: &Command) -> Result<Option<Log>, FilterError> {
    if matches!(command, Command::Serve(_) | Command::Start(_)) {
        return Ok(Some(Log::start(log::filter("CA_LOG", "info")?)));
    }
    log::subscribe(log::filter("CA_LOG", "warn")?, || output::Log);
    Ok(None)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The exit code of a command that is carried out at the clock's time.
    pub(crate) async fn execute(directory: &Directory, clock: &Clock, arguments: &[&str]) -> u8 {
        let dir = directory.path().to_str().unwrap();
        let cli = Cli::parse_from(["ca-daemon", "--dir", dir].iter().chain(arguments));
        let context = Context::new(cli.common.dir, Output::new(cli.common.json), clock.clone());
        match context.carry_out(cli.command).await {
            Ok(()) => 0,
            Err(error) => classify(&error).0,
        }
    }

    /// The names of those of whom nothing is known.
    pub(crate) async fn unknown_holders(authority: &Authority, now: pki::time::Timestamp) -> Vec<String> {
        revoke::holders::Holders::find(authority.store(), now).await.unwrap().names().map(str::to_owned).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
