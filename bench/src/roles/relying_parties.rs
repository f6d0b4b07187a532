//! Many relying parties in one process, each with a certificate, a live set, a feed, files and a listener of its own, put
//! together like `api-server` out of the public parts of `mtls`.
//!
//! As processes they would measure the machine's memory; they never share anything but the process.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::{Router, routing::get};
use clap::Args;
use edge::clock::Clock;
use mtls::{
    authority::{Enrolled, IdentityFiles, TokenSources, enroll},
    relying_party::{Options, RelyingParty},
    revocation::LiveSet,
};
use pki::{csr::Proposal, profile::Profile, token::Token};
use tokio::{
    net::TcpListener,
    task::{JoinSet, spawn_blocking},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    count: usize,
    #[arg(long)]
    host: Ipv4Addr,
    #[arg(long)]
    token_file: PathBuf,
}

/// How many are put together at a time.
const AT_A_TIME: usize = 4;

/// Says how many are ready as they become so, and in the end their addresses, as one line of JSON each.
pub(super) async fn play(arguments: Arguments) -> anyhow::Result<()> {
    let token = TokenSources { file: Some(arguments.token_file), ..TokenSources::default() }.find()?;
    let parties = Arc::new(Parties { token, host: arguments.host, clock: Clock::system() });
    let mut addresses = Vec::new();
    let mut tasks = JoinSet::new();
    let mut add = |member: Member| {
        addresses.push(member.address.to_string());
        tasks.spawn(member.serve);
        writeln!(std::io::stdout(), "{}", addresses.len())
    };
    let first = parties.join(0).await?;
    while first.live.ready(parties.clock.now()).is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    add(first)?;
    let mut joining = JoinSet::new();
    for index in 1..arguments.count {
        if joining.len() == AT_A_TIME
            && let Some(member) = joining.join_next().await
        {
            add(member??)?;
        }
        let parties = Arc::clone(&parties);
        joining.spawn(async move { parties.join(index).await });
    }
    while let Some(member) = joining.join_next().await {
        add(member??)?;
    }
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&addresses)?)?;
    tasks.join_next().await.context("there are no relying parties")??;
    anyhow::bail!("a relying party ended")
}

/// What all of them have in common.
struct Parties {
    token: Token,
    host: Ipv4Addr,
    clock: Clock,
}

/// One of them.
struct Member {
    address: SocketAddr,
    live: LiveSet,
    serve: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Parties {
    async fn join(&self, index: usize) -> anyhow::Result<Member> {
        let name = format!("party{index}");
        let directory = PathBuf::from(&name);
        let files = IdentityFiles::new(&directory, Profile::Server);
        let hosts = vec![self.host.to_string().parse()?];
        let proposal = Proposal { common_name: name.parse()?, organization: None, hosts };
        let Enrolled { identity, root, authority } =
            enroll(&files, &self.token, Profile::Server, &proposal, &self.clock).await?;
        // Each starts with the lists of the first on its disk, as after a restart: how long it takes to fetch a list of a million
        // two hundred times over is another question. What is written later replaces a file, and does not write into it.
        for entry in fs::read_dir("party0")?.filter_map(Result::ok) {
            if index > 0 && entry.path().extension().is_some_and(|extension| extension == "crl") {
                fs::hard_link(entry.path(), directory.join(entry.file_name()))?;
            }
        }
        let options = Options { feed: authority, ..Options::new(directory) };
        // It verifies the lists that are on the disk.
        let (party, upkeep) = spawn_blocking(move || RelyingParty::new(&identity, &root, options)).await??;
        let live = party.live_set().clone();
        let listener = TcpListener::bind((self.host, 0)).await?;
        let address = listener.local_addr()?;
        let router = Router::new().route("/healthy", get(async || "healthy"));
        let serve = party.serve(listener, router, CancellationToken::new());
        let mut keepers = upkeep.start();
        let serve = Box::pin(async move {
            tokio::select! {
                () = serve => {}
                _ = keepers.join_next() => {}
            }
        });
        Ok(Member { address, live, serve })
    }
}
