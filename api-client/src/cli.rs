//! The command line: the commands and their arguments.
//!
//! It never runs a command itself; each has a file of its own.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    enroll::{self, EnrollArguments, Misuse},
    examples,
    output::{Exit, Print},
    renew::{self, RenewArguments},
    request::{self, RequestArguments},
    status,
};

/// Enrolls a client, sends requests over mutual TLS, and says what came of them.
#[derive(Debug, Parser)]
#[command(
    name = "api-client",
    version,
    after_help = "Exit codes:\n  0  done\n  1  something broke\n  2  bad usage\n  3  at least one request failed\n  4  the authority denied the enrollment or the renewal, or there is an identity already\n  130  stopped by Ctrl-C; the summary is of what was sent so far\n\nExamples:\n  api-client enroll --name client_1\n  api-client request -n 50\n\nEnvironment:\n  CA_TOKEN  an enrollment token, where no flag gives one\n  API_LOG   what is logged to standard error: error, warn, info, debug (default: warn)"
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
    #[command(after_help = examples::ENROLL)]
    Enroll(EnrollArguments),
    /// Renew the certificate if it is time: its successor has the same names and another key, and no token is needed
    #[command(after_help = examples::RENEW)]
    Renew(RenewArguments),
    /// Send requests and say how they went
    #[command(after_help = examples::REQUEST)]
    Request(RequestArguments),
    /// Say what is on disk and until when it is good
    #[command(after_help = examples::STATUS)]
    Status {
        /// Where the certificate and key lie
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// For which shell
        shell: Shell,
    },
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
            Command::Enroll(arguments) => {
                let misused = |Misuse { kind, message }| Self::command().error(kind, message);
                let proposal = arguments.proposal().map_err(misused)?;
                enroll::run(&arguments, &proposal, print).await
            }
            Command::Renew(arguments) => renew::run(&arguments, print).await,
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
