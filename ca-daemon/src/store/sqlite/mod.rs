//! The store in one SQLite file: the only place with SQL.
//!
//! It never begins a write with a read that another process can overtake: each write takes the lock at once.

mod beneath;
mod certificates;
mod crls;
mod enrollments;
mod listing;
mod mark;
mod pages;
mod records;
mod relying_parties;
mod renewals;
mod revocations;
mod servers;
mod strays;
mod successions;
mod tokens;
mod uncertifiable;
mod writable;

#[cfg(test)]
mod tests;

use std::{
    future::ready,
    ops::{Deref, DerefMut},
    path::Path,
    sync::Arc,
    time::Duration,
};

use pki::certificate::Fingerprint;
use sqlx::{
    Connection as _, Row as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
    migrate::MigrateError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use tokio::sync::watch;

use self::{
    beneath::Beneath,
    mark::{Levels, Mark},
};
pub(crate) use self::{
    certificates::Recorded,
    crls::{CrlSigner, Period},
    enrollments::{Candidate, Enrollment, Entitlement, Refusal},
    listing::{Filter, Live, Wanted},
    records::{
        Ahead, CertificateRecord, Contents, CrlHead, CrlRecord, Newest, Revocation, Status, TokenRecord, TokenRefusal,
        Uses,
    },
    relying_parties::{InstanceKey, RelyingParty},
    renewals::{NotReplaced, RenewalOrder, RenewalProgress},
    revocations::{Condemned, Lines, Revoked, SignedList, TakenBack, Target, WithTokens},
    strays::StrayRevocation,
    successions::PredecessorRefusal,
    tokens::TokenRevocation,
    uncertifiable::{IssuerRevocation, Uncertifiable},
};
use super::StoreError;
use crate::{issuer::Issuer, settings::Settings};

/// Older ones can corrupt the write-ahead log if two writers checkpoint.
const MIN_SQLITE: [u32; 3] = [3, 51, 3];
/// How long a write waits for the lock of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
/// The writer's page cache: 32 MiB, in SQLite's notation.
const CACHE: &str = "-32768";

/// The store. Clones share its connections.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    // SQLite has one writer at a time. Waiting for it in this pool is fair and cheap; waiting in SQLite is neither.
    writer: SqlitePool,
    reader: SqlitePool,
    beneath: Arc<Beneath>,
    mark: Arc<Mark>,
    enrollments: enrollments::Queue,
    tokens: tokens::Held,
    /// Above this number of revocations, the complete CRL follows a moment after the delta.
    coalesced_above: u64,
}

/// The rows of a new authority.
pub(crate) struct Founding<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) crls: &'a [CrlRecord],
    /// The first delta of the issuing CA. Its base is the first CRL.
    pub(crate) delta: &'a CrlRecord,
    /// Its first list of servers.
    pub(crate) servers: &'a CrlRecord,
    pub(crate) bootstrap: &'a TokenRecord,
}

/// How many certificates were issued and revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tallies {
    pub(crate) client: u64,
    pub(crate) server: u64,
    pub(crate) revoked: u64,
}

impl Store {
    /// Opens an existing file and migrates its schema. An empty file is a database without an authority. If its CRL
    /// numbers are below the mark beside it, the database is an older copy, and that is recorded in it.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let found = path
            .try_exists()
            .map_err(|source| StoreError::Unreachable { path: path.to_owned(), source: source.into() })?;
        if !found {
            return Err(StoreError::Missing(path.to_owned()));
        }
        // SQLite would parse a name that begins with `file:` as a URI.
        let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // Read before the database: a process that publishes in between raises both.
        let (mark, said) = Mark::beside(path);
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(BUSY_TIMEOUT);
        let writing = options
            .clone()
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on the disk before it is answered, also if the power fails.
            .synchronous(SqliteSynchronous::Full)
            // Holds the inner pages of all indexes for millions of certificates. Leaf pages are left to the kernel's
            // cache.
            .pragma("cache_size", CACHE)
            // Statement journals, which are not needed after the transaction.
            .pragma("temp_store", "MEMORY");
        // If a disk is full or fails, SQLite rolls back by itself. sqlx does not notice and considers the transaction
        // open for ever: a writer would refuse every other write, and a reader would see old data.
        let is_reusable = |connection: &SqliteConnection| !connection.is_in_transaction();
        let pool = || {
            SqlitePoolOptions::new()
                .acquire_timeout(ACQUIRE_TIMEOUT)
                // Closing the last connection removes the write-ahead log, which would look as if another program had
                // removed it.
                .idle_timeout(None)
                .max_lifetime(None)
                // A connection is a thread of this process, so it needs no test that it still works.
                .test_before_acquire(false)
                .before_acquire(move |connection, _| Box::pin(ready(Ok(is_reusable(connection)))))
        };
        let opened = async {
            let writer = pool().max_connections(1).connect_with(writing).await?;
            check_library(&writer).await?;
            sqlx::migrate!("../migrations/sqlite").run(&writer).await.map_err(|error| match error {
                MigrateError::VersionMissing(_) => StoreError::Newer(path.to_owned()),
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
                error => StoreError::Migration(error),
            })?;
            let reader = pool().max_connections(READERS).connect_with(options.pragma("query_only", "ON")).await?;
            let unreadable = |source| StoreError::Database(sqlx::Error::Io(source));
            let beneath = Arc::new(Beneath::opened(path).map_err(unreadable)?);
            let enrollments = enrollments::Queue::new(writer.clone(), Arc::clone(&beneath));
            let store = Self {
                writer,
                reader,
                beneath,
                mark,
                enrollments,
                tokens: tokens::Held::default(),
                coalesced_above: crls::COALESCED_ABOVE,
            };
            store.compare_with_mark(said).await?;
            Ok(store)
        };
        opened.await.map_err(|error: StoreError| error.at(path))
    }

    /// The same store with another limit for the coalescing of complete CRLs.
    #[cfg(test)]
    pub(crate) fn coalescing_above(self, coalesced_above: u64) -> Self {
        Self { coalesced_above, ..self }
    }

    /// Waits for pending writes, and checkpoints the write-ahead log if no other process has the file open.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Records a new authority, in one transaction.
    pub(crate) async fn found(&self, founding: &Founding<'_>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let settings = founding.settings;
        sqlx::query(
            "INSERT INTO authority
                 (id, organization, name, url, crl_url, trust_domain, hosts, crl_lifetime, root_sha256)
             VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(settings.organization.as_str())
        .bind(settings.name.to_string())
        .bind(settings.url.as_str())
        .bind(settings.crl_url.as_str())
        .bind(settings.trust_domain.as_str())
        .bind(records::to_json(&settings.hosts))
        .bind(i64::try_from(settings.crl_lifetime.as_secs()).unwrap_or(i64::MAX))
        .bind(settings.root.0.as_slice())
        .execute(&mut *tx)
        .await?;
        for crl in founding.crls {
            crls::put(&mut tx, &pages::Complete::whole(crl.clone()), 0).await?;
        }
        crls::insert_first_delta(&mut tx, founding.delta).await?;
        servers::insert(&mut tx, founding.servers, 0).await?;
        tokens::put(&mut tx, founding.bootstrap).await?;
        self.commit_numbers(tx).await
    }

    /// The settings that the authority was founded with.
    pub(crate) async fn settings(&self) -> Result<Settings, StoreError> {
        let row = sqlx::query("SELECT * FROM authority").fetch_optional(&self.reader).await?;
        read_settings(&row.ok_or(StoreError::NoAuthority)?)
    }

    /// How many certificates were issued, by profile, and how many revoked. Reads three rows.
    pub(crate) async fn tallies(&self) -> Result<Tallies, StoreError> {
        let mut tallies = Tallies::default();
        for row in sqlx::query("SELECT what, count FROM tallies").fetch_all(&self.reader).await? {
            let count = u64::try_from(row.try_get::<i64, _>("count")?).unwrap_or(0);
            match row.try_get("what")? {
                "client" => tallies.client = count,
                "server" => tallies.server = count,
                "revoked" => tallies.revoked = count,
                _ => {}
            }
        }
        Ok(tallies)
    }

    /// Whether commits still go to the files that others open; see [`StoreError::Replaced`].
    pub(crate) fn check_beneath(&self) -> Result<(), StoreError> {
        self.beneath.check()
    }

    /// An error if the last write failed because of the disk.
    pub(crate) fn check_writable(&self) -> Result<(), StoreError> {
        self.beneath.writable.check()
    }

    /// How many writes have failed because of the disk since the start.
    pub(crate) fn failed_writes(&self) -> u64 {
        self.beneath.writable.failed()
    }

    /// Whether nothing can be written. Receivers are notified when it changes.
    pub(crate) fn is_unwritable(&self) -> watch::Receiver<bool> {
        self.beneath.writable.is_off()
    }

    /// Rewrites a row unchanged, to test whether writes succeed.
    pub(crate) async fn try_to_write(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE authority SET id = id").execute(&mut *tx).await?;
        tx.commit().await
    }

    async fn begin(&self) -> Result<Writing, StoreError> {
        begin(&self.writer, &self.beneath).await
    }

    /// Commits a transaction that used CRL numbers, and raises the mark before anybody can receive them.
    async fn commit_numbers(&self, tx: Writing) -> Result<(), StoreError> {
        tx.commit().await?;
        self.keep_marked().await
    }

    /// Raises the mark to everything that can have been read from this database. That includes what another process
    /// published before it was killed.
    async fn keep_marked(&self) -> Result<(), StoreError> {
        self.beneath.check()?;
        let before = self.mark.seen();
        let levels = Levels::read(&mut *self.reader.acquire().await?).await?;
        if levels.is_behind(&before) {
            // Another file was copied over this one.
            return Err(self.beneath.condemn());
        }
        self.mark.raise(levels).await;
        Ok(())
    }

    /// Compares a database with the mark, and records whether it is an older copy. If revocations are missing, it stays
    /// in that state until an operator or a relying party supplies them. If only numbers are missing, they are skipped.
    async fn compare_with_mark(&self, said: Option<Levels>) -> Result<(), StoreError> {
        let here = Levels::read(&mut *self.reader.acquire().await?).await?;
        if here.is_empty() {
            // No authority was founded yet.
            return Ok(());
        }
        let Some(said) = said else {
            self.mark.warn_of_absence();
            return self.keep_marked().await;
        };
        if here.is_behind(&said) {
            for issuer in Issuer::ALL {
                self.pass(issuer, said.of(issuer)).await?;
            }
        }
        self.keep_marked().await
    }
}

/// A transaction that writes. Dropping it rolls it back.
struct Writing {
    tx: Transaction<'static, Sqlite>,
    beneath: Arc<Beneath>,
}

impl Writing {
    /// After this, the change is durable in the files that others open, or an error is returned.
    async fn commit(self) -> Result<(), StoreError> {
        let committed = self.tx.commit().await.map_err(StoreError::from);
        self.beneath.writable.note(committed)?;
        // The files may have been replaced since the transaction began.
        self.beneath.check()
    }
}

impl Deref for Writing {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.tx
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }
}

/// Starts a transaction that writes. BEGIN IMMEDIATE takes the write lock at once: a transaction that reads first and
/// is overtaken fails with "database is locked", regardless of the busy timeout.
async fn begin(writer: &SqlitePool, beneath: &Arc<Beneath>) -> Result<Writing, StoreError> {
    beneath.check()?;
    match writer.begin_with("BEGIN IMMEDIATE").await {
        Ok(tx) => Ok(Writing { tx, beneath: Arc::clone(beneath) }),
        // That it could begin does not show that it can commit, so success is not noted here.
        Err(error) => beneath.writable.note(Err(error.into())),
    }
}

async fn check_library(pool: &SqlitePool) -> Result<(), StoreError> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(pool).await?;
    let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    if numbers.as_slice() >= MIN_SQLITE.as_slice() { Ok(()) } else { Err(StoreError::Library(version)) }
}

fn read_settings(row: &SqliteRow) -> Result<Settings, StoreError> {
    let lifetime: i64 = row.try_get("crl_lifetime")?;
    let hosts: Vec<String> = records::from_json(row, "hosts")?;
    Ok(Settings {
        organization: records::recorded(row, "organization")?,
        name: records::recorded(row, "name")?,
        url: records::parse(row, "url")?,
        crl_url: records::parse(row, "crl_url")?,
        trust_domain: records::recorded(row, "trust_domain")?,
        hosts: hosts
            .iter()
            .map(|host| host.parse())
            .collect::<Result<_, _>>()
            .map_err(|error| StoreError::damaged("hosts", &error))?,
        crl_lifetime: Duration::from_secs(u64::try_from(lifetime).unwrap_or(0)),
        root: Fingerprint(records::octets(row, "root_sha256")?),
    })
}
