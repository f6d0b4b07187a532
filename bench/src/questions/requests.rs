//! Requests over open connections, with the question to the live set before each and without, in rounds that take turns.

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Runtime;

use crate::{
    load::{Kind, Shape},
    rounds::{Rounds, Statistic, Unit},
    table::{Goal, Table},
    world::World,
};

const PERIOD: Duration = Duration::from_millis(1500);
const SHAPES: [Shape; 2] = [
    Shape { connections: 10, streams: 10, kind: Kind::Requests, period: PERIOD },
    Shape { connections: 1, streams: 1, kind: Kind::Requests, period: PERIOD },
];

/// Three contenders: `api-server`, and one answer behind the guard and in front of it.
pub(crate) fn ask(runtime: &Runtime, world: &mut World, rounds: usize) -> anyhow::Result<Table> {
    let (_, identity) = runtime.block_on(world.enroll("asker"))?;
    let (token, host) = (world.server_token()?, world.address().to_string());
    let token = token.to_str().context("the path is UTF-8")?;
    let role = |kind| world.role(&["service", "--kind", kind, "--host", &host, "--token-file", token]);
    let (guarded, unguarded) = (role("guarded")?, role("unguarded")?);
    let url = |line: String| format!("https://{line}/hello");
    let mut contenders = vec![
        ("without the check", url(unguarded.line()), unguarded.id()),
        ("with the check", url(guarded.line()), guarded.id()),
    ];
    let service = world.fleet.start_service("asked", &[]);
    contenders.push(("api-server", service.url(), service.process.id()));

    let mut table = Table::new(format!("Requests over open connections, {} revoked", world.revoked));
    for shape in SHAPES {
        let (connections, streams) = (shape.connections, shape.streams);
        let mut times = [(); 3].map(|()| Rounds::new(Unit::Seconds));
        let mut waits = [(); 3].map(|()| Rounds::new(Unit::Seconds));
        let (mut rates, mut own) = ([(); 3].map(|()| Rounds::new(Unit::PerSecond)), Rounds::new(Unit::Seconds));
        for _ in 0..rounds {
            for (index, (_, url, pid)) in contenders.iter().enumerate() {
                let driven = shape.drive(&identity, url, &[*pid])?;
                times[index].add(driven.server_time * 1e5);
                rates[index].add(driven.per_second);
                waits[index].add(driven.p99);
                own.add(driven.client_time * 1e5);
            }
        }
        let ratio = times[1].over(&times[0]);
        for ((((name, ..), time), rate), wait) in contenders.iter().zip(times).zip(rates).zip(waits) {
            table.row(format!("{connections} x {streams}, {name}: CPU for 100,000 requests"), time);
            table
                .row(format!("{connections} x {streams}, {name}: requests on two cores, shared with the client"), rate);
            table.row(format!("{connections} x {streams}, {name}: latency, p99 of each round"), wait);
        }
        let what = format!("{connections} x {streams}: CPU with the check over without");
        table.judged(what, ratio, [Goal::at_most(Statistic::Median, 1.02)]);
        table.row(format!("{connections} x {streams}: the driver's own CPU for 100,000 requests"), own);
    }
    table.note(
        "\"Without the check\" is the same answer, router, TLS and HTTP settings on hyper and axum alone; what is between the two is \
         the guard and everything else of `mtls::serve` (slots, write timeouts, the watch over each connection). `api-server` \
         makes its answer anew for each client, and measures each request.",
    );
    Ok(table)
}
