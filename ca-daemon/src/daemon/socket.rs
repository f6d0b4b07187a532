//! The socket in the authority's directory on which the daemon listens for commands, and the lock that keeps a second
//! daemon away.
//!
//! It never admits another user: the socket has the mode 0600.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io,
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::UnixListener;
use tracing::error;

use crate::{
    feed::Feed,
    home::directory::Directory,
    operator::{address, respond},
};

/// The pause after a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the command socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// With two daemons on one directory, each would know only a part of the feed.
    #[error("another ca-daemon already serves {}; stop it first", .0.display())]
    Running(PathBuf),
    /// A daemon that ran as another user, perhaps as root, left its lock file here.
    #[error(
        "{} belongs to another user, as whom a ca-daemon ran here: {source}. If that one has ended, remove the file and \
         give the files of the database to this user",
        path.display()
    )]
    Foreign {
        /// The lock file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file system refused.
    #[error("{} cannot be used: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// The daemon's end of the socket.
#[derive(Debug)]
pub(crate) struct CommandSocket {
    listener: UnixListener,
    socket: PathBuf,
    /// The kernel releases the lock when the process ends.
    _lock: File,
}

impl CommandSocket {
    pub(crate) fn open(directory: &Directory) -> Result<Self, SocketError> {
        let lock = lock(&directory.lock(), directory.path())?;
        let socket = directory.socket();
        let failed = |source| SocketError::Io { path: socket.clone(), source };
        // No daemon listens on it: one that does holds the lock.
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
                        conversations.spawn(respond(stream, feed.clone(), operations));
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

impl Drop for CommandSocket {
    fn drop(&mut self) {
        // Without a socket file, a command knows at once that no daemon runs.
        let _ = fs::remove_file(&self.socket);
    }
}

fn lock(path: &Path, directory: &Path) -> Result<File, SocketError> {
    let failed = |source: io::Error| match fs::metadata(path) {
        Ok(_) if source.kind() == io::ErrorKind::PermissionDenied => {
            SocketError::Foreign { path: path.to_owned(), source }
        }
        _ => SocketError::Io { path: path.to_owned(), source },
    };
    // Created in place and never renamed: otherwise two daemons could each lock a file of their own.
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SocketError::Running(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
