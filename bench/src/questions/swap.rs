//! Whether anybody waits while a complete CRL of a million is replaced under load.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use e2e::Process;
use tokio::runtime::Runtime;

use crate::{
    rounds::{Rounds, Statistic, Unit},
    table::{Goal, Table},
    visitor::{Knock, Visitor},
    world::World,
};

/// How long nothing happens before each swap.
const QUIET: Duration = Duration::from_millis(1500);

/// Replaces the list so many times, while one client does nothing but shake hands.
pub(crate) fn ask(runtime: &Runtime, world: &mut World, swaps: usize) -> anyhow::Result<Table> {
    let (tls, _) = runtime.block_on(world.enroll("swapped"))?;
    let (token, host) = (world.server_token()?, world.address().to_string());
    sign(world, "root.crl", &["--root"])?;
    sign(world, "issuing.crl", &[])?;
    let arguments = ["service", "--kind", "guarded", "--host", &host, "--crl", "issuing.crl", "--crl", "root.crl"];
    let token = token.to_str().context("the path is UTF-8")?;
    let service = world.role(&[&arguments[..], &["--token-file", token]].concat())?;
    let line = service.line();
    let address: SocketAddr = line.parse().with_context(|| line.clone())?;
    ensure!(next_list(&service) > 0, "there is no list");
    // From here on there are no deltas, which would bring every number before its complete CRL does. The lists are signed before
    // anything is timed: the authority's work is not the service's.
    world.fleet.ca().stop();
    let lists: Vec<_> = (0..swaps).map(|index| format!("issuing{index}.crl")).collect();
    for list in &lists {
        sign(world, list, &["--resign"])?;
    }
    let file = |name: &str| world.fleet.directory().join(name);

    let knocks = Arc::<Mutex<Vec<(Instant, Duration)>>>::default();
    let is_over = Arc::new(AtomicBool::new(false));
    let knocking = runtime.spawn(knock(Visitor::new(tls), address, Arc::clone(&knocks), Arc::clone(&is_over)));
    // Warm-up.
    std::thread::sleep(QUIET);
    let (mut quiet, mut during, mut took) =
        (Rounds::new(Unit::Seconds), Rounds::new(Unit::Seconds), Rounds::new(Unit::Seconds));
    let between = |from: Instant, to: Instant, rounds: &mut Rounds| {
        let knocks = knocks.lock().unwrap_or_else(PoisonError::into_inner);
        let within = knocks.iter().filter(|(began, took)| *began + *took >= from && *began <= to);
        rounds.extend(within.map(|(_, took)| took.as_secs_f64()));
    };
    for list in &lists {
        let from = Instant::now();
        std::thread::sleep(QUIET);
        fs::rename(file(list), file("issuing.crl"))?;
        let replaced = Instant::now();
        let _ = next_list(&service);
        let swapped = Instant::now();
        std::thread::sleep(Duration::from_millis(50));
        between(from, replaced, &mut quiet);
        between(replaced, swapped, &mut during);
        took.add_time(swapped - replaced);
    }
    is_over.store(true, Ordering::Relaxed);
    runtime.block_on(knocking)??;

    let mut table = Table::new(format!("A complete CRL of {} is replaced while a client shakes hands", world.revoked));
    let worst = quiet.max();
    table.row("a handshake and its first answer, before", quiet);
    let goal = [Goal::at_most(Statistic::Max, worst + 0.005)];
    table.judged("the same while the list is read, verified and swapped", during, goal);
    table.row("from the file's replacement to the swap (it is looked for every 100 ms)", took);
    table.note("The goal is the slowest before and 5 ms: no handshake is later than that because of the swap.");
    Ok(table)
}

/// Has the authority write its CRL into a file.
fn sign(world: &World, file: &str, more: &[&str]) -> anyhow::Result<()> {
    let output = world.fleet.ca_daemon(&[&["crl", "--out", file], more].concat());
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

async fn knock(
    visitor: Visitor,
    address: SocketAddr,
    knocks: Arc<Mutex<Vec<(Instant, Duration)>>>,
    is_over: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let knock = visitor.knock(address).await;
        ensure!(knock == Knock::Admitted, "{knock:?}");
        let took = began.elapsed();
        knocks.lock().unwrap_or_else(PoisonError::into_inner).push((began, took));
    }
    Ok(())
}

/// Waits until another list is in force, and says its number.
fn next_list(service: &Process) -> i64 {
    let line = service.line();
    line.strip_prefix("CRL number ").and_then(|number| number.parse().ok()).unwrap_or(0)
}
