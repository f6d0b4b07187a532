//! What a million revoked certificates cost a relying party, and what it costs to sign them.
//!
//! Every round is two processes of its own: peaks only rise.

use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;
use e2e::run;
use serde::de::DeserializeOwned;

use crate::{
    roles::lists::{Loaded, Reasons, Signed},
    rounds::{Rounds, Statistic, Unit},
    table::{Goal, Table},
    world::World,
};

const MB: f64 = 1e6;

/// Measures in so many rounds.
pub(crate) fn ask(world: &World, entries: u64, rounds: usize) -> anyhow::Result<Table> {
    let (times, bytes) = (|| Rounds::new(Unit::Seconds), || Rounds::new(Unit::Octets));
    let (mut sign, mut sign_peak, mut load, mut resident, mut load_peak) =
        (times(), bytes(), times(), bytes(), bytes());
    let (mut hits, mut misses, mut deltas, mut sign_deltas) = (times(), times(), times(), times());
    let mut smaller = [0, 100_000].map(|entries: u64| (entries, times(), bytes()));
    let mut peak_without_reasons = bytes();
    for _ in 0..rounds {
        let signed: Signed = measure(world, "sign-lists", entries, Reasons::Each)?;
        sign.add(signed.seconds);
        sign_peak.add(signed.peak);
        sign_deltas.extend(signed.deltas);
        let loaded: Loaded = measure(world, "load-lists", entries, Reasons::Each)?;
        load.add(loaded.seconds);
        resident.add(loaded.resident);
        load_peak.add(loaded.peak);
        hits.extend(loaded.hits);
        misses.extend(loaded.misses);
        deltas.extend(loaded.deltas);
        let _: Signed = measure(world, "sign-lists", entries, Reasons::None)?;
        let loaded: Loaded = measure(world, "load-lists", entries, Reasons::None)?;
        peak_without_reasons.add(loaded.peak);
        for (entries, load, resident) in &mut smaller {
            let _: Signed = measure(world, "sign-lists", *entries, Reasons::Each)?;
            let loaded: Loaded = measure(world, "load-lists", *entries, Reasons::Each)?;
            load.add(loaded.seconds);
            resident.add(loaded.resident);
        }
    }
    let at_most = |bound| [Goal::at_most(Statistic::Median, bound)];
    let mut table = Table::new(format!("The live set with {entries} serial numbers"));
    table.judged("lookup of one that is not revoked", misses, at_most(80e-9));
    table.judged("lookup of one that is revoked, its refusal made", hits, at_most(80e-9));
    table.judged("complete CRL verified and loaded", load, at_most(0.15));
    table.judged("resident, above an empty set", resident, at_most(20.0 * MB));
    table.judged("peak of the load, above an empty set, the CRL included", load_peak, at_most(60.0 * MB));
    table.judged("delta of 1,000 verified and applied", deltas, at_most(1e-3));
    table.judged("complete CRL built and signed, by the library", sign, at_most(0.2));
    table.judged("peak of the process that signs it", sign_peak, at_most(80.0 * MB));
    table.row("delta of 1,000 built and signed, by the library", sign_deltas);
    table.row("peak of the load where no entry has a reason", peak_without_reasons);
    for (entries, load, resident) in smaller {
        table.row(format!("complete CRL of {entries} verified and loaded"), load);
        table.row(format!("resident with {entries}, above an empty set"), resident);
    }
    table.note("A lookup is `LiveSet::check` with a chain of one certificate, through the same door as a handshake's.");
    Ok(table)
}

fn measure<T: DeserializeOwned>(world: &World, role: &str, entries: u64, reasons: Reasons) -> anyhow::Result<T> {
    let mut command = Command::new(std::env::current_exe()?);
    command.current_dir(world.fleet.directory()).args(["role", role, "--dir", "lists"]);
    let reasons = reasons.to_possible_value().context("no variant is hidden")?;
    let output = run(command.args(["--entries", &entries.to_string(), "--reasons", reasons.get_name()]));
    ensure!(output.status.success(), "{output:?}");
    Ok(serde_json::from_str(&output.stdout)?)
}
