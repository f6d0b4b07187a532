//! The database's files on disk: whether the database and its write-ahead log are still the files that were opened, and
//! whether they can be written.
//!
//! It never opens them: closing any descriptor of a file releases the locks that SQLite holds on it in this process.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use tracing::error;

use super::{StoreError, writable::Writable};

/// The files that the connections were opened on. If one is removed or replaced, the process keeps writing to a file
/// that nobody can open any more, and later commits are lost.
#[derive(Debug)]
pub(super) struct Beneath {
    files: [PathBuf; 2],
    opened: [Option<Inode>; 2],
    /// Never reset: commits in between may be lost.
    is_replaced: AtomicBool,
    pub(super) writable: Writable,
}

/// Device and inode.
type Inode = (u64, u64);

impl Beneath {
    /// Records the files' inodes. The connections have to be open before this call, and one has to stay open: closing
    /// the last one removes the write-ahead log.
    pub(super) fn opened(database: &Path) -> io::Result<Self> {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let files = [database.to_owned(), PathBuf::from(log)];
        let [database, log] = &files;
        let opened = [inode(database)?, inode(log)?];
        Ok(Self { files, opened, is_replaced: AtomicBool::new(false), writable: Writable::default() })
    }

    /// Whether commits still go to the files that others open. The first failure is logged.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.is_replaced.load(Ordering::Acquire) {
            return Err(self.replaced());
        }
        for (path, opened) in self.files.iter().zip(&self.opened) {
            // If a file cannot be examined, that does not prove that it was replaced.
            if inode(path).is_ok_and(|current| current != *opened) {
                return Err(self.condemn());
            }
        }
        Ok(())
    }

    /// Fails every later commit.
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
