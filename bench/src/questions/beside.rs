//! Beside what a user would pick instead: requests, full and resumed handshakes, with as many revoked as the world has; in rounds
//! in which the contenders take turns.

use std::time::Duration;

use anyhow::ensure;

use crate::{
    contenders::{Contender, Stage, Who},
    load::{Kind, Shape},
    peers::Peer,
    plot::{Figure, Line, Stroke},
    rounds::{Rounds, Statistic, Unit},
    table::{Goal, Table},
};

const PERIOD: Duration = Duration::from_millis(1500);
const FULL: Shape = Shape { connections: 8, streams: 1, kind: Kind::Handshakes, period: PERIOD };
const RESUMED: Shape = Shape { kind: Kind::Resumptions, ..FULL };
const TEN: Shape = Shape { connections: 10, streams: 10, kind: Kind::Requests, period: PERIOD };
const ONE: Shape = Shape { connections: 1, streams: 1, ..TEN };

/// CPU for requests over open connections: at most 0.75 times nginx's.
pub(crate) fn requests(stage: &Stage<'_>, contenders: &[Contender], rounds: usize) -> anyhow::Result<Table> {
    let mut table =
        Table::new(format!("Beside peers: requests over open connections, {} revoked", stage.world.revoked));
    for shape in [TEN, ONE] {
        let what = format!("100,000 requests, {} x {}", shape.connections, shape.streams);
        // HAProxy's answer is canned, which nobody promised to beat.
        let goals = vec![(Peer::Nginx, 0.75)];
        Comparison { shape, rounds, what, times: 1e5, goals }.run(&mut table, stage, contenders)?;
    }
    Ok(table)
}

/// Full handshakes, with as many revoked as there are.
pub(crate) fn handshakes(
    stage: &Stage<'_>,
    contenders: &[Contender],
    rounds: usize,
    sizes: &mut Sizes,
) -> anyhow::Result<Table> {
    let revoked = stage.world.revoked;
    let mut table = Table::new(format!("Beside peers: full handshakes, {revoked} revoked"));
    let goals = |nginx_and_haproxy: Option<f64>| {
        let two = nginx_and_haproxy.map(|bound| [(Peer::Nginx, bound), (Peer::Haproxy, bound)]);
        two.into_iter().flatten().chain([(Peer::Go, 0.5)]).collect()
    };
    let goals = match revoked {
        0 => goals(Some(0.18)),
        1_000_000 => goals(Some(0.008)),
        _ => goals(None),
    };
    let full = Comparison { shape: FULL, rounds, what: "a full handshake".to_owned(), times: 1.0, goals };
    let costs = full.run(&mut table, stage, contenders)?;
    sizes.add(revoked, contenders, costs);
    table.note(
        "A handshake is counted with the request on it and the connection's end. Peers exchange keys with X25519, ours with X25519MLKEM768, \
         which costs ours more.",
    );
    Ok(table)
}

/// Resumed handshakes, with as many revoked as there are.
pub(crate) fn resumptions(stage: &Stage<'_>, contenders: &[Contender], rounds: usize) -> anyhow::Result<Table> {
    let revoked = stage.world.revoked;
    let mut table = Table::new(format!("Beside peers: resumed handshakes, {revoked} revoked"));
    let goals = if revoked == 0 { vec![(Peer::Nginx, 0.25)] } else { Vec::new() };
    let what = "a resumed handshake".to_owned();
    Comparison { shape: RESUMED, rounds, what, times: 1.0, goals }.run(&mut table, stage, contenders)?;
    table.note(
        "Ours asks the live set after a resumed handshake as after a full one, and Go's asks its map; nginx and HAProxy have looked at \
         their CRL in the full handshake only. The first handshake on each of the driver's connections is full.",
    );
    Ok(table)
}

/// Everybody's CPU for a full handshake at each size of the CRL.
#[derive(Default)]
pub(crate) struct Sizes(Vec<Line>);

impl Sizes {
    fn add(&mut self, revoked: u64, contenders: &[Contender], costs: Vec<Rounds>) {
        for (index, (contender, cost)) in contenders.iter().zip(costs).enumerate() {
            if self.0.len() <= index {
                let name = contender.name().to_owned();
                self.0.push(Line { name, colour: index, stroke: Stroke::Solid, points: Vec::new() });
            }
            #[expect(clippy::cast_precision_loss, reason = "there are at most millions")]
            self.0[index].points.push((revoked as f64, cost));
        }
    }

    pub(crate) fn figure(self) -> Figure {
        Figure {
            name: "handshakes",
            title: "A full mutual TLS handshake: CPU of the server over the size of the CRL",
            x: "certificates revoked",
            y: "CPU for each",
            lines: self.0,
        }
    }
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
    /// Everybody's CPU.
    fn run(&self, table: &mut Table, stage: &Stage<'_>, contenders: &[Contender]) -> anyhow::Result<Vec<Rounds>> {
        let Self { shape, what, .. } = self;
        let mut costs = vec![Rounds::new(Unit::Seconds); contenders.len()];
        let mut rates = vec![Rounds::new(Unit::PerSecond); contenders.len()];
        let mut shares = vec![Rounds::new(Unit::Share); contenders.len()];
        let mut own = Rounds::new(Unit::Seconds);
        for _ in 0..self.rounds {
            for (index, contender) in contenders.iter().enumerate() {
                let driven = shape.drive(&stage.identity, &contender.url, &[contender.pid])?;
                let is_expected = match shape.kind {
                    Kind::Requests | Kind::Paced(_) => true,
                    Kind::Handshakes => driven.resumed <= 0.0,
                    // The first on each connection is full, and where that takes long there are few after it.
                    Kind::Resumptions => driven.resumed > 0.0,
                };
                ensure!(is_expected, "{}: {} of the handshakes were resumed", contender.name(), driven.resumed);
                costs[index].add(driven.server_time * self.times);
                rates[index].add(driven.per_second);
                shares[index].add(driven.resumed);
                if contender.who == Who::Ours {
                    own.add(driven.client_time * self.times);
                }
            }
        }
        for (contender, (cost, rate)) in contenders.iter().zip(costs.iter().zip(rates)) {
            table.row(format!("{what}: {}, CPU", contender.name()), cost.clone());
            table.row(
                format!("{what}: {}, answers in a second on two cores shared with the client", contender.name()),
                rate,
            );
        }
        if shape.kind == Kind::Resumptions {
            for (contender, share) in contenders.iter().zip(shares) {
                table.row(format!("{what}: {}, handshakes that resumed", contender.name()), share);
            }
        }
        for (contender, cost) in contenders.iter().zip(&costs).skip(1) {
            let goal = self.goals.iter().find(|(peer, _)| contender.who == Who::Peer(*peer));
            let goals: Vec<_> = goal.map(|(_, bound)| Goal::at_most(Statistic::Median, *bound)).into_iter().collect();
            table.judged(format!("{what}: CPU of api-server over {}", contender.name()), costs[0].over(cost), goals);
        }
        table.row(format!("{what}: the driver's own CPU, with api-server"), own);
        Ok(costs)
    }
}
