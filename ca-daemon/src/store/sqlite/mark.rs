//! The mark beside the database: the highest CRL numbers that were used. It shows when the database is replaced by an
//! older copy.
//!
//! It never goes down, and it never contains what was revoked.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use edge::files::{self, Access, FileError};
use pki::crl::CrlNumber;
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, SqliteConnection};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use super::{StoreError, records};
use crate::issuer::Issuer;

/// How long to wait for another process that writes the mark, which includes a sync of the disk.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts to lock the file.
const PAUSE: Duration = Duration::from_millis(5);

/// How far the CRL numbers of one issuer have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Level {
    /// The highest number that was used.
    pub(super) number: CrlNumber,
    /// The highest number that came with a new revocation.
    pub(super) revoking: CrlNumber,
}

/// The levels of both issuers; none before the authority is founded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Levels {
    #[serde(default)]
    root: Option<Level>,
    #[serde(default)]
    issuing: Option<Level>,
}

impl Levels {
    /// Reads the levels from the database.
    pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let mut levels = Self::default();
        let query = sqlx::query("SELECT issuer, last_number, revoking_number FROM crl_sequences");
        for row in query.fetch_all(connection).await? {
            let level = Level {
                number: records::number(&row, "last_number")?,
                revoking: records::number(&row, "revoking_number")?,
            };
            match row.try_get("issuer")? {
                "root" => levels.root = Some(level),
                _ => levels.issuing = Some(level),
            }
        }
        Ok(levels)
    }

    pub(super) fn of(&self, issuer: Issuer) -> Option<Level> {
        match issuer {
            Issuer::Root => self.root,
            Issuer::Issuing => self.issuing,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether one of the numbers is lower than in `there`.
    pub(super) fn is_behind(&self, there: &Self) -> bool {
        Issuer::ALL.into_iter().any(|issuer| self.number(issuer) < there.number(issuer))
    }

    fn number(&self, issuer: Issuer) -> Option<CrlNumber> {
        self.of(issuer).map(|level| level.number)
    }

    fn max(&self, other: &Self) -> Self {
        let max = |issuer| match (self.of(issuer), other.of(issuer)) {
            (Some(one), Some(two)) => {
                Some(Level { number: one.number.max(two.number), revoking: one.revoking.max(two.revoking) })
            }
            (one, two) => one.or(two),
        };
        Self { root: max(Issuer::Root), issuing: max(Issuer::Issuing) }
    }
}

/// The file, and what is known of its content.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The file has at least these levels.
    on_disk: Levels,
    /// The levels that were read from the database. It never goes below them.
    seen: Levels,
}

impl Mark {
    /// The mark of this database, and the levels in it; none if there is no mark.
    pub(super) fn beside(database: &Path) -> (Arc<Self>, Option<Levels>) {
        let path = database.with_extension("mark");
        let said = match read(&path) {
            Ok(said) => said,
            Err(error) => {
                error!(
                    %error,
                    "the mark beside the database is unreadable and is written again; \
                     it cannot show whether the database is an older copy"
                );
                None
            }
        };
        let known = Known { on_disk: said.unwrap_or_default(), seen: Levels::default() };
        (Arc::new(Self { path, known: Mutex::new(known) }), said)
    }

    /// The highest levels that were read from the database.
    pub(super) fn seen(&self) -> Levels {
        self.known().seen
    }

    /// Logs that there is no mark. [`Self::raise`] creates it.
    pub(super) fn warn_of_absence(&self) {
        let path = self.path.display();
        warn!(
            %path,
            "there is no mark beside the database; \
             one is created, but it cannot show whether the database is an older copy"
        );
    }

    /// Returns when the file has at least these levels. If it already has, nothing is written.
    ///
    /// A failure to write is logged and nothing else: a revocation matters more than detecting a later restore.
    pub(super) async fn raise(self: &Arc<Self>, to: Levels) {
        {
            let mut known = self.known();
            known.seen = known.seen.max(&to);
            if known.on_disk.max(&to) == known.on_disk {
                return;
            }
        }
        let mark = Arc::clone(self);
        let written = spawn_blocking(move || mark.write(to)).await.expect("writing a file does not panic");
        if let Err(error) = written {
            error!(
                %error,
                "the mark beside the database could not be written; \
                 a later restore of an older copy may not be detected"
            );
        }
    }

    /// Other processes may write at the same time.
    fn write(&self, to: Levels) -> Result<(), FileError> {
        let failed = |source| FileError::Io { path: self.path.clone(), action: "locked", source };
        let _lock = lock(&self.path).map_err(failed)?;
        let on_disk = read(&self.path).ok().flatten().unwrap_or_default();
        let levels = on_disk.max(&to);
        if levels != on_disk {
            let text = serde_json::to_vec(&levels).expect("four numbers serialize");
            files::write(&self.path, &text, Access::Private)?;
        }
        let mut known = self.known();
        known.on_disk = known.on_disk.max(&levels);
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// None if the file is empty, because the first write was interrupted.
fn read(path: &Path) -> Result<Option<Levels>, FileError> {
    let text = match files::read(path) {
        Ok(text) if text.is_empty() => return Ok(None),
        Err(error) if error.is_missing() => return Ok(None),
        text => text?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| FileError::Io {
        path: path.to_owned(),
        action: "understood",
        source: error.into(),
    })
}

/// Locks the file that is there now: each writer replaces it. A process that stopped while it held the lock must not
/// delay a revocation, so this gives up after a while.
fn lock(path: &Path) -> io::Result<File> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
                continue;
            }
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::TimedOut.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let locked = file.metadata()?;
        match fs::metadata(path) {
            Ok(current) if (current.dev(), current.ino()) == (locked.dev(), locked.ino()) => return Ok(file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuing(number: i64, revoking: i64) -> Levels {
        let of = |number| CrlNumber::new(number).unwrap();
        Levels { root: None, issuing: Some(Level { number: of(number), revoking: of(revoking) }) }
    }

    #[tokio::test]
    async fn the_mark_only_goes_up() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("ca.db");
        let ((one, nothing), (two, _)) = (Mark::beside(&database), Mark::beside(&database));
        assert_eq!(nothing, None);
        one.raise(issuing(7, 3)).await;
        two.raise(issuing(5, 5)).await;
        one.raise(issuing(6, 3)).await;
        assert_eq!(Mark::beside(&database).1, Some(issuing(7, 5)));
        let writers: tokio::task::JoinSet<_> = (1..=20)
            .map(|number| {
                let (mark, _) = Mark::beside(&database);
                async move { mark.raise(issuing(100 + number, 100 - number)).await }
            })
            .collect();
        writers.join_all().await;
        assert_eq!(Mark::beside(&database).1, Some(issuing(120, 99)));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "there is no other file");
    }

    #[tokio::test]
    async fn a_process_that_stops_with_the_lock_does_not_block_others() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("ca.db");
        let (mark, _) = Mark::beside(&database);
        mark.raise(issuing(7, 3)).await;
        let stopped = File::open(directory.path().join("ca.mark")).unwrap();
        stopped.lock().unwrap();
        mark.raise(issuing(8, 3)).await;
        assert_eq!(Mark::beside(&database).1, Some(issuing(7, 3)));
        drop(stopped);
        mark.raise(issuing(8, 3)).await;
        assert_eq!(Mark::beside(&database).1, Some(issuing(8, 3)), "it is tried again the next time");
    }

    #[tokio::test]
    async fn an_unreadable_mark_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        for junk in ["", "{", "7"] {
            fs::write(directory.path().join("ca.mark"), junk).unwrap();
            let (mark, said) = Mark::beside(&directory.path().join("ca.db"));
            assert_eq!(said, None, "{junk}");
            mark.raise(issuing(7, 3)).await;
            assert_eq!(Mark::beside(&directory.path().join("ca.db")).1, Some(issuing(7, 3)));
        }
    }
}
