//! The files beneath the connections: whether the database and its write-ahead log are still those that were opened, and whether
//! they take writes.
//!
//! It never opens them: SQLite's locks on a file end when any descriptor of it in the process is closed.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use tracing::error;

use super::{StoreError, writable::Writable};

/// What the connections were opened on. Whoever removes or replaces one of these files takes what is committed from then on with
/// it: the process goes on writing into a file that nobody will ever open again.
#[derive(Debug)]
pub(super) struct Beneath {
    files: [PathBuf; 2],
    opened: [Option<Inode>; 2],
    /// Once and for all: what was committed in between may be lost.
    is_replaced: AtomicBool,
    pub(super) writable: Writable,
}

/// Device and inode.
type Inode = (u64, u64);

impl Beneath {
    /// Remembers what lies there. The connections have to be open already, and one of them stays open: whoever closes the last one
    /// removes the log.
    pub(super) fn opened(database: &Path) -> io::Result<Self> {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let files = [database.to_owned(), PathBuf::from(log)];
        let [database, log] = &files;
        let opened = [inode(database)?, inode(log)?];
        Ok(Self { files, opened, is_replaced: AtomicBool::new(false), writable: Writable::default() })
    }

    /// Whether what is committed is still in the file that others open. That it is not is logged once.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.is_replaced.load(Ordering::Acquire) {
            return Err(self.replaced());
        }
        for (path, opened) in self.files.iter().zip(&self.opened) {
            // What cannot be looked at is no proof.
            if inode(path).is_ok_and(|current| current != *opened) {
                return Err(self.condemn());
            }
        }
        Ok(())
    }

    /// Nothing is acknowledged from now on.
    pub(super) fn condemn(&self) -> StoreError {
        let error = self.replaced();
        if !self.is_replaced.swap(true, Ordering::AcqRel) {
            error!("{error}");
        }
        error
    }

    fn replaced(&self) -> StoreError {
        StoreError::Replaced(self.files[0].clone())
    }
}

/// None if there is no such file.
fn inode(path: &Path) -> io::Result<Option<Inode>> {
    match fs::metadata(path) {
        Ok(file) => Ok(Some((file.dev(), file.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
