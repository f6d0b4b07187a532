//! Whether anybody waits while a complete CRL of a million is replaced under load.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    os::unix::fs::DirEntryExt as _,
    path::Path,
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

/// Between two requests on the open connection.
const PAUSE: Duration = Duration::from_millis(1);

/// How long a service may take to keep a list.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long is looked on after that: the list before is freed.
const CLEANING: Duration = Duration::from_millis(20);

/// Replaces the list so many times, while one client does nothing but shake hands, and another asks on a connection that stays open.
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
    let directory = file("guarded");

    let log = Log::default();
    let is_over = Arc::new(AtomicBool::new(false));
    let visitor = Visitor::new(tls);
    let knocking = runtime.spawn(knock(visitor.clone(), address, log.clone(), Arc::clone(&is_over)));
    let asking = runtime.spawn(ask_on(visitor, address, log.clone(), Arc::clone(&is_over)));
    // Warm-up.
    std::thread::sleep(QUIET);
    let (mut quiet, mut during) = (Seen::new(), Seen::new());
    let (mut to_swap, mut to_disk) = (Rounds::new(Unit::Seconds), Rounds::new(Unit::Seconds));
    for list in &lists {
        let from = Instant::now();
        std::thread::sleep(QUIET);
        let before = kept(&directory)?;
        fs::rename(file(list), file("issuing.crl"))?;
        let replaced = Instant::now();
        let _ = next_list(&service);
        to_swap.add_time(replaced.elapsed());
        while kept(&directory)? == before {
            ensure!(replaced.elapsed() < PATIENCE, "the list was not kept");
            std::thread::sleep(Duration::from_millis(1));
        }
        to_disk.add_time(replaced.elapsed());
        std::thread::sleep(CLEANING);
        let over = Instant::now();
        quiet.add(&log, from, replaced);
        during.add(&log, replaced, over);
    }
    is_over.store(true, Ordering::Relaxed);
    runtime.block_on(knocking)??;
    runtime.block_on(asking)??;

    let title = "is replaced while one client shakes hands and another asks";
    let mut table = Table::new(format!("A complete CRL of {} {title}", world.revoked));
    let (handshakes, requests) = (quiet.handshakes.max() + 0.005, quiet.requests.p99() * 2.0);
    let at_most = |bound| [Goal::at_most(Statistic::Max, bound)];
    let during_what = "the same while the list is read, verified, swapped and kept";
    table.row("a handshake and its first answer, before", quiet.handshakes);
    table.judged(during_what, during.handshakes, at_most(handshakes));
    table.row("a request on an open connection, before", quiet.requests);
    table.judged(during_what, during.requests, at_most(requests));
    table.row("from the file's replacement to the swap (it is looked for every 100 ms)", to_swap);
    table.row("from the file's replacement to its copy on the disk for the next start", to_disk);
    table.note(
        "Goals: no handshake is later than the slowest before and 5 ms; no request takes longer than twice the quiet p99. The handshakes \
         never pause, and all of it shares the cores with the thread that loads the list.",
    );
    Ok(table)
}

/// What came to pass: how long it took, and when it began.
type Events = Arc<Mutex<Vec<(Instant, Duration)>>>;

#[derive(Clone, Default)]
struct Log {
    handshakes: Events,
    requests: Events,
}

/// What was seen in some of the time.
struct Seen {
    handshakes: Rounds,
    requests: Rounds,
}

impl Seen {
    fn new() -> Self {
        Self { handshakes: Rounds::new(Unit::Seconds), requests: Rounds::new(Unit::Seconds) }
    }

    /// Everything that was under way between these moments.
    fn add(&mut self, log: &Log, from: Instant, to: Instant) {
        for (events, rounds) in [(&log.handshakes, &mut self.handshakes), (&log.requests, &mut self.requests)] {
            let events = events.lock().unwrap_or_else(PoisonError::into_inner);
            let within = events.iter().filter(|(began, took)| *began + *took >= from && *began <= to);
            rounds.extend(within.map(|(_, took)| took.as_secs_f64()));
        }
    }
}

fn note(events: &Events, began: Instant) {
    events.lock().unwrap_or_else(PoisonError::into_inner).push((began, began.elapsed()));
}

/// Has the authority write its CRL into a file.
fn sign(world: &World, file: &str, more: &[&str]) -> anyhow::Result<()> {
    let output = world.fleet.ca_daemon(&[&["crl", "--out", file], more].concat());
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

async fn knock(visitor: Visitor, address: SocketAddr, log: Log, is_over: Arc<AtomicBool>) -> anyhow::Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let knock = visitor.knock(address).await;
        ensure!(knock == Knock::Admitted, "{knock:?}");
        note(&log.handshakes, began);
    }
    Ok(())
}

async fn ask_on(visitor: Visitor, address: SocketAddr, log: Log, is_over: Arc<AtomicBool>) -> anyhow::Result<()> {
    let mut held = visitor.hold(address).await?;
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        held.ask(address).await?;
        note(&log.requests, began);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// The files in which a service keeps its lists; another list is another file.
fn kept(directory: &Path) -> anyhow::Result<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "crl") {
            inodes.insert(entry.ino());
        }
    }
    Ok(inodes)
}

/// Waits until another list is in force, and says its number.
fn next_list(service: &Process) -> i64 {
    let line = service.line();
    line.strip_prefix("CRL number ").and_then(|number| number.parse().ok()).unwrap_or(0)
}
