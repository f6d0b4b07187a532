//! CRLs, stored in the same transaction as the revocations that they publish.
//!
//! It never signs. The caller's [`CrlSigner`] signs inside the transaction, so that no revocation is committed without
//! a complete or delta CRL that contains it.

use std::{sync::Arc, time::Duration};

use pki::{
    certificate::Fingerprint,
    crl::{CrlDraft, CrlNumber, DeltaDraft, EncodedEntries, SignedCrl},
    issuing::{CertificateAuthority, IssuingError},
    time::Timestamp,
};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use super::{
    Ahead, Contents, CrlHead, CrlRecord, Newest, Store, StoreError,
    mark::{Level, Levels},
    pages::{self, Assembled, Complete},
    records, servers,
};
use crate::issuer::{CrlKind, Issuer};

/// Above this number of revocations, a new revocation is published in a delta at once. The complete CRL follows a
/// moment later and covers several revocations: signing a large one for each would take all the time.
pub(super) const COALESCED_ABOVE: u64 = 10_000;
/// If a delta would have more entries than this, it moves to a later base.
const DELTA_ENTRIES: i64 = 1_000;

/// Signs CRLs.
pub(crate) trait CrlSigner: Send + Sync + 'static {
    fn complete(&self, draft: CrlDraft<EncodedEntries>) -> Result<SignedCrl, IssuingError>;
    fn delta(&self, draft: &DeltaDraft) -> Result<Vec<u8>, IssuingError>;
    fn servers(&self, draft: &CrlDraft) -> Result<Vec<u8>, IssuingError>;
}

impl CrlSigner for CertificateAuthority {
    fn complete(&self, draft: CrlDraft<EncodedEntries>) -> Result<SignedCrl, IssuingError> {
        self.sign_encoded_crl(draft)
    }

    fn delta(&self, draft: &DeltaDraft) -> Result<Vec<u8>, IssuingError> {
        self.sign_delta(draft)
    }

    fn servers(&self, draft: &CrlDraft) -> Result<Vec<u8>, IssuingError> {
        self.sign_servers_crl(draft)
    }
}

/// When a CRL is issued, and for how long it is valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Period {
    pub(crate) this_update: Timestamp,
    pub(crate) lifetime: Duration,
}

impl Store {
    /// Signs and publishes the issuer's next CRL and its delta, with the same revocations. A large CRL is signed
    /// outside of the transaction, so that it does not delay a revocation.
    pub(crate) async fn publish(
        &self,
        issuer: Issuer,
        period: Period,
        signer: Arc<impl CrlSigner>,
    ) -> Result<CrlRecord, StoreError> {
        let mut tx = self.begin().await?;
        let next = begin_publication(&mut tx, issuer, period, self.coalesced_above).await?;
        if issuer == Issuer::Issuing {
            put_delta(&mut tx, &next, period, &signer).await?;
            servers::put(&mut tx, &next, period, &signer).await?;
        }
        if next.is_whole() {
            let crl = put_complete(&mut tx, &next, period, &signer).await?;
            self.commit_numbers(tx).await?;
            return Ok(crl);
        }
        // The delta with this number is published, so the number is never used again.
        self.commit_numbers(tx).await?;
        loop {
            let mut snapshot = self.reader.begin().await?;
            let before = number(&mut snapshot, issuer).await?;
            let complete = sign_complete(&mut snapshot, &next, period, &signer).await?;
            snapshot.rollback().await?;
            let mut tx = self.begin().await?;
            let current = number(&mut tx, issuer).await?;
            if current == before && current < next.number {
                put(&mut tx, &complete, next.through).await?;
                self.commit_numbers(tx).await?;
            } else if current < next.number {
                // Another process has published, so the pages may not be those that this CRL was made of.
                continue;
            }
            return Ok(complete.crl);
        }
    }

    /// The issuer's current complete CRL.
    pub(crate) async fn crl(&self, issuer: Issuer) -> Result<CrlRecord, StoreError> {
        self.signed(issuer, CrlKind::Complete).await?.ok_or(StoreError::NoAuthority)
    }

    /// The issuer's current CRL of this kind. The delta and the list of servers are missing until they are published
    /// for the first time.
    pub(crate) async fn signed(&self, issuer: Issuer, kind: CrlKind) -> Result<Option<CrlRecord>, StoreError> {
        let signed = match kind {
            CrlKind::Complete => pages::get(&mut *self.reader.begin().await?, issuer).await?,
            CrlKind::Delta => {
                let query = sqlx::query("SELECT * FROM deltas WHERE issuer = ?").bind(issuer.as_str());
                query.fetch_optional(&self.reader).await?.map(|row| records::crl(&row, issuer)).transpose()?
            }
            CrlKind::Servers => servers::get(&mut *self.reader.acquire().await?, issuer).await?,
        };
        // A process may have published it and been killed before it raised the mark. Whoever receives it may enforce
        // it, so the mark is raised first.
        self.keep_marked().await?;
        Ok(signed)
    }

    /// The number and the dates of the issuer's current complete CRL.
    pub(crate) async fn crl_head(&self, issuer: Issuer) -> Result<CrlHead, StoreError> {
        self.head(issuer, CrlKind::Complete).await?.ok_or(StoreError::NoAuthority)
    }

    /// As [`Self::signed`], without reading it.
    pub(crate) async fn head(&self, issuer: Issuer, kind: CrlKind) -> Result<Option<CrlHead>, StoreError> {
        head(&mut *self.reader.acquire().await?, issuer, kind).await
    }

    /// The newest number that can be downloaded, and whether higher ones were used.
    pub(crate) async fn newest(&self, issuer: Issuer) -> Result<Newest, StoreError> {
        let newest = newest(&mut *self.reader.acquire().await?, issuer).await?;
        self.keep_marked().await?;
        Ok(newest)
    }

    /// Returns whether revocations that were published before a restore are missing here.
    pub(crate) async fn is_ahead(&self) -> Result<bool, StoreError> {
        let query = "SELECT EXISTS (SELECT 1 FROM crl_sequences WHERE ahead_number IS NOT NULL)";
        Ok(sqlx::query_scalar(query).fetch_one(&self.reader).await?)
    }

    /// Skips all numbers up to the mark's. If the mark shows that revocations are missing here, records and logs that.
    pub(super) async fn pass(&self, issuer: Issuer, marked: Option<Level>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let here = Levels::read(&mut tx).await?.of(issuer);
        let Some((here, marked)) = here.zip(marked).filter(|(here, marked)| here.number < marked.number) else {
            return Ok(());
        };
        let lost = (marked.revoking > here.number).then_some(Ahead {
            issuer,
            number: marked.number,
            revoking: marked.revoking,
        });
        sqlx::query(
            "UPDATE crl_sequences SET last_number = ?2, ahead_number = coalesce(?3, ahead_number),
                 ahead_revoked = coalesce(?4, ahead_revoked)
             WHERE issuer = ?1",
        )
        .bind(issuer.as_str())
        .bind(marked.number.get())
        .bind(lost.map(|lost| lost.number.get()))
        .bind(lost.map(|lost| lost.revoking.get()))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        match lost {
            Some(lost) => error!("{lost}"),
            None => {
                warn!(%issuer, number = %marked.number, "this database is an older copy, but it lacks no revocation");
            }
        }
        Ok(())
    }

    /// Continues without the revocations that a restored database does not have, by the operator's order.
    pub(crate) async fn accept_loss(&self, issuer: Issuer) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let accept = "UPDATE crl_sequences SET ahead_number = NULL, ahead_revoked = NULL WHERE issuer = ?";
        sqlx::query(accept).bind(issuer.as_str()).execute(&mut *tx).await?;
        tx.commit().await
    }
}

/// The next number, and what is needed to publish a CRL with it.
pub(super) struct Publication {
    pub(super) issuer: Issuer,
    pub(super) number: CrlNumber,
    /// The id of the last revocation in it.
    pub(super) through: i64,
    /// How many certificates were ever revoked.
    revoked: u64,
    /// Above this number of revocations, the complete CRL is not signed at once.
    coalesced_above: u64,
    /// The previous complete CRL.
    complete: Base,
    previous: CrlHead,
    /// RFC 5280 section 3.3: an entry stays until one CRL was issued beyond the certificate's validity.
    pub(super) ended_after: Timestamp,
    /// The previous delta; the root has none.
    delta: Option<Previous>,
}

/// A complete CRL that deltas can add to.
#[derive(Clone, Copy)]
pub(super) struct Base {
    number: CrlNumber,
    /// The id of the last revocation in it.
    through: i64,
    /// Certificates that ended before this are not in it. For a base: nor in any complete CRL since.
    ended_after: Timestamp,
}

/// The previous delta.
struct Previous {
    base: Base,
    this_update: Timestamp,
}

impl Publication {
    /// Whether the complete CRL has to be published in the same transaction.
    pub(super) fn is_whole(&self) -> bool {
        self.issuer == Issuer::Root || self.revoked <= self.coalesced_above || self.needs_new_base()
    }

    /// Whether the limit for ended certificates moved back, because a clock that was ahead was corrected. Relying
    /// parties that took a complete CRL in between lack entries that are needed again, and a delta to an older base
    /// would not contain them.
    fn needs_new_base(&self) -> bool {
        self.delta.as_ref().is_some_and(|delta| self.ended_after < delta.base.ended_after)
    }

    /// The base of the delta.
    fn base(&self) -> Base {
        let Some(Previous { base, .. }) = self.delta else { return self.complete };
        if self.needs_new_base() {
            // The complete CRL with the same number, from the same transaction.
            Base { number: self.number, through: self.through, ended_after: self.ended_after }
        } else if self.through - base.through > DELTA_ENTRIES && self.complete.number > base.number {
            // Revocations are never removed, so the difference of ids is their count. A relying party that is up to
            // date has everything in that complete CRL already; any other downloads it.
            self.complete
        } else {
            base
        }
    }

    pub(super) fn head(&self, period: Period, previous_update: Option<Timestamp>) -> CrlHead {
        CrlHead {
            issuer: self.issuer,
            number: self.number,
            this_update: period.this_update,
            next_update: period.this_update.plus(period.lifetime),
            previous_update,
        }
    }
}

/// The next number is the time in seconds, or the previous number plus one if that is higher. A restored database does
/// not know the numbers that were used after the copy was made. Because of the clock, its next CRL has a higher number
/// than all of them, and relying parties accept it.
pub(super) async fn begin_publication(
    connection: &mut SqliteConnection,
    issuer: Issuer,
    period: Period,
    coalesced_above: u64,
) -> Result<Publication, StoreError> {
    let previous = head(connection, issuer, CrlKind::Complete).await?.ok_or(StoreError::NoAuthority)?;
    let row = sqlx::query(
        "UPDATE crl_sequences SET last_number = max(last_number + 1, ?2) WHERE issuer = ?1
         RETURNING last_number, complete_number, complete_to, complete_ended_after,
                   CASE issuer WHEN 'root' THEN (SELECT coalesce(max(id), 0) FROM revoked_authorities)
                               ELSE (SELECT coalesce(max(id), 0) FROM revocations) END AS through,
                   (SELECT count FROM tallies WHERE what = 'revoked') AS revoked",
    )
    .bind(issuer.as_str())
    .bind(period.this_update.unix())
    .fetch_optional(&mut *connection)
    .await?
    .ok_or(StoreError::NoAuthority)?;
    let number = records::number(&row, "last_number")?;
    note_number(connection, issuer, number).await?;
    let complete = Base {
        number: records::number(&row, "complete_number")?,
        through: row.try_get("complete_to")?,
        ended_after: records::time(&row, "complete_ended_after")?,
    };
    Ok(Publication {
        issuer,
        number,
        through: row.try_get("through")?,
        revoked: u64::try_from(row.try_get::<i64, _>("revoked")?).unwrap_or(0),
        coalesced_above,
        complete,
        ended_after: period.this_update.minus(period.lifetime).min(previous.this_update),
        previous,
        delta: previous_delta(connection, issuer).await?,
    })
}

async fn previous_delta(connection: &mut SqliteConnection, issuer: Issuer) -> Result<Option<Previous>, StoreError> {
    let query = sqlx::query("SELECT base, base_to, ended_after, this_update FROM deltas WHERE issuer = ?");
    let Some(row) = query.bind(issuer.as_str()).fetch_optional(connection).await? else { return Ok(None) };
    let base = Base {
        number: records::number(&row, "base")?,
        through: row.try_get("base_to")?,
        ended_after: records::time(&row, "ended_after")?,
    };
    Ok(Some(Previous { base, this_update: records::time(&row, "this_update")? }))
}

/// Records that the last number came with a new revocation.
pub(super) async fn note_revoking(connection: &mut SqliteConnection, issuer: Issuer) -> Result<(), StoreError> {
    let note = "UPDATE crl_sequences SET revoking_number = last_number WHERE issuer = ?";
    sqlx::query(note).bind(issuer.as_str()).execute(connection).await?;
    Ok(())
}

/// Records that this database has all revocations up to this number.
pub(super) async fn note_number(
    connection: &mut SqliteConnection,
    issuer: Issuer,
    number: CrlNumber,
) -> Result<(), StoreError> {
    // A new highest number increments the ordinal. One that is taken back gets the ordinal of the number before it.
    let query = sqlx::query(
        "INSERT INTO crl_numbers (issuer, number, ordinal)
         VALUES (?1, ?2,
                 coalesce((SELECT ordinal FROM crl_numbers WHERE issuer = ?1 AND number < ?2 ORDER BY number DESC LIMIT 1), 0)
                 + NOT EXISTS (SELECT 1 FROM crl_numbers WHERE issuer = ?1 AND number > ?2))
         ON CONFLICT DO NOTHING",
    );
    query.bind(issuer.as_str()).bind(number.get()).execute(connection).await?;
    Ok(())
}

pub(super) async fn put_complete(
    connection: &mut SqliteConnection,
    next: &Publication,
    period: Period,
    signer: &Arc<impl CrlSigner>,
) -> Result<CrlRecord, StoreError> {
    let complete = sign_complete(connection, next, period, signer).await?;
    put(connection, &complete, next.through).await?;
    Ok(complete.crl)
}

async fn sign_complete(
    connection: &mut SqliteConnection,
    next: &Publication,
    period: Period,
    signer: &Arc<impl CrlSigner>,
) -> Result<Complete, StoreError> {
    let Assembled { entries: revoked, paging } =
        pages::assemble(connection, next.issuer, next.through, next.ended_after).await?;
    let head = next.head(period, Some(next.previous.this_update));
    let draft = CrlDraft { number: head.number, this_update: head.this_update, next_update: head.next_update, revoked };
    let signer = Arc::clone(signer);
    let sign = move || {
        let list = signer.complete(draft)?;
        let contents = Contents::of(&list.der);
        Ok((list, contents))
    };
    let (list, contents) = apart(sign).await?;
    Ok(Complete::of(head, list, contents, paging, next.ended_after))
}

pub(super) async fn put_delta(
    connection: &mut SqliteConnection,
    next: &Publication,
    period: Period,
    signer: &Arc<impl CrlSigner>,
) -> Result<(), StoreError> {
    let base = next.base();
    let mut revoked = Vec::new();
    pages::gather(connection, next.issuer, base.through..next.through, next.ended_after, &mut revoked).await?;
    let head = next.head(period, next.delta.as_ref().map(|delta| delta.this_update));
    let draft = DeltaDraft {
        number: head.number,
        base: base.number,
        this_update: head.this_update,
        next_update: head.next_update,
        revoked,
    };
    let signer = Arc::clone(signer);
    let der = apart(move || signer.delta(&draft)).await?;
    insert_delta(connection, &CrlRecord { head, der }, base).await
}

/// Signing and hashing a CRL with a million entries takes more than 100 ms, too long for an async thread.
pub(super) async fn apart<T: Send + 'static>(
    sign: impl FnOnce() -> Result<T, IssuingError> + Send + 'static,
) -> Result<T, StoreError> {
    Ok(spawn_blocking(sign).await.map_err(|_| StoreError::Database(sqlx::Error::WorkerCrashed))??)
}

async fn head(connection: &mut SqliteConnection, issuer: Issuer, kind: CrlKind) -> Result<Option<CrlHead>, StoreError> {
    let sql = match kind {
        CrlKind::Complete => "SELECT number, this_update, next_update, previous_update FROM crls WHERE issuer = ?",
        CrlKind::Delta => "SELECT number, this_update, next_update, previous_update FROM deltas WHERE issuer = ?",
        CrlKind::Servers => {
            "SELECT number, this_update, next_update, previous_update FROM servers_lists WHERE issuer = ?"
        }
    };
    let row = sqlx::query(sql).bind(issuer.as_str()).fetch_optional(connection).await?;
    row.map(|row| records::crl_head(&row, issuer)).transpose()
}

pub(super) async fn newest(connection: &mut SqliteConnection, issuer: Issuer) -> Result<Newest, StoreError> {
    let row: Option<SqliteRow> = sqlx::query(
        "SELECT max(c.number, coalesce(d.number, 0)) AS newest, c.number AS complete,
                c.size AS complete_size, c.sha256 AS complete_sha256,
                d.number AS delta, d.size AS delta_size, d.sha256 AS delta_sha256,
                s.last_number, s.ahead_number, s.ahead_revoked
         FROM crls c JOIN crl_sequences s ON s.issuer = c.issuer LEFT JOIN deltas d ON d.issuer = c.issuer
         WHERE c.issuer = ?",
    )
    .bind(issuer.as_str())
    .fetch_optional(connection)
    .await?;
    let row = row.ok_or(StoreError::NoAuthority)?;
    let number = records::number(&row, "newest")?;
    let ahead = match row.try_get::<Option<i64>, _>("ahead_number")? {
        Some(_) => Some(Ahead {
            issuer,
            number: records::number(&row, "ahead_number")?,
            revoking: records::number(&row, "ahead_revoked")?,
        }),
        None => None,
    };
    let is_overtaken = records::number(&row, "last_number")? > number;
    let delta = match row.try_get::<Option<i64>, _>("delta")? {
        Some(_) => Some((records::number(&row, "delta")?, contents(&row, "delta_size", "delta_sha256")?)),
        None => None,
    };
    let complete_contents = contents(&row, "complete_size", "complete_sha256")?;
    Ok(Newest { number, complete: records::number(&row, "complete")?, complete_contents, delta, ahead, is_overtaken })
}

/// Whether the database has revocations that no CRL contains, because they were taken back.
pub(super) async fn lacks_revocations(connection: &mut SqliteConnection, issuer: Issuer) -> Result<bool, StoreError> {
    // The last published CRL contains everything, unless numbers were skipped since.
    if !newest(connection, issuer).await?.is_overtaken {
        return Ok(false);
    }
    let query = sqlx::query_scalar(
        "SELECT complete_to < CASE issuer WHEN 'root' THEN (SELECT coalesce(max(id), 0) FROM revoked_authorities)
                                          ELSE (SELECT coalesce(max(id), 0) FROM revocations) END
         FROM crl_sequences WHERE issuer = ?",
    );
    Ok(query.bind(issuer.as_str()).fetch_one(connection).await?)
}

fn contents(row: &SqliteRow, size: &'static str, sha256: &'static str) -> Result<Option<Contents>, StoreError> {
    let Some(length) = row.try_get::<Option<i64>, _>(size)? else { return Ok(None) };
    let length = u64::try_from(length).map_err(|error| StoreError::damaged(size, &error))?;
    Ok(Some(Contents { size: length, sha256: Fingerprint(records::octets(row, sha256)?) }))
}

/// The number of the issuer's current complete CRL.
async fn number(connection: &mut SqliteConnection, issuer: Issuer) -> Result<CrlNumber, StoreError> {
    Ok(head(connection, issuer, CrlKind::Complete).await?.ok_or(StoreError::NoAuthority)?.number)
}

/// The pages that the CRL was made of have to be those that are stored.
pub(super) async fn put(
    connection: &mut SqliteConnection,
    complete: &Complete,
    through: i64,
) -> Result<(), StoreError> {
    let crl = &complete.crl;
    pages::put(connection, complete).await?;
    sqlx::query(
        "INSERT INTO crl_sequences (issuer, last_number, complete_number, complete_to, complete_ended_after)
         VALUES (?1, ?2, ?2, ?3, ?4)
         ON CONFLICT (issuer) DO UPDATE SET last_number = max(last_number, excluded.last_number),
             complete_number = excluded.complete_number, complete_to = excluded.complete_to,
             complete_ended_after = excluded.complete_ended_after",
    )
    .bind(crl.head.issuer.as_str())
    .bind(crl.head.number.get())
    .bind(through)
    .bind(complete.ended_after.unix())
    .execute(&mut *connection)
    .await?;
    // Relying parties that take this CRL lack the certificates that ended before, even if the base has them.
    sqlx::query("UPDATE deltas SET ended_after = max(ended_after, ?) WHERE issuer = ?")
        .bind(complete.ended_after.unix())
        .bind(crl.head.issuer.as_str())
        .execute(&mut *connection)
        .await?;
    note_number(connection, crl.head.issuer, crl.head.number).await
}

/// The first delta. It is empty, and its base is the first complete CRL.
pub(super) async fn insert_first_delta(connection: &mut SqliteConnection, delta: &CrlRecord) -> Result<(), StoreError> {
    let base = Base { number: delta.head.number, through: 0, ended_after: Timestamp::MIN };
    insert_delta(connection, delta, base).await
}

async fn insert_delta(connection: &mut SqliteConnection, delta: &CrlRecord, base: Base) -> Result<(), StoreError> {
    // Hashed on this thread, because a delta is short.
    let contents = Contents::of(&delta.der);
    sqlx::query(
        "INSERT INTO deltas (issuer, number, base, base_to, ended_after, this_update, next_update, previous_update, der,
                             size, sha256)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, base = excluded.base,
             base_to = excluded.base_to, ended_after = excluded.ended_after, this_update = excluded.this_update,
             next_update = excluded.next_update, previous_update = excluded.previous_update, der = excluded.der,
             size = excluded.size, sha256 = excluded.sha256",
    )
    .bind(delta.head.issuer.as_str())
    .bind(delta.head.number.get())
    .bind(base.number.get())
    .bind(base.through)
    .bind(base.ended_after.unix())
    .bind(delta.head.this_update.unix())
    .bind(delta.head.next_update.unix())
    .bind(delta.head.previous_update.map(Timestamp::unix))
    .bind(&delta.der)
    .bind(i64::try_from(contents.size).map_err(|error| StoreError::damaged("size", &error))?)
    .bind(contents.sha256.0.as_slice())
    .execute(connection)
    .await?;
    Ok(())
}
