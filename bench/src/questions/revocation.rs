//! How long from a revocation to its effect, everywhere: what `revoke` says, and what a client of every service sees.
//!
//! The clock starts when the command says that the revocation is committed, and stops at what a client notices.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::{runtime::Runtime, task::JoinSet, time::timeout};

use crate::{
    rounds::{Rounds, Statistic, Unit},
    table::{Goal, Table},
    usage,
    visitor::{Knock, Visitor},
    world::World,
};

/// So many relying parties are processes, `api-server`s; more share one.
const SERVICES: usize = 3;
/// At how many services somebody knocks while the revocation is on its way. At all of them, when they are few; with hundreds the
/// knocking itself would be what is measured.
const KNOCKED: usize = 3;
/// Between two knocks at one door.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a connection of a revoked client is watched before it counts as never cut.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is measured: without anybody revoked before, and then with so many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) parties: usize,
    pub(crate) rounds: usize,
    pub(crate) revoked: u64,
}

/// Everything that was seen in the rounds of one scene.
struct Seen {
    said: Rounds,
    cut: Rounds,
    refused: Rounds,
    everywhere: Rounds,
    command: Rounds,
    daemon: Rounds,
    unconfirmed: u64,
    admitted_after: u64,
    never_cut: u64,
}

/// Asks three processes, or many relying parties in one; in a world of its own each time, because nobody else is to be waited for.
pub(crate) fn ask(runtime: &Runtime, scene: Scene, answered: &mut impl FnMut(Table)) -> anyhow::Result<()> {
    let at_most = |p50, p99| [Goal::at_most(Statistic::Median, p50), Goal::at_most(Statistic::P99, p99)];
    let goals = if scene.parties == SERVICES {
        at_most(0.010, 0.050).to_vec()
    } else {
        vec![Goal::at_most(Statistic::P99, 0.500)]
    };
    let (table, everywhere) = measure_all(runtime, World::with_revoked(0)?, scene, goals)?;
    answered(table);
    // The same within twice the time.
    let goals = at_most(everywhere.median() * 2.0, everywhere.p99() * 2.0);
    let (table, _) = measure_all(runtime, World::with_revoked(scene.revoked)?, scene, goals.to_vec())?;
    answered(table);
    Ok(())
}

fn measure_all(runtime: &Runtime, mut world: World, scene: Scene, goals: Vec<Goal>) -> anyhow::Result<(Table, Rounds)> {
    let (addresses, _process) = if scene.parties == SERVICES {
        let names = ["service0", "service1", "service2"];
        // Its own default, in place of the short interval that suits tests.
        let start = |name: &str| world.fleet.start_service(name, &["--crl-refresh", "1s"]).https;
        (names.map(start).to_vec(), None)
    } else {
        let token = world.server_token()?;
        let (count, host) = (scene.parties.to_string(), world.address().to_string());
        let token = token.to_str().context("the path is UTF-8")?;
        let process = world.role(&["relying-parties", "--count", &count, "--host", &host, "--token-file", token])?;
        let mut line = process.line();
        while !line.starts_with('[') {
            line = process.line();
        }
        let addresses: Vec<SocketAddr> = serde_json::from_str(&line).with_context(|| line.clone())?;
        (addresses, Some(process))
    };
    world.wait_for_relying_parties(scene.parties);
    let mut seen = Seen::new();
    let daemon = world.fleet.ca().id();
    for round in 0..scene.rounds {
        let name = format!("visitor_{}_{round}", scene.parties);
        runtime.block_on(measure(&world, daemon, &addresses, &name, &mut seen)).with_context(|| name.clone())?;
    }
    let everywhere = seen.everywhere.clone();
    Ok((seen.table(&world, scene, goals), everywhere))
}

/// One revocation.
async fn measure(
    world: &World,
    daemon: u32,
    addresses: &[SocketAddr],
    name: &str,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let visitor = Visitor::new(world.enroll(name).await?.0);
    let mut held = Vec::new();
    for address in addresses {
        held.push(visitor.hold(*address).await?);
    }

    let is_over = Arc::new(AtomicBool::new(false));
    let mut knockers = JoinSet::new();
    for address in addresses.iter().take(KNOCKED) {
        knockers.spawn(knock_until_refused(visitor.clone(), *address, Arc::clone(&is_over)));
    }
    let command = world.fleet.command("ca-daemon");
    let name = name.to_owned();
    let daemon_before = usage::processor_time(daemon)?;
    let Told { typed, committed, returned, after, status } =
        tokio::task::spawn_blocking(move || revoke(command, &name, &["--wait", "30s"])).await??;
    seen.daemon.add_time(usage::processor_time(daemon)?.saturating_sub(daemon_before));
    // It has returned, so nobody is let in any more, anywhere.
    for address in addresses {
        let knock = visitor.knock(*address).await;
        seen.admitted_after += u64::from(knock == Knock::Admitted);
    }

    let mut last = committed;
    for held in held {
        seen.admitted_after += u64::from(held.is_open() && status.success());
        match timeout(PATIENCE, held.end).await {
            Ok(end) => {
                let end = end?;
                last = last.max(end);
                seen.cut.add_time(end.saturating_duration_since(committed));
            }
            Err(_) => seen.never_cut += 1,
        }
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(refused) = knockers.join_next().await {
        let refused = refused?.context("a service has never refused with certificate_revoked")?;
        last = last.max(refused);
        seen.refused.add_time(refused.saturating_duration_since(committed));
    }
    seen.everywhere.add_time(last.saturating_duration_since(committed));
    seen.command.add_time(returned.saturating_duration_since(typed));
    seen.unconfirmed += u64::try_from(addresses.len() - after.len().min(addresses.len()))?;
    seen.said.extend(after.iter().map(Duration::as_secs_f64));
    Ok(())
}

/// The moment at which the first refusal has arrived.
async fn knock_until_refused(visitor: Visitor, address: SocketAddr, is_over: Arc<AtomicBool>) -> Option<Instant> {
    while !is_over.load(Ordering::Relaxed) {
        if visitor.knock(address).await == Knock::Revoked {
            return Some(Instant::now());
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}

/// What `ca-daemon revoke` told, and when.
pub(super) struct Told {
    typed: Instant,
    pub(super) committed: Instant,
    returned: Instant,
    /// Of each relying party that confirmed, in whole milliseconds, rounded up.
    after: Vec<Duration>,
    status: ExitStatus,
}

/// Revokes a client by its name, and waits for as long as is said.
pub(super) fn revoke(mut command: std::process::Command, name: &str, wait: &[&str]) -> anyhow::Result<Told> {
    let typed = Instant::now();
    let mut child = command.args(["revoke", name]).args(wait).stdout(Stdio::piped()).spawn()?;
    let (mut committed, mut after) = (None, Vec::new());
    for line in BufReader::new(child.stdout.take().context("standard output is a pipe")?).lines() {
        let line = line?;
        if line.starts_with("revoked ") {
            committed = Some(Instant::now());
        }
        if let [_, milliseconds, "ms", _] = line.split_whitespace().collect::<Vec<_>>()[..] {
            after.push(Duration::from_millis(milliseconds.parse()?));
        }
    }
    let status = child.wait()?;
    let returned = Instant::now();
    ensure!(matches!(status.code(), Some(0 | 5)), "revoke ended with {status}");
    Ok(Told { typed, committed: committed.context("it did not say that it revoked")?, returned, after, status })
}

impl Seen {
    fn new() -> Self {
        let times = || Rounds::new(Unit::Seconds);
        Self {
            said: times(),
            cut: times(),
            refused: times(),
            everywhere: times(),
            command: times(),
            daemon: times(),
            unconfirmed: 0,
            admitted_after: 0,
            never_cut: 0,
        }
    }

    fn table(self, world: &World, scene: Scene, goals: Vec<Goal>) -> Table {
        let (count, revoked) = (scene.parties, world.revoked);
        let kind = if count == SERVICES { "services" } else { "relying parties in one process" };
        let mut table = Table::new(format!("Revocation to effect: {count} {kind}, {revoked} revoked before"));
        table.judged("commit -> refused and cut everywhere, seen by the client", self.everywhere, goals);
        table.row("commit -> open connection cut, each", self.cut);
        table.row("commit -> new handshake refused, each that is knocked at", self.refused);
        table.row("commit -> confirmed, each, as revoke prints it (rounded up to 1 ms)", self.said);
        table.row("the whole command, from typing it to its return", self.command);
        if count > SERVICES {
            // For a few it is less than the kernel shows.
            table.row("the daemon's CPU from one to the other, its feed's and its CRLs'", self.daemon);
        }
        let Self { unconfirmed, admitted_after, never_cut, .. } = self;
        table.note(format!(
            "Not confirmed: {unconfirmed}. Let in, or open, after the command had returned: {admitted_after}. Never cut: {never_cut}."
        ));
        table
    }
}
