//! How long from a revocation to its effect, beside what an operator of a peer does after the same command: fetch the CRL, put it
//! where the peer reads it, and have it loaded. And who else notices.
//!
//! The clock starts when `revoke` says that the revocation is committed. One contender has the event to itself; they take turns.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use e2e::Process;
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    contenders::{Contender, Stage, Who},
    peers::{self, Peer},
    questions::revocation::revoke,
    rounds::{Rounds, Unit},
    table::Table,
    visitor::{Held, Knock, Visitor},
};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a revoked client may be let in until it counts as never refused.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a revoked client's open connection is watched after new ones are refused.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// How a contender learns of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Feed,
    Reload(Peer),
    /// HAProxy's alone.
    RuntimeApi,
}

impl Way {
    fn who(self) -> Who {
        match self {
            Self::Feed => Who::Ours,
            Self::Reload(peer) => Who::Peer(peer),
            Self::RuntimeApi => Who::Peer(Peer::Haproxy),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Feed => "api-server, feed".to_owned(),
            Self::Reload(peer) => format!("{}, reload", peer.name()),
            Self::RuntimeApi => "HAProxy, runtime API".to_owned(),
        }
    }
}

/// Everything that was seen of one way.
struct Seen {
    refused: Rounds,
    ended: Rounds,
    never_refused: usize,
    never_ended: usize,
    bystanders_cut: usize,
}

/// Revokes so many clients for each way.
pub(crate) fn ask(stage: &Stage<'_>, rounds: usize) -> anyhow::Result<Table> {
    let revoked = stage.world.revoked;
    let mut ways = vec![Way::Feed, Way::Reload(Peer::Nginx), Way::Reload(Peer::Haproxy), Way::Reload(Peer::Go)];
    let is_small = revoked < 100;
    if is_small {
        ways.push(Way::RuntimeApi);
    }
    let mut seen: Vec<_> = ways.iter().map(|_| Seen::new()).collect();
    for round in 0..rounds {
        for (way, seen) in ways.iter().zip(&mut seen) {
            // Started for the event: what a reload left over is gone, and nobody else runs.
            let mut contender = stage.start(way.who())?;
            if *way == Way::Feed {
                stage.world.wait_for_relying_parties(1);
            }
            let name = format!("event_{}_{round}", way.name().replace(|c: char| !c.is_ascii_alphanumeric(), ""));
            event(stage, *way, &mut contender, &name, seen).with_context(|| way.name())?;
        }
    }
    let mut table = Table::new(format!("Beside peers: revocation to effect at one service, {revoked} revoked before"));
    let mut notes = Vec::new();
    for (way, seen) in ways.iter().zip(seen) {
        let name = way.name();
        table.row(format!("{name}: commit -> new handshake refused"), seen.refused);
        table.row(format!("{name}: commit -> open connection answers no more"), seen.ended);
        let Seen { never_refused, never_ended, bystanders_cut, .. } = seen;
        notes.push(format!(
            "{name}: never refused {never_refused}, open connection still answered {AFTERWARDS:?} after that {never_ended}, \
             open connections of others cut {bystanders_cut} (of {rounds} each)."
        ));
    }
    for note in notes {
        table.note(note);
    }
    table.note(
        "Peers: the operator's script runs `ca-daemon crl` at once when `revoke` says committed (with many revoked it signs the complete \
         CRL itself, rather than waiting for the daemon to have gathered revocations), puts the file in place and has it loaded.",
    );
    if !is_small {
        table.note("HAProxy's runtime API takes a CRL of one buffer at most, 16 KiB; so it is not in this table.");
    }
    Ok(table)
}

fn event(stage: &Stage<'_>, way: Way, contender: &mut Contender, name: &str, seen: &mut Seen) -> anyhow::Result<()> {
    let Stage { world, runtime, .. } = stage;
    let address = contender.address;
    let is_over = Arc::new(AtomicBool::new(false));
    let (knocking, visiting, standing_by) = runtime.block_on(async {
        let visitor = Visitor::new(world.enroll(name).await?.0);
        let visiting = watch(visitor.hold(address).await?, address, &is_over);
        let standing_by = watch(stage.visitor.hold(address).await?, address, &is_over);
        ensure!(visitor.knock(address).await == Knock::Admitted, "the client was not let in before");
        anyhow::Ok((tokio::spawn(knock_until_refused(visitor, address, Arc::clone(&is_over))), visiting, standing_by))
    })?;
    let (told, left) = deploy(stage, way, contender, name)?;

    let mut refused = None;
    let mut knocking = knocking;
    if let Ok(joined) = runtime.block_on(async { tokio::time::timeout(PATIENCE, &mut knocking).await }) {
        refused = joined?;
    }
    match refused {
        Some(moment) => seen.refused.add_time(moment.saturating_duration_since(told)),
        None => seen.never_refused += 1,
    }
    runtime.block_on(async { sleep(AFTERWARDS).await });
    is_over.store(true, Ordering::Relaxed);
    match runtime.block_on(visiting)? {
        Some(moment) => seen.ended.add_time(moment.saturating_duration_since(told)),
        None => seen.never_ended += 1,
    }
    seen.bystanders_cut += usize::from(runtime.block_on(standing_by)?.is_some());
    knocking.abort();
    drop(left);
    Ok(())
}

/// Revokes the client and does what an operator does then; the moment of the commit, and what a reload has left over.
fn deploy(
    stage: &Stage<'_>,
    way: Way,
    contender: &mut Contender,
    name: &str,
) -> anyhow::Result<(Instant, Option<Process>)> {
    let world = stage.world;
    // Only ours confirms, and only while it runs.
    let wait: &[&str] = if way == Way::Feed { &["--wait", "30s"] } else { &["--no-wait"] };
    let told = revoke(world.fleet.command("ca-daemon"), name, wait)?;
    let committed = told.committed;
    let more: &[&str] = if world.revoked < 100 { &[] } else { &["--resign"] };
    let left = match way {
        Way::Feed => None,
        Way::Reload(peer) => {
            peers::write_crls(world, peer, more)?;
            peers::reload(peer, &mut contender.process, world)
        }
        Way::RuntimeApi => {
            peers::write_crls(world, Peer::Haproxy, more)?;
            peers::replace_crls_of_haproxy(world)?;
            None
        }
    };
    Ok((committed, left))
}

/// Asks on an open connection until that fails: the moment at which it did, if it did.
fn watch(mut held: Held, address: SocketAddr, is_over: &Arc<AtomicBool>) -> JoinHandle<Option<Instant>> {
    let is_over = Arc::clone(is_over);
    tokio::spawn(async move {
        while !is_over.load(Ordering::Relaxed) {
            let asked = tokio::time::timeout(PATIENCE, held.ask(address)).await;
            if !matches!(asked, Ok(Ok(()))) {
                return Some(Instant::now());
            }
            sleep(PAUSE).await;
        }
        None
    })
}

async fn knock_until_refused(visitor: Visitor, address: SocketAddr, is_over: Arc<AtomicBool>) -> Option<Instant> {
    while !is_over.load(Ordering::Relaxed) {
        // A connection that breaks while a peer reloads is no refusal.
        if let Knock::Revoked | Knock::Refused(_) = visitor.knock(address).await {
            return Some(Instant::now());
        }
        sleep(PAUSE).await;
    }
    None
}

impl Seen {
    fn new() -> Self {
        let times = || Rounds::new(Unit::Seconds);
        Self { refused: times(), ended: times(), never_refused: 0, never_ended: 0, bystanders_cut: 0 }
    }
}
