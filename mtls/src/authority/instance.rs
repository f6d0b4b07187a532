//! This run of a relying party, as its authority knows it: its secret, those of the runs before it that ended without a goodbye, and
//! until when it may admit clients while it is not on the feed.
//!
//! Whoever admits clients has to stand in the authority's account, or `revoke` would not wait for it. The account has an instance from
//! the opening of its feed until it says goodbye, a successor proves itself, or the time is over until which it last said that it admits
//! clients. It never talks to the authority.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use edge::{
    clock::{Clock, Lead},
    files::{self, Access, FileError},
    random,
};
use pki::{
    instance::{InstanceId, write_secrets},
    time::Timestamp,
    token::Secret,
    wire::MAX_PREDECESSORS,
};
use tokio::{task::spawn_blocking, time::sleep};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::revocation::{Barrier, EndReason, LiveSet};

/// The file beside the lists.
const FILE: &str = "instance";
/// At most so long after its time is over, an instance that is not on the feed admits nobody any more.
const LOOK: Duration = Duration::from_secs(1);

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Two in one directory would speak for each other.
    #[error("another process keeps its CRLs in {}; stop it, or give each service a directory of its own", .0.display())]
    Underway(PathBuf),
    /// Its secret cannot be kept.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A run; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Instance(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    secret: Secret,
    file: PathBuf,
    live: LiveSet,
    clock: Clock,
    state: Mutex<State>,
    /// Held while the file is written, so that the last state is what stays.
    writing: Mutex<()>,
    /// Keeps a second run out of the directory for as long as this one lives.
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    is_connected: bool,
    /// Whether the account has this run.
    is_registered: bool,
    is_leaving: bool,
    /// Until when it may admit clients without the feed.
    until: Option<Timestamp>,
    /// That of the clock when it was said.
    lead: Lead,
    /// Those who ended without a goodbye and may still be in the account, the latest at the end.
    predecessors: Vec<Run>,
}

/// A run that is over, as the file has it.
#[derive(Clone, Debug)]
struct Run {
    secret: Secret,
    /// Until when it said that it admits clients; none if the authority may not have heard of it.
    until: Option<Timestamp>,
}

impl Instance {
    /// Begins a run in this directory. Nobody is let in before the authority knows of it, unless one that ran here before is still in the
    /// account.
    pub(crate) fn begin(directory: &Path, live: LiveSet, clock: Clock) -> Result<Self, InstanceError> {
        let lock = files::lock_directory(directory)?.ok_or_else(|| InstanceError::Underway(directory.to_owned()))?;
        let file = directory.join(FILE);
        let mut predecessors = read(&file);
        while predecessors.len() > MAX_PREDECESSORS {
            // The authority has mostly never heard of those that said nothing.
            let place = predecessors.iter().position(|run| run.until.is_none()).unwrap_or_default();
            predecessors.remove(place);
        }
        let until = predecessors.iter().filter_map(|run| run.until).max();
        let lead = clock.lead();
        let instance = Self(Arc::new(Shared {
            secret: Secret::from_bytes(random::octets()),
            file,
            live,
            clock,
            state: Mutex::new(State { until, lead, predecessors, ..State::default() }),
            writing: Mutex::default(),
            _lock: lock,
        }));
        // Before the authority hears of it: what it knows, the next run has to be able to replace.
        if let Err(error) = instance.write() {
            complain(&error);
        }
        instance.look();
        Ok(instance)
    }

    /// What shows that this run asks.
    pub(crate) fn secret(&self) -> Zeroizing<String> {
        self.0.secret.to_bearer()
    }

    /// What shows that this run takes the place of earlier ones; empty if there are none.
    pub(crate) fn predecessors(&self) -> Zeroizing<String> {
        write_secrets(self.state().predecessors.iter().map(|run| &run.secret))
    }

    /// The feed is open, so that the account has this run; and of the earlier ones, it has only these.
    pub(crate) async fn registered(&self, standing: &[InstanceId]) {
        {
            let mut state = self.state();
            (state.is_connected, state.is_registered) = (true, true);
            state.predecessors.retain(|run| standing.contains(&InstanceId::of(&run.secret)));
        }
        self.look();
        self.keep().await;
    }

    /// Whether the account has this run.
    pub(crate) fn is_registered(&self) -> bool {
        self.state().is_registered
    }

    /// The feed is not open any more.
    pub(crate) fn disconnected(&self) {
        self.state().is_connected = false;
        self.look();
    }

    /// It is about to say until when it admits clients; whether that arrives is not known yet. The lead of the clock by which it is said.
    pub(crate) fn confirming(&self, admits_until: Option<Timestamp>) -> Lead {
        let lead = self.0.clock.lead();
        let mut state = self.state();
        if let (Some(until), Some(said)) = (state.until, admits_until) {
            state.until = Some(until.min(said));
        }
        lead
    }

    /// The authority has heard until when it admits clients.
    pub(crate) async fn confirmed(&self, admits_until: Option<Timestamp>, lead: Lead) {
        let Some(said) = admits_until else { return };
        let is_new = {
            let mut state = self.state();
            let is_new = state.until.replace(said) != Some(said);
            if is_new {
                // Not where the same is said again: the clock may have been set back since.
                state.lead = lead;
            }
            is_new
        };
        if is_new {
            self.keep().await;
        }
    }

    /// It admits nobody from now on, and the next run is to know that before the authority forgets this one. Whether the account has it,
    /// and the goodbye may be said.
    pub(crate) async fn leave(&self) -> bool {
        let is_registered = {
            let mut state = self.state();
            state.is_leaving = true;
            state.is_registered
        };
        self.look();
        self.keep().await && is_registered
    }

    /// Whether it is known that the goodbye has arrived. If not, the authority may expect this run all the same, or may not: the next run
    /// takes its place, and lets nobody in before.
    pub(crate) async fn left(&self, has_arrived: bool) {
        if has_arrived {
            let file = self.0.file.clone();
            let removed = spawn_blocking(move || files::remove(&file)).await.expect("removing a file does not panic");
            if let Err(error) = removed {
                warn!(%error, "the secret of a run that is over stays on the disk; it is of no use to anybody");
            }
        }
    }

    /// It admits nobody any more, whatever the authority has heard.
    pub(crate) fn end(&self) {
        self.0.live.shut(Barrier::Unregistered, EndReason::Unregistered);
    }

    /// Looks all the time whether clients may be admitted.
    pub(crate) async fn watch(self) {
        loop {
            sleep(LOOK).await;
            self.look();
        }
    }

    fn look(&self) {
        // Under the lock, so that the last look is what counts.
        let state = self.state();
        // What was said does not last longer because the clock was set back.
        let set_back = self.0.clock.lead().set_back_since(state.lead);
        let may_admit =
            state.is_connected || state.until.is_some_and(|until| self.0.clock.now() <= until.minus(set_back));
        if may_admit && !state.is_leaving {
            if self.0.live.unbar(|barrier| *barrier == Barrier::Unregistered) {
                info!("registered with the authority: clients are let in");
            }
        } else if self.0.live.shut(Barrier::Unregistered, EndReason::Unregistered) {
            info!("clients are let in once the authority has registered this relying party");
        }
    }

    async fn keep(&self) -> bool {
        let instance = self.clone();
        let written = spawn_blocking(move || instance.write()).await.expect("writing a file does not panic");
        written.inspect_err(complain).is_ok()
    }

    fn write(&self) -> Result<(), FileError> {
        let _writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = {
            let state = self.state();
            let own = Run { secret: self.0.secret.clone(), until: state.until.filter(|_| state.is_registered) };
            let mut text = Zeroizing::new(String::new());
            for run in state.predecessors.iter().chain([&own]) {
                text.push_str(&run.secret.to_bearer());
                // Whoever leaves takes the permission of those before along.
                if let Some(until) = run.until.filter(|_| !state.is_leaving) {
                    text.push(' ');
                    text.push_str(&until.unix().to_string());
                }
                text.push('\n');
            }
            text
        };
        files::write(&self.0.file, text.as_bytes(), Access::Private)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn complain(error: &FileError) {
    warn!(%error, "what the authority knows of this run cannot be kept for the next one, which will not be able to take its place");
}

/// The runs that the file has. A file that cannot be read replaces nobody, and lets nobody in.
fn read(file: &Path) -> Vec<Run> {
    let text = match files::read_secret(file) {
        Ok(text) => text,
        Err(FileError::Missing(_)) => return Vec::new(),
        Err(error) => {
            warn!(%error, "the runs before this one cannot be replaced; the authority expects them until they are forgotten");
            return Vec::new();
        }
    };
    let run = |line: &str| {
        let (secret, until) = line.split_once(' ').map_or((line, None), |(secret, until)| (secret, Some(until)));
        let until = until.map(|until| until.parse().map(Timestamp::from_unix)).transpose().ok()?;
        Some(Run { secret: Secret::from_bearer(secret)?, until })
    };
    let runs: Vec<_> = text.lines().filter_map(run).collect();
    if runs.len() < text.lines().count() {
        warn!(file = %file.display(), "damaged: not every run before this one can be replaced");
    }
    runs
}
