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
        effect, enrollments, footprint, handshakes, latency, live_set, requests, revocation, swap,
    },
    table::Table,
    world::World,
};

/// What the programs have, because this one plays services, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    let ratios: Vec<_> = tables.iter().flat_map(Table::ratios).collect();
    println!("Ratios:\n{}\n\nWhat fell short:\n{}", ratios.join("\n"), report::missed(&tables));
    println!("measured in {} s", began.elapsed().as_secs());
    if let Some(path) = arguments.compare {
        let before = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        println!("since {}:\n{}", path.display(), compare::moved(&before, &tables));
    }
    if let Some(out) = arguments.out {
        report::write(&out, &facts, &tables)?;
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
    /// Everything, where nothing in particular was asked for; in a hurry, what says most about ours and its peers.
    fn asks(&self, question: Question) -> bool {
        if self.only.is_empty() { !self.quick || IN_A_HURRY.contains(&question) } else { self.only.contains(&question) }
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
        if self.asks(Question::Balanced) {
            answered(balanced::ask(&self.runtime, &mut World::with_revoked(0)?, self.rounds(5))?);
        }
        if self.asks(Question::Enrollments) {
            enrollments::ask(if self.quick { &[0] } else { &[0, MANY, 5 * MANY] }, self.rounds(5), answered)?;
        }
        self.run_beside_peers(answered)
    }

    /// With each number of revoked certificates, everything that is asked with so many.
    fn run_beside_peers(&self, answered: &mut impl FnMut(Table)) -> anyhow::Result<()> {
        let mut sizes = Sizes::default();
        for revoked in SIZES {
            let is_asked = |question, of: &[u64]| self.asks(question) && of.contains(&revoked);
            let requests = is_asked(Question::PeerRequests, &[0]);
            let latency = is_asked(Question::PeerLatency, &[0]);
            let sizes_shaken: &[u64] = if self.quick { &[0, MANY] } else { &SIZES };
            let shakes_hands = is_asked(Question::PeerHandshakes, sizes_shaken);
            let neighbour = is_asked(Question::PeerNeighbour, &[MANY]);
            let footprint = is_asked(Question::PeerFootprint, &[0, 100_000, MANY]);
            let effect = is_asked(Question::PeerEffect, &[0, MANY]);
            if !(requests || latency || shakes_hands || neighbour || footprint || effect) {
                continue;
            }
            let world = World::with_revoked(revoked)?;
            let stage = Stage::new(&self.runtime, &world)?;
            if footprint {
                answered(footprint::ask(&stage, self.rounds(5))?);
            }
            let contenders = stage.start_all()?;
            if requests {
                answered(beside::requests(&stage, &contenders, self.rounds(5))?);
            }
            if latency {
                answered(latency::over_load(&stage, &contenders, self.rounds(5))?);
            }
            if shakes_hands {
                let mut table = beside::handshakes(&stage, &contenders, self.rounds(5), &mut sizes)?;
                if revoked == MANY {
                    table.figure(std::mem::take(&mut sizes).figure());
                }
                answered(table);
                if revoked == 0 || (revoked == MANY && !self.quick) {
                    answered(beside::resumptions(&stage, &contenders, self.rounds(5))?);
                }
            }
            if neighbour {
                answered(latency::beside_handshakes(&stage, &contenders, self.rounds(5))?);
            }
            if effect {
                // Its contenders are started for each event, on an otherwise idle stage.
                drop(contenders);
                answered(effect::ask(&stage, self.rounds(5))?);
            }
        }
        Ok(())
    }

    fn run_with_many(&self, answered: &mut impl FnMut(Table)) -> anyhow::Result<()> {
        let mut many = World::with_revoked(MANY)?;
        if self.asks(Question::Authority) {
            answered(authority::ask(&self.runtime, &mut many, self.rounds(5))?);
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
