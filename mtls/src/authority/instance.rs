//! This run of a relying party as its authority has registered it: its secret, those of earlier runs that ended without
//! a goodbye, and until when it may admit clients off the feed.
//!
//! A run that admits clients must be registered, or `revoke` would not wait for it. The authority has an instance
//! registered from the opening of its feed until it signs off, a successor replaces it, or its last admits-until has
//! passed.
//!
//! It never connects to the authority.

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

/// The file beside the CRLs.
const FILE: &str = "instance";
/// How often admits-until is checked: an instance off the feed may admit clients this long after it.
const LOOK: Duration = Duration::from_secs(1);

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Two runs in one directory would confirm for each other.
    #[error("another process keeps its CRLs in {}; stop it, or give each service a directory of its own", .0.display())]
    Underway(PathBuf),
    /// Its secret cannot be stored.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A run. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Instance(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    secret: Secret,
    file: PathBuf,
    live: LiveSet,
    clock: Clock,
    state: Mutex<State>,
    /// Held while the file is written, so that the last state is written last.
    writing: Mutex<()>,
    /// Prevents a second run in the directory while this one exists.
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    is_connected: bool,
    account: Account,
    is_leaving: bool,
    /// Until when it may admit clients without the feed.
    until: Option<Timestamp>,
    /// The lead of the clock when that was sent.
    lead: Lead,
    /// Runs that ended without a goodbye and may still be registered, the latest last.
    predecessors: Vec<Run>,
}

/// Whether the authority has registered this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Account {
    #[default]
    Unknown,
    Registered,
    /// It may also be registered with an earlier certificate.
    Renewed,
}

/// An earlier run, as in the file.
#[derive(Clone, Debug)]
struct Run {
    secret: Secret,
    /// The last admits-until that it sent. `None` if the authority may not have received it.
    until: Option<Timestamp>,
}

impl Instance {
    /// Begins a run in this directory. Nobody is admitted before the authority has registered it, unless an earlier run
    /// here is still registered.
    pub(crate) fn begin(directory: &Path, live: LiveSet, clock: Clock) -> Result<Self, InstanceError> {
        let lock = files::lock_directory(directory)?.ok_or_else(|| InstanceError::Underway(directory.to_owned()))?;
        let file = directory.join(FILE);
        let mut predecessors = read(&file);
        while predecessors.len() > MAX_PREDECESSORS {
            // Runs without an admits-until were usually never registered.
            let place = predecessors.iter().position(|run| run.until.is_none()).unwrap_or_default();
            predecessors.remove(place);
        }
        let until = predecessors.iter().filter_map(|run| run.until).max();
        let lead = clock.lead();
        let instance = Self(Arc::new(Shared {
            secret: Secret::from_bytes(random::bytes()),
            file,
            live,
            clock,
            state: Mutex::new(State { until, lead, predecessors, ..State::default() }),
            writing: Mutex::default(),
            _lock: lock,
        }));
        // Before the feed opens: the next run must be able to replace every run that is registered.
        if let Err(error) = instance.write() {
            complain(&error);
        }
        instance.look();
        Ok(instance)
    }

    /// The secret that identifies this run.
    pub(crate) fn secret(&self) -> Zeroizing<String> {
        self.0.secret.to_bearer()
    }

    /// The secrets of the earlier runs that this run replaces, or its own if it was registered with an earlier
    /// certificate. Empty if there are none.
    pub(crate) fn predecessors(&self) -> Zeroizing<String> {
        let state = self.state();
        let own = (state.account == Account::Renewed).then_some(&self.0.secret);
        write_secrets(own.into_iter().chain(state.predecessors.iter().map(|run| &run.secret)).take(MAX_PREDECESSORS))
    }

    /// From now on it uses another certificate, and replaces its own registration with the previous one.
    pub(crate) fn renewed(&self) {
        let mut state = self.state();
        if state.account != Account::Unknown {
            state.account = Account::Renewed;
        }
    }

    /// The feed is open, so this run is registered. Of the earlier ones, only these still are.
    pub(crate) async fn registered(&self, standing: &[InstanceId]) {
        {
            let mut state = self.state();
            state.is_connected = true;
            if state.account == Account::Unknown {
                state.account = Account::Registered;
            }
            state.predecessors.retain(|run| standing.contains(&InstanceId::of(&run.secret)));
        }
        self.look();
        self.keep().await;
    }

    /// Whether the authority has registered this run.
    pub(crate) fn is_registered(&self) -> bool {
        self.state().account != Account::Unknown
    }

    /// The feed is not open any more.
    pub(crate) fn disconnected(&self) {
        self.state().is_connected = false;
        self.look();
    }

    /// Notes the admits-until before it is sent, because it may or may not arrive. Returns the lead of the clock at
    /// this time.
    pub(crate) fn confirming(&self, admits_until: Option<Timestamp>) -> Lead {
        let lead = self.0.clock.lead();
        let mut state = self.state();
        if let (Some(until), Some(said)) = (state.until, admits_until) {
            state.until = Some(until.min(said));
        }
        lead
    }

    /// The authority has received this admits-until.
    pub(crate) async fn confirmed(&self, admits_until: Option<Timestamp>, lead: Lead) {
        let Some(said) = admits_until else { return };
        let is_new = {
            let mut state = self.state();
            let is_new = state.until.replace(said) != Some(said);
            if is_new {
                // Not if the same value is sent again: the clock may have been set back since.
                state.lead = lead;
            }
            is_new
        };
        if is_new {
            self.keep().await;
        }
    }

    /// Admits nobody from now on, and stores that for the next run before the authority forgets this one. Returns
    /// whether this run is registered, so that a goodbye can be sent.
    pub(crate) async fn leave(&self) -> bool {
        let is_registered = {
            let mut state = self.state();
            state.is_leaving = true;
            state.account != Account::Unknown
        };
        self.look();
        self.keep().await && is_registered
    }

    /// Notes whether the goodbye has arrived. If that is unknown, the authority may still expect this run. The next run
    /// replaces it, and admits nobody before it is registered.
    pub(crate) async fn left(&self, has_arrived: bool) {
        if has_arrived {
            let file = self.0.file.clone();
            let removed = spawn_blocking(move || files::remove(&file)).await.expect("removing a file does not panic");
            if let Err(error) = removed {
                warn!(%error, "the secret of an ended run stays on disk; it is not valid any more");
            }
        }
    }

    /// Admits nobody any more, whatever the authority has received.
    pub(crate) fn end(&self) {
        self.0.live.shut(Barrier::Unregistered, EndReason::Unregistered);
    }

    /// Checks repeatedly whether clients may be admitted.
    pub(crate) async fn watch(self) {
        loop {
            sleep(LOOK).await;
            self.look();
        }
    }

    fn look(&self) {
        // Under the lock, so that the latest check counts.
        let state = self.state();
        // Setting the clock back must not extend admits-until.
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
            let own =
                Run { secret: self.0.secret.clone(), until: state.until.filter(|_| state.account != Account::Unknown) };
            let mut text = Zeroizing::new(String::new());
            for run in state.predecessors.iter().chain([&own]) {
                text.push_str(&run.secret.to_bearer());
                // After a goodbye, the next run must not rely on earlier runs either.
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
    warn!(%error, "the state of this run cannot be stored, so the next run will not be able to replace it");
}

/// Reads the runs in the file. An unreadable file replaces no run and permits no client.
fn read(file: &Path) -> Vec<Run> {
    let text = match files::read_secret(file) {
        Ok(text) => text,
        Err(FileError::Missing(_)) => return Vec::new(),
        Err(error) => {
            warn!(%error, "earlier runs cannot be replaced; the authority expects them until they are forgotten");
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
        warn!(file = %file.display(), "damaged: not all earlier runs can be replaced");
    }
    runs
}
