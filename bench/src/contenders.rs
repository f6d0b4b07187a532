//! Who is measured beside whom: `api-server` and the peers, each in the same world, with the same client.
//!
//! Nothing is measured here but how long each takes to be there.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use e2e::{Process, Service};
use tokio::runtime::Runtime;

use crate::{
    peers::{self, Peer},
    usage,
    visitor::{Knock, Visitor},
    world::World,
};

/// How long a contender may take until it lets somebody in.
const PATIENCE: Duration = Duration::from_mins(1);

/// One of those that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Ours,
    Peer(Peer),
}

/// Where they meet: a world in which each finds what it needs, and a client with a certificate.
pub(crate) struct Stage<'a> {
    pub(crate) world: &'a World,
    pub(crate) runtime: &'a Runtime,
    /// The directory of the client's identity.
    pub(crate) identity: PathBuf,
    pub(crate) visitor: Visitor,
}

/// One that runs, until this is dropped.
pub(crate) struct Contender {
    pub(crate) who: Who,
    pub(crate) url: String,
    pub(crate) pid: u32,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    /// From its start until it let a client in, in seconds.
    pub(crate) start: f64,
    /// In bytes, of all of its processes, when it had done so.
    pub(crate) memory: f64,
    /// The most that the process which loads the CRLs held until then.
    pub(crate) peak: f64,
}

impl Who {
    pub(crate) const ALL: [Self; 4] =
        [Self::Ours, Self::Peer(Peer::Nginx), Self::Peer(Peer::Haproxy), Self::Peer(Peer::Go)];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "api-server",
            Self::Peer(peer) => peer.name(),
        }
    }
}

impl<'a> Stage<'a> {
    pub(crate) fn new(runtime: &'a Runtime, world: &'a World) -> anyhow::Result<Self> {
        let (tls, identity) = runtime.block_on(world.enroll("comparer"))?;
        peers::prepare(world)?;
        // Enrolled and stopped before it is timed: peers have their certificates and CRLs, too.
        let Service { mut process, .. } = ready(world);
        process.stop();
        Ok(Self { world, runtime, identity, visitor: Visitor::new(tls) })
    }

    /// Starts one; returns when it has let in a client.
    pub(crate) fn start(&self, who: Who) -> anyhow::Result<Contender> {
        let began = Instant::now();
        let (process, address) = match who {
            Who::Ours => {
                let Service { process, https, .. } = launch(self.world);
                (process, https)
            }
            Who::Peer(peer) => peer.start(self.world)?,
        };
        let admitted = first_admission(&self.visitor, address, began);
        let start = self.runtime.block_on(admitted).with_context(|| format!("{}: {}", who.name(), process.log()))?;
        let (url, pid) = (format!("https://{address}/hello"), process.id());
        let (memory, peak) = (usage::proportional(pid)?, usage::peak(pid)?);
        Ok(Contender { who, url, pid, address, process, start, memory, peak })
    }

    /// Everybody, ours first.
    pub(crate) fn start_all(&self) -> anyhow::Result<Vec<Contender>> {
        Who::ALL.into_iter().map(|who| self.start(who)).collect()
    }
}

impl Contender {
    pub(crate) fn name(&self) -> &'static str {
        self.who.name()
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        // Its workers outlive a master that is killed.
        if self.who == Who::Peer(Peer::Nginx) {
            self.process.stop();
        }
    }
}

/// With its own default interval, in place of the short one that suits tests.
fn launch(world: &World) -> Service {
    world.fleet.launch_service("service0", &["--crl-refresh", "1s"])
}

fn ready(world: &World) -> Service {
    let service = launch(world);
    service.wait_ready();
    service
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
