//! Measures what is promised, with real processes and real sockets on loopback, prints a table for each question and writes
//! them to a file. `make bench` runs it.
//!
//! It never asserts a number.

#![expect(clippy::print_stdout, reason = "its tables are its purpose")]

use std::{fs, path::PathBuf, time::Instant};

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use tokio::runtime::Runtime;

mod answer;
mod compare;
mod load;
mod machine;
mod peers;
mod questions;
mod roles;
mod rounds;
mod table;
mod usage;
mod visitor;
mod world;

use crate::{
    questions::{authority, beside, enrollments, handshakes, live_set, requests, revocation, swap},
    table::Table,
    world::World,
};

/// Measures, and says what fell short.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Command>,
    /// Only these questions
    #[arg(long, value_delimiter = ',')]
    only: Vec<Question>,
    /// Write the tables to this file
    #[arg(long)]
    out: Option<PathBuf>,
    /// Say what has moved by more than its noise since this file was written
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// A tenth of the rounds: to see that it works, and which way a number moves
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A part that this program plays for itself
    #[command(subcommand, hide = true)]
    Role(roles::Role),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Question {
    /// Memory, time and lookups of a million serial numbers
    LiveSet,
    /// Full handshakes with nobody and with a million revoked
    Handshakes,
    /// Requests with and without the check
    Requests,
    /// Handshakes while a list of a million is replaced
    Swap,
    /// What a complete CRL costs the authority
    Authority,
    /// Revocation to effect at three services
    Revocation,
    /// Revocation to effect at 200 relying parties
    Revocation200,
    /// Requests beside nginx and HAProxy
    PeerRequests,
    /// Handshakes, memory and start-up beside nginx and HAProxy, with 0 to a million revoked
    PeerHandshakes,
    /// Enrollments, with nothing and with millions of certificates stored
    Enrollments,
}

/// How many are revoked where many are.
const MANY: u64 = 1_000_000;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    mtls::limits::raise_file_limit();
    let runtime = Runtime::new()?;
    if let Some(Command::Role(role)) = arguments.role {
        return runtime.block_on(role.play());
    }
    let began = Instant::now();
    let facts = machine::facts();
    let mut tables = Vec::new();
    let mut answered = |table: Table| {
        println!("{}", table.to_markdown());
        tables.push(table);
    };
    Session { runtime, quick: arguments.quick, only: arguments.only }.run(&mut answered)?;
    let missed: Vec<_> = tables.iter().flat_map(Table::missed).map(|missed| format!("- {missed}\n")).collect();
    let verdict = if missed.is_empty() { "Every goal is met.\n".to_owned() } else { missed.concat() };
    let text = format!(
        "# Results\n\nWritten by `make bench`; every number is from one run on this machine, and none is asserted anywhere.\n\n## The machine\n\n{facts}\n## What fell short\n\n{verdict}\n## The answers\n\n{}",
        tables.iter().map(Table::to_markdown).collect::<Vec<_>>().join("\n")
    );
    println!("{verdict}\nmeasured in {} s", began.elapsed().as_secs());
    if let Some(path) = arguments.compare {
        let before = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        println!("since {}:\n{}", path.display(), compare::moved(&before, &tables));
    }
    if let Some(out) = arguments.out {
        fs::write(out, text)?;
    }
    Ok(())
}

/// What is asked, and how thoroughly.
struct Session {
    runtime: Runtime,
    quick: bool,
    only: Vec<Question>,
}

impl Session {
    /// Everything, where nothing in particular was asked for; in a hurry, all but what takes long to set up.
    fn asks(&self, question: Question) -> bool {
        if self.only.is_empty() {
            !self.quick || ![Question::Revocation200, Question::Authority].contains(&question)
        } else {
            self.only.contains(&question)
        }
    }

    /// At least three, so that there is a median.
    fn rounds(&self, all: usize) -> usize {
        if self.quick { (all / 10).max(3) } else { all }
    }

    fn run(&self, answered: &mut impl FnMut(Table)) -> anyhow::Result<()> {
        let mut empty = World::with_revoked(0)?;
        if self.asks(Question::LiveSet) {
            answered(live_set::ask(&empty, MANY, self.rounds(5))?);
        }
        if self.asks(Question::Requests) {
            answered(requests::ask(&self.runtime, &mut empty, self.rounds(5))?);
        }
        drop(empty);
        let with_many = [Question::Handshakes, Question::Swap, Question::Authority];
        if with_many.into_iter().any(|question| self.asks(question)) {
            self.run_with_many(answered)?;
        }
        let effect = |parties, rounds| revocation::Scene { parties, rounds: self.rounds(rounds), revoked: MANY };
        if self.asks(Question::Revocation) {
            revocation::ask(&self.runtime, effect(3, 150), answered)?;
        }
        if self.asks(Question::Revocation200) {
            revocation::ask(&self.runtime, effect(200, 20), answered)?;
        }
        if self.asks(Question::Enrollments) {
            enrollments::ask(if self.quick { &[0] } else { &[0, MANY, 5 * MANY] }, self.rounds(5), answered)?;
        }
        if self.asks(Question::PeerRequests) {
            answered(beside::requests(&self.runtime, &mut World::with_revoked(0)?, self.rounds(5))?);
        }
        if self.asks(Question::PeerHandshakes) {
            let sizes = if self.quick { &[0, MANY][..] } else { &[0, 1_000, 100_000, MANY] };
            for &revoked in sizes {
                let mut world = World::with_revoked(revoked)?;
                answered(beside::handshakes(&self.runtime, &mut world, self.rounds(5))?);
            }
        }
        Ok(())
    }

    fn run_with_many(&self, answered: &mut impl FnMut(Table)) -> anyhow::Result<()> {
        let mut many = World::with_revoked(MANY)?;
        if self.asks(Question::Authority) {
            answered(authority::ask(&many, self.rounds(5))?);
        }
        if self.asks(Question::Handshakes) {
            let mut none = World::with_revoked(0)?;
            answered(handshakes::ask(&self.runtime, [&mut none, &mut many], self.rounds(5))?);
        }
        if self.asks(Question::Swap) {
            // Last: its authority stands still.
            answered(swap::ask(&self.runtime, &mut many, self.rounds(5))?);
        }
        Ok(())
    }
}
