//! What it takes to be there: start-up with the CRLs on the disk, and memory, with as many revoked as the world has.

use crate::{
    contenders::{Stage, Who},
    rounds::{Rounds, Unit},
    table::Table,
};

/// Starts everybody in every round, one after another.
pub(crate) fn ask(stage: &Stage<'_>, rounds: usize) -> anyhow::Result<Table> {
    let mut table = Table::new(format!("Beside peers: start-up and memory, {} revoked", stage.world.revoked));
    let series = |unit| vec![Rounds::new(unit); Who::ALL.len()];
    let (mut starts, mut memories, mut peaks) = (series(Unit::Seconds), series(Unit::Octets), series(Unit::Octets));
    for _ in 0..rounds {
        for (index, who) in Who::ALL.into_iter().enumerate() {
            let contender = stage.start(who)?;
            starts[index].add(contender.start);
            memories[index].add(contender.memory);
            peaks[index].add(contender.peak);
        }
    }
    let measured = [
        ("from its start until it lets a client in", starts),
        ("memory then", memories),
        ("peak of its first process", peaks),
    ];
    for (what, series) in &measured {
        for (who, rounds) in Who::ALL.iter().zip(series) {
            table.row(format!("{}: {what}", who.name()), rounds.clone());
        }
    }
    for (what, series) in &measured[..2] {
        for (who, rounds) in Who::ALL.iter().zip(series).skip(1) {
            table.row(format!("{what}: api-server over {}", who.name()), series[0].over(rounds));
        }
    }
    table.note(
        "Memory: proportional set size of all processes. Each finds its identity and its CRLs on the disk; what `api-server` \
         finds there it verifies again.",
    );
    Ok(table)
}
