//! Resumption behind the balancer: three replicas, of which each knows the sessions that it began itself.

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Runtime;

use crate::{
    load::{Driven, Kind, Shape},
    rounds::{Rounds, Unit},
    table::Table,
    usage,
    world::World,
};

const REPLICAS: usize = 3;
const RESUMED: Shape =
    Shape { connections: 8, streams: 1, kind: Kind::Resumptions, period: Duration::from_millis(1500) };
const FULL: Shape = Shape { kind: Kind::Handshakes, ..RESUMED };

/// Everything that is measured of one way to connect.
struct Way {
    name: &'static str,
    shape: Shape,
    url: String,
    servers: Vec<u32>,
    shares: Rounds,
    times: Rounds,
    rates: Rounds,
}

/// Handshakes through the balancer, full and with sessions to resume, and the latter past it.
pub(crate) fn ask(runtime: &Runtime, world: &mut World, rounds: usize) -> anyhow::Result<Table> {
    let (_, identity) = runtime.block_on(world.enroll("balanced"))?;
    world.fleet.start_balanced_services();
    let replicas: Vec<_> = (0..REPLICAS).map(|index| world.fleet.service(index).process.id()).collect();
    let balancer = world.fleet.balancer().id();
    // The replicas take a PROXY header from the balancer's network, which this is as well; so one more is for the way past it.
    let alone = world.fleet.launch_service("alone", &["--crl-refresh", "1s"]);
    alone.wait_ready();
    let way = |name, shape, url, servers| Way {
        name,
        shape,
        url,
        servers,
        shares: Rounds::new(Unit::Share),
        times: Rounds::new(Unit::Seconds),
        rates: Rounds::new(Unit::PerSecond),
    };
    let mut ways = [
        way("through the balancer, sessions to resume", RESUMED, world.fleet.balancer_url(), replicas.clone()),
        way("through the balancer, none to resume", FULL, world.fleet.balancer_url(), replicas),
        way("one service past it, sessions to resume", RESUMED, alone.url(), vec![alone.process.id()]),
    ];
    let mut balancing = Rounds::new(Unit::Seconds);
    for _ in 0..rounds {
        for (index, way) in ways.iter_mut().enumerate() {
            let before = usage::processor_time(balancer)?;
            let driven: Driven = way.shape.drive(&identity, &way.url, &way.servers).context(way.name)?;
            let used = usage::processor_time(balancer)?.saturating_sub(before);
            way.shares.add(driven.resumed);
            way.times.add(driven.server_time);
            way.rates.add(driven.per_second);
            if index == 0 {
                balancing.add(used.as_secs_f64() / (driven.per_second * way.shape.period.as_secs_f64()));
            }
        }
    }
    let mut table = Table::new(format!("Resumption through HAProxy with {REPLICAS} replicas"));
    for Way { name, shares, times, rates, .. } in ways {
        table.row(format!("{name}: handshakes that resumed"), shares);
        table.row(format!("{name}: the services' CPU for each"), times);
        table.row(format!("{name}: handshakes in a second"), rates);
    }
    table.row("the balancer's own CPU for each handshake", balancing);
    table.note(
        "A session can be resumed at the replica that it began at, so through a balancer that does not look at clients about one of \
         three is. Sharing ticket keys among replicas would make it all of them, and is not done: whoever has such a key can make a \
         ticket for any client, so every replica would hold a secret worth as much as the issuing CA's key, and the authority would \
         have to hand it out. What it would save is the difference between the two costs above.",
    );
    Ok(table)
}
