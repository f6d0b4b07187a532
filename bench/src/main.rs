//! Measures what is promised, with real processes and real sockets on loopback, prints a table for each question and writes
//! them to a file. `make bench` runs it.
//!
//! It never asserts a number.

#![expect(clippy::print_stdout, reason = "its tables are its purpose")]

use std::{
    cell::RefCell,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::Instant,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use tokio::runtime::Runtime;

mod answer;
mod commands;
mod compare;
mod contenders;
mod load;
mod machine;
mod peers;
mod plot;
mod questions;
mod report;
mod roles;
mod rounds;
mod table;
mod usage;
mod visitor;
mod world;

use crate::{
    contenders::Stage,
    questions::{
        authority, balanced,
        beside::{self, Sizes},
        effect, enrollments, footprint, handshakes, latency, live_set, requests, revocation, servers, swap,
    },
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
    /// Handshakes and requests while a list of a million is replaced
    Swap,
    /// What CRLs cost the authority, signed and served
    Authority,
    /// What a client fetches to know of its servers
    Servers,
    /// Resumption through the balancer
    Balanced,
    /// Revocation to effect at three services
    Revocation,
    /// Revocation to effect at 200 relying parties
    Revocation200,
    /// Requests beside peers
    PeerRequests,
    /// Latency over load beside peers
    PeerLatency,
    /// Handshakes beside peers, with 0 to a million revoked
    PeerHandshakes,
    /// Requests while another client does nothing but handshake, beside peers
    PeerNeighbour,
    /// Start-up and memory beside peers, with 0 to a million revoked
    PeerFootprint,
    /// Revocation to effect beside peers, with 0 and a million revoked
    PeerEffect,
    /// Enrollments, with nothing and with millions of certificates stored
    Enrollments,
}

/// How many are revoked where many are.
const MANY: u64 = 1_000_000;

/// How many are revoked where a cost is looked at over their number.
const SIZES: [u64; 4] = [0, 1_000, 100_000, MANY];

/// What is asked in a hurry.
const IN_A_HURRY: [Question; 3] = [Question::LiveSet, Question::PeerRequests, Question::PeerHandshakes];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    edge::listen::file_limit::raise();
    let runtime = Runtime::new()?;
    if let Some(Command::Role(role)) = arguments.role {
        return runtime.block_on(role.play());
    }
    let began = Instant::now();
    let facts = machine::facts();
    let mut tables = Vec::new();
    let out = arguments.out.as_deref();
    let write = |tables: &[Table], unanswered: &[String]| {
        out.map_or(Ok(()), |out| report::write(out, &facts, tables, unanswered))
    };
    let mut answered = |table: Table| {
        println!("{}", table.to_markdown());
        tables.push(table);
        // What is known already is not lost when the run ends early.
        if let Err(error) = write(&tables, &[]) {
            println!("{error:#}");
        }
    };
    let session = Session::new(runtime, arguments.quick, arguments.only);
    session.run(&mut answered);
    let unanswered = session.unanswered.into_inner();
    let ratios: Vec<_> = tables.iter().flat_map(Table::ratios).collect();
    println!("Ratios:\n{}\n\nWhat fell short:\n{}", ratios.join("\n"), report::missed(&tables, &unanswered));
    println!("measured in {} s", began.elapsed().as_secs());
    if let Some(path) = arguments.compare {
        let before = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        println!("since {}:\n{}", path.display(), compare::moved(&before, &tables));
    }
    write(&tables, &unanswered)?;
    anyhow::ensure!(unanswered.is_empty(), "not everything was answered");
    Ok(())
}

/// What is asked, and how thoroughly.
struct Session {
    runtime: Runtime,
    quick: bool,
    only: Vec<Question>,
    /// What could not be answered, and why: no reason to lose the other answers.
    unanswered: RefCell<Vec<String>>,
}

impl Session {
    fn new(runtime: Runtime, quick: bool, only: Vec<Question>) -> Self {
        Self { runtime, quick, only, unanswered: RefCell::default() }
    }

    /// Everything, where nothing in particular was asked for; in a hurry, what says most about ours and its peers.
    fn asks(&self, question: Question) -> bool {
        if self.only.is_empty() { !self.quick || IN_A_HURRY.contains(&question) } else { self.only.contains(&question) }
    }

    /// At least three, so that there is a median.
    fn rounds(&self, all: usize) -> usize {
        if self.quick { (all / 10).max(3) } else { all }
    }

    /// Goes on to the next question when this one cannot be answered.
    fn attempt(&self, question: Question, ask: impl FnOnce() -> anyhow::Result<()>) {
        let name = question.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        // What starts processes for tests panics when one does not start.
        let why = match catch_unwind(AssertUnwindSafe(ask)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "it panicked, see the log".to_owned(),
        };
        println!("{name} was not answered: {why}\n");
        self.unanswered.borrow_mut().push(format!("{name}: {why}"));
    }

    fn run(&self, answered: &mut impl FnMut(Table)) {
        let ask = |question: Question, ask: &mut dyn FnMut() -> anyhow::Result<()>| {
            if self.asks(question) {
                self.attempt(question, ask);
            }
        };
        let none = || World::with_revoked(0);
        let many = || World::with_revoked(MANY);
        let effect = |parties, rounds| revocation::Scene { parties, rounds: self.rounds(rounds), revoked: MANY };
        let (runtime, rounds) = (&self.runtime, self.rounds(5));
        ask(Question::LiveSet, &mut || {
            answered(live_set::ask(&none()?, MANY, rounds)?);
            Ok(())
        });
        ask(Question::Requests, &mut || {
            answered(requests::ask(runtime, &mut none()?, rounds)?);
            Ok(())
        });
        ask(Question::Authority, &mut || {
            answered(authority::ask(runtime, &mut many()?, rounds)?);
            Ok(())
        });
        ask(Question::Handshakes, &mut || {
            answered(handshakes::ask(runtime, [&mut none()?, &mut many()?], rounds)?);
            Ok(())
        });
        ask(Question::Servers, &mut || {
            answered(servers::ask(runtime, [&none()?, &many()?], rounds)?);
            Ok(())
        });
        ask(Question::Swap, &mut || {
            answered(swap::ask(runtime, &mut many()?, rounds)?);
            Ok(())
        });
        ask(Question::Revocation, &mut || revocation::ask(runtime, effect(3, 150), answered));
        ask(Question::Revocation200, &mut || revocation::ask(runtime, effect(200, 20), answered));
        ask(Question::Balanced, &mut || {
            answered(balanced::ask(runtime, &mut none()?, rounds)?);
            Ok(())
        });
        let mut sizes = Sizes::default();
        for revoked in SIZES {
            self.attempt(Question::PeerHandshakes, || self.run_beside_peers(revoked, &mut sizes, answered));
        }
        if self.asks(Question::Enrollments) {
            let stored: &[u64] = if self.quick { &[0] } else { &[0, MANY, 5 * MANY] };
            self.attempt(Question::Enrollments, || enrollments::ask(stored, rounds, answered));
        }
    }

    /// Everything that is asked beside peers with so many revoked.
    fn run_beside_peers(
        &self,
        revoked: u64,
        sizes: &mut Sizes,
        answered: &mut impl FnMut(Table),
    ) -> anyhow::Result<()> {
        let is_asked = |question, of: &[u64]| self.asks(question) && of.contains(&revoked);
        let requests = is_asked(Question::PeerRequests, &[0]);
        let latency = is_asked(Question::PeerLatency, &[0]);
        let sizes_shaken: &[u64] = if self.quick { &[0, MANY] } else { &SIZES };
        let shakes_hands = is_asked(Question::PeerHandshakes, sizes_shaken);
        let neighbour = is_asked(Question::PeerNeighbour, &[MANY]);
        let footprint = is_asked(Question::PeerFootprint, &[0, 100_000, MANY]);
        let effect = is_asked(Question::PeerEffect, &[0, MANY]);
        if !(requests || latency || shakes_hands || neighbour || footprint || effect) {
            return Ok(());
        }
        let rounds = self.rounds(5);
        let world = World::with_revoked(revoked)?;
        let stage = Stage::new(&self.runtime, &world)?;
        let ask = |question: Question, is_asked: bool, ask: &mut dyn FnMut() -> anyhow::Result<()>| {
            if is_asked {
                self.attempt(question, ask);
            }
        };
        ask(Question::PeerFootprint, footprint, &mut || {
            answered(footprint::ask(&stage, rounds)?);
            Ok(())
        });
        let contenders = stage.start_all()?;
        ask(Question::PeerRequests, requests, &mut || {
            answered(beside::requests(&stage, &contenders, rounds)?);
            Ok(())
        });
        ask(Question::PeerLatency, latency, &mut || {
            answered(latency::over_load(&stage, &contenders, rounds)?);
            Ok(())
        });
        ask(Question::PeerHandshakes, shakes_hands, &mut || {
            let mut table = beside::handshakes(&stage, &contenders, rounds, sizes)?;
            if revoked == MANY {
                table.figure(std::mem::take(sizes).figure());
            }
            answered(table);
            if revoked == 0 || (revoked == MANY && !self.quick) {
                answered(beside::resumptions(&stage, &contenders, rounds)?);
            }
            Ok(())
        });
        ask(Question::PeerNeighbour, neighbour, &mut || {
            answered(latency::beside_handshakes(&stage, &contenders, rounds)?);
            Ok(())
        });
        // Its contenders are started for each event, on an otherwise idle stage.
        drop(contenders);
        ask(Question::PeerEffect, effect, &mut || {
            answered(effect::ask(&stage, rounds)?);
            Ok(())
        });
        Ok(())
    }
}
