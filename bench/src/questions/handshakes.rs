//! Full handshakes at `api-server` with nobody revoked and with many, in rounds that take turns.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use tokio::runtime::Runtime;

use crate::{
    load::{Kind, Shape},
    rounds::{Rounds, Statistic, Unit},
    table::{Goal, Table},
    world::World,
};

const FULL: Shape = Shape { connections: 8, streams: 1, kind: Kind::Handshakes, period: Duration::from_millis(1500) };
const RESUMED: Shape = Shape { kind: Kind::Resumptions, ..FULL };

/// What one service came to.
struct Service {
    url: String,
    pid: u32,
    identity: PathBuf,
    revoked: u64,
    rates: Rounds,
    times: Rounds,
    resumed_rates: Rounds,
    resumed_times: Rounds,
}

/// Both worlds have a service; the first has revoked nobody.
pub(crate) fn ask(runtime: &Runtime, worlds: [&mut World; 2], rounds: usize) -> anyhow::Result<Table> {
    let mut table = Table::new(format!("mTLS handshakes at api-server, 0 and {} revoked", worlds[1].revoked));
    let mut services = Vec::new();
    for world in worlds {
        let (_, identity) = runtime.block_on(world.enroll("handshaker"))?;
        let service = world.fleet.start_service("service0", &["--crl-refresh", "1s"]);
        let (rate, time) = (|| Rounds::new(Unit::PerSecond), || Rounds::new(Unit::Seconds));
        services.push(Service {
            url: service.url(),
            pid: service.process.id(),
            identity,
            revoked: world.revoked,
            rates: rate(),
            times: time(),
            resumed_rates: rate(),
            resumed_times: time(),
        });
    }
    let mut own = Rounds::new(Unit::Seconds);
    for _ in 0..rounds {
        for service in &mut services {
            let full = FULL.drive(&service.identity, &service.url, &[service.pid])?;
            ensure!(full.resumed <= 0.0, "handshakes were resumed that were to be full");
            service.rates.add(full.per_second);
            service.times.add(full.server_time);
            own.add(full.client_time);
            let resumed = RESUMED.drive(&service.identity, &service.url, &[service.pid])?;
            ensure!(resumed.resumed > 0.9, "only {} of the handshakes were resumed", resumed.resumed);
            service.resumed_rates.add(resumed.per_second);
            service.resumed_times.add(resumed.server_time);
        }
    }
    let ratio = services[1].times.over(&services[0].times);
    for Service { revoked, rates, times, resumed_rates, resumed_times, .. } in services {
        table.row(format!("{revoked} revoked: full handshakes, on two cores shared with the client"), rates);
        table.row(
            format!("{revoked} revoked: the service's CPU for each, its request and the connection's end included"),
            times,
        );
        table.row(format!("{revoked} revoked: resumed handshakes"), resumed_rates);
        table.row(format!("{revoked} revoked: the service's CPU for each"), resumed_times);
    }
    let goal = [Goal::at_most(Statistic::Median, 1.02)];
    table.judged("CPU for a full handshake, with them over without", ratio, goal);
    table.row("the driver's own CPU for a full handshake", own);
    Ok(table)
}
