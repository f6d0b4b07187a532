//! The socket in the authority's directory on which the daemon hears of what other commands did, and tells them what came
//! of it: one line of JSON with a question, then lines of JSON with the answers.
//!
//! Who may connect is who may open the directory: the socket has the mode 0600. It never changes a certificate.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io,
    net::SocketAddr,
    os::{
        fd::AsRawFd as _,
        unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use pki::{crl::CrlNumber, wire::RollCallAnswer};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::Instant,
};
use tracing::{debug, error};

use crate::{
    feed::{Enforced, Feed, Forgotten, Progress},
    home::directory::Directory,
    issuer::Issuer,
    store::{RelyingParty, StoreError},
};

/// The longest question, in octets.
const MAX_QUESTION: u64 = 4096;
/// How long after a failed `accept` the next is tried.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is said of an answer to another question.
pub(crate) const OTHER_RELEASE: &str = "the daemon answered something else; it may be of another release: restart it";

/// What a command asks of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Question {
    /// "I have published something": the feed is told at once.
    Published {
        /// And who enforces it?
        #[serde(skip_serializing_if = "Option::is_none", default)]
        wait: Option<Wait>,
    },
    /// Who is there?
    RelyingParties,
    /// Where do you say whether you are ready?
    Operations,
    /// Who is connected to each of them?
    RollCall {
        /// How long to wait for those who do not answer.
        timeout_millis: u64,
    },
    /// Expect nothing of the disconnected instances of this name any more, or of the one whose id begins like this.
    Forget {
        /// The name.
        name: String,
        /// The beginning of an instance's id.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        instance: Option<String>,
    },
}

/// For what to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wait {
    pub(crate) issuer: Issuer,
    /// The issuer's CRL that is to be enforced.
    pub(crate) number: CrlNumber,
    /// How long ago it was committed; no two processes have a clock in common.
    pub(crate) committed_micros_ago: u64,
    pub(crate) timeout_millis: u64,
}

impl Wait {
    /// When it was committed, by the clock of the process that the question arrived at.
    fn committed(&self, arrived: Instant) -> Instant {
        arrived.checked_sub(Duration::from_micros(self.committed_micros_ago)).unwrap_or(arrived)
    }
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    /// The feed was told.
    Told,
    /// There, in plain HTTP.
    Operations(SocketAddr),
    /// All instances that are expected to enforce what is revoked, as of now.
    RelyingParties(Vec<RelyingParty>),
    /// This one enforces the CRL.
    Enforced {
        /// Who.
        party: RelyingParty,
        /// Since when.
        enforced: Enforced,
    },
    /// This one says who is connected to it.
    Present {
        /// Who.
        party: RelyingParty,
        /// What it says.
        answer: RollCallAnswer,
    },
    /// The wait is over; these do not enforce it, or have not answered. Among them is whoever had its own certificate revoked
    /// meanwhile.
    Missing(Vec<RelyingParty>),
    /// What became of the order to forget.
    Forgotten(Forgotten),
    /// It could not be done.
    Failed(String),
}

/// Why the daemon cannot be reached by other commands.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Two daemons would each believe to know who is on the feed.
    #[error("another ca-daemon already serves {}; stop it first", .0.display())]
    Running(PathBuf),
    /// A daemon that ran as another user, as root perhaps, has left its lock here.
    #[error(
        "{} belongs to another user, as whom a ca-daemon ran here: {source}. If none does any more, remove the file, and give the \
         database's files back to this user", path.display()
    )]
    Foreign {
        /// The lock.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file system refused.
    #[error("{} cannot be used: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The daemon's end.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    socket: PathBuf,
    /// The lock ends with the process, however that ends.
    _lock: File,
}

impl Control {
    pub(crate) fn open(directory: &Directory) -> Result<Self, ControlError> {
        let lock = lock(&directory.lock(), directory.path())?;
        let socket = directory.socket();
        let failed = |source| ControlError::Io { path: socket.clone(), source };
        // Nobody listens there: whoever would, holds the lock.
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let (_directory, address) = address(&socket).map_err(failed)?;
        let listener = UnixListener::bind(address).map_err(failed)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, socket, _lock: lock })
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(self, feed: Feed, operations: SocketAddr) {
        let mut conversations = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        conversations.spawn(converse(stream, feed.clone(), operations));
                    }
                    Err(error) => {
                        error!(%error, "a command could not connect to the daemon");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = conversations.join_next() => {}
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // A command that finds no socket knows at once that no daemon runs.
        let _ = fs::remove_file(&self.socket);
    }
}

/// A socket's address has room for 107 octets; a longer path is shortened by way of its directory, which has to stay open.
fn address(socket: &Path) -> io::Result<(Option<File>, PathBuf)> {
    match (socket.parent(), socket.file_name()) {
        (Some(parent), Some(name)) if socket.as_os_str().len() > 107 => {
            let directory = File::open(parent)?;
            let address = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
            Ok((Some(directory), address))
        }
        _ => Ok((None, socket.to_owned())),
    }
}

fn lock(path: &Path, directory: &Path) -> Result<File, ControlError> {
    let failed = |source: io::Error| match fs::metadata(path) {
        Ok(_) if source.kind() == io::ErrorKind::PermissionDenied => {
            ControlError::Foreign { path: path.to_owned(), source }
        }
        _ => ControlError::Io { path: path.to_owned(), source },
    };
    // Made in place and never replaced: two that each make their own file would each hold a lock.
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ControlError::Running(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

async fn converse(stream: UnixStream, feed: Feed, operations: SocketAddr) {
    let (read, write) = stream.into_split();
    let mut asker = Asker { gone: read, write };
    if let Err(error) = asker.answer(&feed, operations).await {
        // It went away, as Ctrl-C makes it.
        debug!(%error, "a command has stopped listening");
    }
}

/// A command at the other end.
struct Asker {
    gone: OwnedReadHalf,
    write: OwnedWriteHalf,
}

impl Asker {
    async fn answer(&mut self, feed: &Feed, operations: SocketAddr) -> io::Result<()> {
        let mut line = String::new();
        BufReader::new((&mut self.gone).take(MAX_QUESTION)).read_line(&mut line).await?;
        let arrived = Instant::now();
        match serde_json::from_str(&line) {
            Ok(Question::Published { wait }) => {
                let refreshed = feed.refresh().await;
                if let Some(wait) = &wait {
                    feed.note_committed(wait.issuer, wait.number, wait.committed(arrived));
                }
                // Who enforces what in numbers of another file, nobody here can say.
                let is_replaced = refreshed.as_ref().is_err_and(StoreError::is_replaced);
                let told = refreshed.map_or_else(|error| failed(&error), |()| Answer::Told);
                self.say(&told).await?;
                match wait.filter(|_| !is_replaced) {
                    Some(wait) => self.follow(feed, wait, arrived).await,
                    None => Ok(()),
                }
            }
            Ok(Question::RollCall { timeout_millis }) => {
                self.call_roll(feed, arrived + Duration::from_millis(timeout_millis)).await
            }
            Ok(Question::Operations) => self.say(&Answer::Operations(operations)).await,
            Ok(Question::RelyingParties) => self.say(&Answer::RelyingParties(feed.relying_parties())).await,
            Ok(Question::Forget { name, instance }) => {
                let forgotten = feed.forget(&name, instance.as_deref()).await;
                let answer = forgotten.map_or_else(|error| failed(&error), Answer::Forgotten);
                self.say(&answer).await
            }
            Err(error) => self.say(&Answer::Failed(format!("not a question: {error}"))).await,
        }
    }

    /// Says who enforces the CRL as they confirm it, and in the end who does not.
    async fn follow(&mut self, feed: &Feed, wait: Wait, arrived: Instant) -> io::Result<()> {
        let committed = wait.committed(arrived);
        let deadline = arrived + Duration::from_millis(wait.timeout_millis);
        let mut confirmations = feed.confirmations();
        let mut is_closed = feed.is_closed();
        let parties = feed.relying_parties();
        let revoked_before: BTreeSet<_> =
            parties.iter().filter(|party| party.certificate_revoked).map(RelyingParty::key).collect();
        self.say(&Answer::RelyingParties(parties)).await?;
        let mut said = BTreeSet::new();
        loop {
            confirmations.mark_unchanged();
            let (mut missing, mut dismissed) = (Vec::new(), Vec::new());
            for progress in feed.progress(wait.issuer, wait.number, committed) {
                let Progress { party, enforced } = progress;
                match enforced {
                    // It is on its way out, and not waited for.
                    _ if party.certificate_revoked => dismissed.push(party),
                    Some(enforced) if said.insert(party.key()) => {
                        self.say(&Answer::Enforced { party, enforced }).await?;
                    }
                    Some(_) => {}
                    None if said.contains(&party.key()) => {}
                    None => missing.push(party),
                }
            }
            let is_over = Instant::now() >= deadline || *is_closed.borrow();
            if missing.is_empty() || is_over {
                // Whoever was revoked meanwhile is not to disappear.
                let is_news =
                    |party: &RelyingParty| !said.contains(&party.key()) && !revoked_before.contains(&party.key());
                missing.extend(dismissed.into_iter().filter(is_news));
                return self.say(&Answer::Missing(missing)).await;
            }
            let mut rest = [0; 1];
            tokio::select! {
                _ = confirmations.changed() => {}
                _ = is_closed.wait_for(|closed| *closed) => {}
                () = tokio::time::sleep_until(deadline) => {}
                // It has nothing more to say: it is gone.
                _ = self.gone.read(&mut rest) => return Ok(()),
            }
        }
    }

    /// Passes on who is connected where as the relying parties say it, and in the end who of them did not.
    async fn call_roll(&mut self, feed: &Feed, deadline: Instant) -> io::Result<()> {
        let call = feed.call_roll();
        let mut answered = call.answered();
        let mut is_closed = feed.is_closed();
        let mut said = BTreeSet::new();
        loop {
            answered.mark_unchanged();
            let (answers, mut silent) = (call.answers(), Vec::new());
            for party in feed.relying_parties() {
                match answers.get(&party.key()) {
                    Some(answer) if said.insert(party.key()) => {
                        self.say(&Answer::Present { party, answer: answer.as_ref().clone() }).await?;
                    }
                    Some(_) => {}
                    None => silent.push(party),
                }
            }
            // Nobody waits for those who are not on the feed.
            let is_complete = silent.iter().all(|party| party.connected_since.is_none());
            if is_complete || Instant::now() >= deadline || *is_closed.borrow() {
                return self.say(&Answer::Missing(silent)).await;
            }
            let mut rest = [0; 1];
            tokio::select! {
                _ = answered.changed() => {}
                _ = is_closed.wait_for(|closed| *closed) => {}
                () = tokio::time::sleep_until(deadline) => {}
                // It has nothing more to say: it is gone.
                _ = self.gone.read(&mut rest) => return Ok(()),
            }
        }
    }

    async fn say(&mut self, answer: &Answer) -> io::Result<()> {
        let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
        line.push(b'\n');
        self.write.write_all(&line).await
    }
}

fn failed(error: &StoreError) -> Answer {
    Answer::Failed(error.to_string())
}

/// A command's end.
#[derive(Debug)]
pub(crate) struct Connection {
    answers: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Connection {
    /// Connects to the daemon that serves this directory; none if there is no such daemon.
    pub(crate) async fn open(directory: &Directory) -> io::Result<Option<Self>> {
        let (_directory, address) = match address(&directory.socket()) {
            Ok(address) => address,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match UnixStream::connect(address).await {
            Ok(stream) => {
                let (read, write) = stream.into_split();
                Ok(Some(Self { answers: BufReader::new(read).lines(), write }))
            }
            // No file, or nobody behind it: it was killed.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks; a daemon takes one question on each connection.
    pub(crate) async fn ask(&mut self, question: &Question) -> io::Result<()> {
        let mut line = serde_json::to_vec(question).map_err(io::Error::other)?;
        line.push(b'\n');
        self.write.write_all(&line).await
    }

    /// The next answer; none after the last, or when the daemon has ended.
    pub(crate) async fn answer(&mut self) -> io::Result<Option<Answer>> {
        let Some(line) = self.answers.next_line().await? else { return Ok(None) };
        serde_json::from_str(&line).map(Some).map_err(io::Error::other)
    }
}
