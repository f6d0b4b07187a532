//! Errors of the database, distinguished by what an operator does about them.
//!
//! It never decides which answer a client gets; `http::error` does.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pki::{crl::CrlNumber, issuing::IssuingError};

/// Why something could not be stored or looked up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// There is no file.
    #[error("there is no database at {}; run: ca-daemon init, or name its directory with --dir", .0.display())]
    Missing(PathBuf),
    /// A database without an authority in it. `init` writes none, and refuses to run where a database exists.
    #[error("the database holds no authority, so it is not the one that was founded; restore that from a backup")]
    NoAuthority,
    /// Something other than SQLite wrote the file.
    #[error("{} is not a database, or it is damaged; restore it from a backup", .0.display())]
    NotADatabase(PathBuf),
    /// The schema has steps that this program does not know.
    #[error("{} was written by a newer release; use that release", .0.display())]
    Newer(PathBuf),
    /// The file cannot be opened.
    #[error("{} cannot be opened: {source}; check that it and its directory belong to this user", path.display())]
    Unreachable {
        /// Which file.
        path: PathBuf,
        /// SQLite's error.
        source: sqlx::Error,
    },
    /// The file or its file system cannot be written.
    #[error(
        "the database is read-only; check the permissions of ca.db, ca.db-wal and ca.db-shm, and how their file system \
         is mounted"
    )]
    ReadOnly,
    /// The disk is full.
    #[error("the database cannot grow: the disk is full; free some space and try again")]
    Full,
    /// Commits would go into a file that no other process can open any more.
    #[error(
        "{} or its write-ahead log was removed or replaced while it was in use. Commits would be lost, so none is made \
         any more. Stop the daemon, put the right files in place, and start it; after a restore, follow \
          docs/operations.md",
        .0.display()
    )]
    Replaced(PathBuf),
    /// Another writer did not finish in time.
    #[error("the database is busy with another writer; try again")]
    Busy,
    /// The SQLite that was linked has a bug that can corrupt the file.
    #[error("SQLite {0} can corrupt a database with two writers; build with 3.51.3 or newer")]
    Library(String),
    /// A value that this program did not write.
    #[error("the database is damaged: {column}: {reason}; restore it from a backup")]
    Damaged {
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A delta cannot be taken back without its base CRL.
    #[error(
        "CRL number {number} is a delta to number {base}, which this database does not have either; nothing was \
         changed. Import that complete CRL together with it"
    )]
    MissingBase {
        /// The delta's number.
        number: CrlNumber,
        /// The number of its base.
        base: CrlNumber,
    },
    /// The schema could not be brought up to date.
    #[error("the database could not be brought up to date: {0}")]
    Migration(sqlx::migrate::MigrateError),
    /// The signature in the middle of the transaction could not be made.
    #[error(transparent)]
    Signing(#[from] IssuingError),
    /// The error of a transaction that several callers shared.
    #[error(transparent)]
    Together(Arc<StoreError>),
    /// Anything else.
    #[error("the database failed: {0}")]
    Database(sqlx::Error),
}

impl StoreError {
    pub(crate) fn damaged(column: &'static str, reason: &impl fmt::Display) -> Self {
        Self::Damaged { column, reason: reason.to_string() }
    }

    /// Whether the database's files were replaced since they were opened.
    pub(crate) fn is_replaced(&self) -> bool {
        match self {
            Self::Replaced(_) => true,
            Self::Together(error) => error.is_replaced(),
            _ => false,
        }
    }

    /// Whether the disk or the file on it is the cause.
    pub(super) fn is_of_the_disk(&self) -> bool {
        match self {
            Self::Full | Self::ReadOnly => true,
            Self::Database(source) => matches!(code(source), Some(IO_ERROR | CORRUPT | CANNOT_OPEN | NOT_A_DATABASE)),
            Self::Together(error) => error.is_of_the_disk(),
            _ => false,
        }
    }

    /// Whether a constraint of a table refused a row.
    pub(super) fn is_constraint(&self) -> bool {
        match self {
            Self::Database(source) => code(source) == Some(CONSTRAINT),
            Self::Together(error) => error.is_constraint(),
            _ => false,
        }
    }

    /// Adds the path to an error from opening the file.
    pub(super) fn at(self, path: &Path) -> Self {
        match self {
            Self::Database(source) if code(&source) == Some(NOT_A_DATABASE) || code(&source) == Some(CORRUPT) => {
                Self::NotADatabase(path.to_owned())
            }
            Self::Database(source) if code(&source) == Some(CANNOT_OPEN) => {
                Self::Unreachable { path: path.to_owned(), source }
            }
            other => other,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match (&error, code(&error)) {
            (sqlx::Error::PoolTimedOut, _) | (_, Some(BUSY | LOCKED)) => Self::Busy,
            (_, Some(READ_ONLY)) => Self::ReadOnly,
            (_, Some(FULL)) => Self::Full,
            _ if extended_code(&error) == Some(NO_ROOM_FOR_SHARED_MEMORY) => Self::Full,
            _ => Self::Database(error),
        }
    }
}

// Primary result codes, https://www.sqlite.org/rescode.html
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READ_ONLY: i32 = 8;
const IO_ERROR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const CONSTRAINT: i32 = 19;
const NOT_A_DATABASE: i32 = 26;

/// `SQLITE_IOERR_SHMSIZE`: on a full disk, opening a database fails with this, even for reading.
const NO_ROOM_FOR_SHARED_MEMORY: i32 = 4874;

/// The primary result code: the low byte of the extended one.
fn code(error: &sqlx::Error) -> Option<i32> {
    extended_code(error).map(|code| code & 0xff)
}

fn extended_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}
