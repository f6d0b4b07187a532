//! Beside what a user would pick instead: requests, full and resumed handshakes, memory and start-up, with as many revoked as the
//! world has; in rounds in which the contenders take turns.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use e2e::Process;
use tokio::runtime::Runtime;

use crate::{
    load::{Kind, Shape},
    peers::{self, Peer},
    rounds::{Rounds, Statistic, Unit},
    table::{Goal, Table},
    usage,
    visitor::{Knock, Visitor},
    world::World,
};

const PERIOD: Duration = Duration::from_millis(1500);
const FULL: Shape = Shape { connections: 8, streams: 1, kind: Kind::Handshakes, period: PERIOD };
const RESUMED: Shape = Shape { kind: Kind::Resumptions, ..FULL };
const TEN: Shape = Shape { connections: 10, streams: 10, kind: Kind::Requests, period: PERIOD };
const ONE: Shape = Shape { connections: 1, streams: 1, ..TEN };

/// How long a contender may take until it lets somebody in.
const PATIENCE: Duration = Duration::from_mins(1);

/// Who is measured.
struct Contender {
    name: &'static str,
    url: String,
    pid: u32,
    /// It ends when this is dropped; ours belongs to its world.
    _process: Option<Process>,
    start: f64,
    memory: f64,
}

/// CPU for requests over open connections: at most 0.75 times nginx's.
pub(crate) fn requests(runtime: &Runtime, world: &mut World, rounds: usize) -> anyhow::Result<Table> {
    let (identity, contenders) = contenders(runtime, world)?;
    let mut table = Table::new("Beside peers: requests over open connections, nobody revoked");
    for shape in [TEN, ONE] {
        let what = format!("100,000 requests, {} x {}", shape.connections, shape.streams);
        // HAProxy's answer is canned, which nobody promised to beat.
        let goals = vec![(Peer::Nginx, 0.75)];
        let comparison = Comparison { shape, rounds, what, times: 1e5, goals };
        comparison.run(&mut table, &identity, &contenders)?;
    }
    versions(&mut table);
    Ok(table)
}

/// Handshakes, memory and start-up, with as many revoked as there are.
pub(crate) fn handshakes(runtime: &Runtime, world: &mut World, rounds: usize) -> anyhow::Result<Table> {
    let (identity, contenders) = contenders(runtime, world)?;
    let mut table = Table::new(format!("Beside peers: handshakes, memory and start-up, {} revoked", world.revoked));
    let both = |bound| vec![(Peer::Nginx, bound), (Peer::Haproxy, bound)];
    let goals = match world.revoked {
        0 => both(0.18),
        1_000_000 => both(0.008),
        _ => Vec::new(),
    };
    let full = Comparison { shape: FULL, rounds, what: "a full handshake".to_owned(), times: 1.0, goals };
    full.run(&mut table, &identity, &contenders)?;
    if world.revoked == 0 {
        let goals = vec![(Peer::Nginx, 0.25)];
        let resumed = Comparison { shape: RESUMED, what: "a resumed handshake".to_owned(), goals, ..full };
        resumed.run(&mut table, &identity, &contenders)?;
    }
    for Contender { name, start, memory, .. } in &contenders {
        table.row(format!("{name}: from its start until it lets a client in"), Rounds::of(Unit::Seconds, [*start]));
        table.row(format!("{name}: memory then"), Rounds::of(Unit::Octets, [*memory]));
    }
    table.note(
        "A handshake is counted with the request on it and the connection's end. Peers exchange keys with X25519, ours with X25519MLKEM768, \
         which costs ours more. Memory: proportional set size of all processes.",
    );
    versions(&mut table);
    Ok(table)
}

fn versions(table: &mut Table) {
    table.note(format!("{}; {}.", Peer::Nginx.version(), Peer::Haproxy.version()));
}

/// Everybody on the same load, round after round; the first is ours, and is compared with each of the others.
struct Comparison {
    shape: Shape,
    rounds: usize,
    /// What is counted ...
    what: String,
    /// ... and how many answers that are.
    times: f64,
    /// What ours may cost at most, over what the peer does.
    goals: Vec<(Peer, f64)>,
}

impl Comparison {
    fn run(&self, table: &mut Table, identity: &Path, contenders: &[Contender]) -> anyhow::Result<()> {
        let Self { shape, what, .. } = self;
        let mut costs = vec![Rounds::new(Unit::Seconds); contenders.len()];
        let mut rates = vec![Rounds::new(Unit::PerSecond); contenders.len()];
        for _ in 0..self.rounds {
            for (contender, (cost, rate)) in contenders.iter().zip(costs.iter_mut().zip(&mut rates)) {
                let driven = shape.drive(identity, &contender.url, contender.pid)?;
                let expected = if shape.kind == Kind::Resumptions { 0.9..=1.0 } else { 0.0..=0.0 };
                let is_expected = shape.kind == Kind::Requests || expected.contains(&driven.resumed);
                ensure!(is_expected, "{}: {} of the handshakes were resumed", contender.name, driven.resumed);
                cost.add(driven.server_time * self.times);
                rate.add(driven.per_second);
            }
        }
        let ratios: Vec<_> = costs.iter().skip(1).map(|cost| costs[0].over(cost)).collect();
        for ((contender, cost), rate) in contenders.iter().zip(costs).zip(rates) {
            table.row(format!("{what}: {}, CPU", contender.name), cost);
            table.row(
                format!("{what}: {}, answers in a second on two cores shared with the client", contender.name),
                rate,
            );
        }
        for (contender, ratio) in contenders.iter().skip(1).zip(ratios) {
            let goal = self.goals.iter().find(|(peer, _)| peer.name() == contender.name);
            let goals: Vec<_> = goal.map(|(_, bound)| Goal::at_most(Statistic::Median, *bound)).into_iter().collect();
            table.judged(format!("{what}: CPU of api-server over {}", contender.name), ratio, goals);
        }
        Ok(())
    }
}

/// Ours first. Each has let in a client.
fn contenders(runtime: &Runtime, world: &mut World) -> anyhow::Result<(std::path::PathBuf, Vec<Contender>)> {
    let (tls, identity) = runtime.block_on(world.enroll("comparer"))?;
    let visitor = Visitor::new(tls);
    peers::prepare(world)?;
    // Enrolled and stopped before it is timed: peers have their certificates, too.
    let mut enrolled = world.fleet.launch_service("service0", &[]);
    enrolled.wait_ready();
    enrolled.process.stop();
    drop(enrolled);
    let began = Instant::now();
    let service = world.fleet.launch_service("service0", &[]);
    let (address, pid) = (service.https, service.process.id());
    let start = runtime.block_on(first_admission(&visitor, address, began))?;
    let mut contenders = vec![Contender {
        name: "api-server",
        url: service.url(),
        pid,
        _process: Some(service.process),
        start,
        memory: usage::proportional(pid)?,
    }];
    for peer in [Peer::Nginx, Peer::Haproxy] {
        let began = Instant::now();
        let (process, address) = peer.start(world)?;
        let start = runtime.block_on(first_admission(&visitor, address, began)).context(peer.name())?;
        let (url, pid) = (format!("https://{address}/hello"), process.id());
        let memory = usage::proportional(pid)?;
        contenders.push(Contender { name: peer.name(), url, pid, _process: Some(process), start, memory });
    }
    Ok((identity, contenders))
}

async fn first_admission(visitor: &Visitor, address: SocketAddr, began: Instant) -> anyhow::Result<f64> {
    loop {
        let knock = visitor.knock(address).await;
        if knock == Knock::Admitted {
            return Ok(began.elapsed().as_secs_f64());
        }
        ensure!(began.elapsed() < PATIENCE, "nobody was let in: {knock:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
