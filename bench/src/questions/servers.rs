//! What it costs a client to know whether its services are revoked: at the first contact, and at a start with lists that are kept.

use std::{
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use e2e::run;
use mtls::{
    authority::{Enrolled, IdentityFiles},
    standing::{Options, ServerStanding},
};
use pki::profile::Profile;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::JoinSet,
};

use crate::{
    rounds::{Rounds, Unit},
    table::Table,
    world::World,
};

/// Starts a client so many times in each world.
pub(crate) fn ask(runtime: &Runtime, worlds: [&World; 2], rounds: usize) -> anyhow::Result<Table> {
    let mut table = Table::new("What a client fetches to know whether its services are revoked".to_owned());
    for world in worlds {
        let revoked = world.revoked;
        let (_, directory) = runtime.block_on(world.enroll(&format!("asker_{revoked}")))?;
        let (mut first, mut again) = (Cost::new(), Cost::new());
        for round in 0..rounds {
            let directory = (&*directory, &*format!("lists_{round}"));
            first.add(runtime.block_on(start(world, directory))?);
            again.add(runtime.block_on(start(world, directory))?);
        }
        let complete = complete_list(world)?;
        table.row(format!("{revoked} revoked, first contact: until the lists are in force and kept"), first.time);
        table.row(format!("{revoked} revoked, first contact: bytes both ways, TLS included"), first.bytes);
        table.row(format!("{revoked} revoked, next start: until it is known that they are the newest"), again.time);
        table.row(format!("{revoked} revoked, next start: bytes both ways, TLS included"), again.bytes);
        table.row(format!("{revoked} revoked, the complete list, which it does not fetch"), complete);
    }
    table.note(
        "Each start is one TLS connection to the authority, over a relay that counts. Those who are revoked are clients; a revoked server \
         is one entry of about 40 bytes.",
    );
    Ok(table)
}

struct Cost {
    time: Rounds,
    bytes: Rounds,
}

impl Cost {
    fn new() -> Self {
        Self { time: Rounds::new(Unit::Seconds), bytes: Rounds::new(Unit::Octets) }
    }

    fn add(&mut self, (time, bytes): (Duration, u64)) {
        self.time.add_time(time);
        #[expect(clippy::cast_precision_loss, reason = "nobody fetches 2^52 bytes")]
        self.bytes.add(bytes as f64);
    }
}

/// How long a client with this identity takes, and what goes over the wire.
async fn start(world: &World, (identity, lists): (&std::path::Path, &str)) -> anyhow::Result<(Duration, u64)> {
    let Enrolled { identity: own, root, .. } =
        IdentityFiles::new(identity, Profile::Client).load()?.context("it has enrolled")?;
    let relay = Relay::start(world).await?;
    let url = format!("https://{}", relay.address).parse()?;
    let options = Options { authority: Some(url), ..Options::new(identity.join(lists)) };
    let began = Instant::now();
    let (standing, mut lists) = ServerStanding::new(&own, &root, options)?;
    lists.refresh().await?;
    let took = began.elapsed();
    ensure!(standing.is_current(), "the lists are not in force");
    drop(lists);
    Ok((took, relay.bytes().await))
}

/// What goes through to the authority's HTTPS listener, and is counted.
struct Relay {
    address: SocketAddr,
    passed: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
    _accepting: JoinSet<()>,
}

impl Relay {
    async fn start(world: &World) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((world.address(), 0)).await?;
        let address = listener.local_addr()?;
        let to = SocketAddr::from((world.address(), 8440));
        let (passed, open) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (total, count) = (Arc::clone(&passed), Arc::clone(&open));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut relaying = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let (total, count) = (Arc::clone(&total), Arc::clone(&count));
                count.fetch_add(1, Ordering::SeqCst);
                relaying.spawn(async move {
                    if let Ok(mut authority) = TcpStream::connect(to).await
                        && let Ok((there, back)) = copy_bidirectional(&mut client, &mut authority).await
                    {
                        total.fetch_add(there + back, Ordering::SeqCst);
                    }
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(Self { address, passed, open, _accepting: accepting })
    }

    /// Once the client has closed its connections.
    async fn bytes(&self) -> u64 {
        while self.open.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.passed.load(Ordering::SeqCst)
    }
}

/// The size of what a service fetches in the place of it.
fn complete_list(world: &World) -> anyhow::Result<Rounds> {
    let url = format!("{}/crl/issuing.crl", world.fleet.crl_url());
    let size = ["-sSf", "-o", "/dev/null", "-w", "%{size_download}"];
    let output = run(Command::new("curl").args(size).arg(url));
    ensure!(output.status.success(), "{output:?}");
    let mut complete = Rounds::new(Unit::Octets);
    complete.add(output.stdout.trim().parse()?);
    Ok(complete)
}
