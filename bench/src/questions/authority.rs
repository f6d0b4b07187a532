//! What a complete CRL costs the authority itself: `ca-daemon crl --resign`, database and all.

use std::{
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;

use crate::{
    rounds::{Rounds, Statistic, Unit},
    table::{Goal, Table},
    usage,
    world::World,
};

/// Signs the complete CRL so many times.
pub(crate) fn ask(world: &World, rounds: usize) -> anyhow::Result<Table> {
    let (mut took, mut peaks) = (Rounds::new(Unit::Seconds), Rounds::new(Unit::Octets));
    for _ in 0..rounds {
        let mut command = world.fleet.command("ca-daemon");
        command.args(["crl", "--resign", "--out", "resigned.crl"]).stdout(Stdio::null());
        let began = Instant::now();
        let mut child = command.spawn()?;
        let mut peak: f64 = 0.0;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            // What it says last is the peak but for the last millisecond; once it has ended, nothing can be read.
            peak = usage::peak(child.id()).unwrap_or(0.0).max(peak);
            thread::sleep(Duration::from_millis(1));
        };
        took.add_time(began.elapsed());
        ensure!(status.success(), "crl --resign ended with {status}");
        peaks.add(peak);
    }
    let mut table = Table::new(format!("ca-daemon crl --resign with {} revoked", world.revoked));
    let at_most = |bound| [Goal::at_most(Statistic::Median, bound)];
    table.judged("the whole command: rows read, CRL built, signed, stored and written", took, at_most(0.2));
    table.judged("its peak", peaks, at_most(80.0 * 1_048_576.0));
    table.note(
        "The goals are those for building and signing alone; the table of the live set has that without the database.",
    );
    Ok(table)
}
