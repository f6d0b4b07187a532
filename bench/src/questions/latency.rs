//! How long requests take: over the load, and beside a client that does nothing but shake hands.
//!
//! Always in an open loop, so that a server which stalls is not asked less often for it.

use std::time::Duration;

use crate::{
    contenders::{Contender, Stage},
    load::{Kind, Shape},
    plot::{Figure, Line, Stroke},
    rounds::{Rounds, Unit},
    table::Table,
};

/// Requests in a second.
const RATES: [u32; 7] = [1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 40_000];
const LOADED: Shape = Shape { connections: 10, streams: 10, kind: Kind::Requests, period: Duration::from_secs(1) };

/// So few requests that nobody's time is scarce.
const CALM: Shape = Shape { connections: 4, streams: 1, kind: Kind::Paced(500), period: Duration::from_secs(2) };
/// It goes on for longer than whom it disturbs.
const NEIGHBOUR: Shape = Shape { connections: 1, streams: 1, kind: Kind::Handshakes, period: Duration::from_secs(4) };

/// Everybody at each rate.
pub(crate) fn over_load(stage: &Stage<'_>, contenders: &[Contender], rounds: usize) -> anyhow::Result<Table> {
    let mut table = Table::new("Beside peers: latency over load, 10 x 10 in an open loop");
    let mut lines = Vec::new();
    for (colour, contender) in contenders.iter().enumerate() {
        for (percentile, stroke) in [("p50", Stroke::Dashed), ("p99", Stroke::Solid)] {
            lines.push(Line {
                name: format!("{}, {percentile}", contender.name()),
                colour,
                stroke,
                points: Vec::new(),
            });
        }
    }
    for rate in RATES {
        let shape = Shape { kind: Kind::Paced(rate), ..LOADED };
        let mut seen = vec![[Rounds::new(Unit::Seconds), Rounds::new(Unit::Seconds)]; contenders.len()];
        for _ in 0..rounds {
            for (contender, [p50, p99]) in contenders.iter().zip(&mut seen) {
                let driven = shape.drive(&stage.identity, &contender.url, &[contender.pid])?;
                p50.add(driven.p50);
                p99.add(driven.p99);
            }
        }
        for (line, rounds) in lines.iter_mut().zip(seen.into_iter().flatten()) {
            table.row(format!("{rate}/s: {} of each round", line.name), rounds.clone());
            line.points.push((rate.into(), rounds));
        }
    }
    table.note(
        "Latencies count from when a request was due, and the driver shares the cores: where they rise steeply, both together are at \
         their end.",
    );
    table.figure(Figure {
        name: "latency",
        title: "Requests over open connections: latency over load (open loop)",
        x: "requests in a second",
        y: "latency",
        lines,
    });
    Ok(table)
}

/// Everybody, quiet and with the neighbour.
pub(crate) fn beside_handshakes(stage: &Stage<'_>, contenders: &[Contender], rounds: usize) -> anyhow::Result<Table> {
    let title = "Beside peers: requests on open connections while one client does nothing but handshake";
    let mut table = Table::new(format!("{title}, {} revoked", stage.world.revoked));
    let log = stage.world.fleet.directory().join("neighbour.log");
    let mut quiet = vec![Rounds::new(Unit::Seconds); contenders.len()];
    let mut disturbed = quiet.clone();
    for _ in 0..rounds {
        for (contender, (quiet, disturbed)) in contenders.iter().zip(quiet.iter_mut().zip(&mut disturbed)) {
            let drive = || CALM.drive(&stage.identity, &contender.url, &[contender.pid]);
            quiet.add(drive()?.p99);
            let _neighbour = NEIGHBOUR.keep_driving(&stage.identity, &contender.url, &log);
            disturbed.add(drive()?.p99);
        }
    }
    for (contender, (quiet, disturbed)) in contenders.iter().zip(quiet.into_iter().zip(&disturbed)) {
        table.row(format!("{}: p99 of each round, quiet", contender.name()), quiet);
        table.row(format!("{}: p99 of each round, beside the handshakes", contender.name()), disturbed.clone());
    }
    for (contender, theirs) in contenders.iter().zip(&disturbed).skip(1) {
        table.row(
            format!("p99 beside the handshakes of api-server over {}", contender.name()),
            disturbed[0].over(theirs),
        );
    }
    table.note("500 requests in a second over four connections in an open loop, which share the cores with the client that handshakes.");
    Ok(table)
}
