//! The CRLs that publish revocations, changed together with them or not at all.
//!
//! It never signs: the signature is made by the [`CrlSigner`] that the caller hands in, inside of the transaction, so that
//! no revocation exists without a CRL, complete or delta, that carries it.

use std::{sync::Arc, time::Duration};

use pki::{
    certificate::Fingerprint,
    crl::{CrlDraft, CrlNumber, DeltaDraft, EncodedEntries, SignedCrl},
    issuing::{CertificateAuthority, IssuingError},
    time::Timestamp,
};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use tokio::task::spawn_blocking;

use super::{
    Ahead, Contents, CrlHead, CrlRecord, Newest, Store, StoreError,
    pages::{self, Assembled, Complete},
    records,
};
use crate::settings::{CrlKind, Issuer};

/// With more revocations than this, a revocation is published in a delta at once, and in the complete CRL a moment later
/// together with what comes after it: signing all of them again for each would leave time for nothing else.
const COALESCED_ABOVE: u64 = 10_000;
/// A delta with more entries than this moves on to a later base.
const DELTA_ENTRIES: i64 = 1_000;

/// Signs what is published.
pub(crate) trait CrlSigner: Send + Sync + 'static {
    fn complete(&self, draft: CrlDraft<EncodedEntries>) -> Result<SignedCrl, IssuingError>;
    fn delta(&self, draft: &DeltaDraft) -> Result<Vec<u8>, IssuingError>;
}

impl CrlSigner for CertificateAuthority {
    fn complete(&self, draft: CrlDraft<EncodedEntries>) -> Result<SignedCrl, IssuingError> {
        self.sign_encoded_crl(draft)
    }

    fn delta(&self, draft: &DeltaDraft) -> Result<Vec<u8>, IssuingError> {
        self.sign_delta(draft)
    }
}

/// When something is published, and for how long it is good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Period {
    pub(crate) this_update: Timestamp,
    pub(crate) lifetime: Duration,
}

impl Store {
    /// Signs and publishes the issuer's next CRL, and its delta; what is revoked stays the same. Nobody who wants to revoke
    /// meanwhile waits for a large one.
    pub(crate) async fn publish(
        &self,
        issuer: Issuer,
        period: Period,
        signer: Arc<impl CrlSigner>,
    ) -> Result<CrlRecord, StoreError> {
        let mut tx = self.begin().await?;
        let next = begin_publication(&mut tx, issuer, period).await?;
        if issuer == Issuer::Issuing {
            put_delta(&mut tx, &next, period, &signer).await?;
        }
        if next.is_whole() {
            let crl = put_complete(&mut tx, &next, period, &signer).await?;
            tx.commit().await?;
            return Ok(crl);
        }
        // The delta with its number is out, and nothing else will ever be given it.
        tx.commit().await?;
        loop {
            let mut snapshot = self.reader.begin().await?;
            let before = number(&mut snapshot, issuer).await?;
            let complete = sign_complete(&mut snapshot, &next, period, &signer).await?;
            snapshot.rollback().await?;
            let mut tx = self.begin().await?;
            let current = number(&mut tx, issuer).await?;
            if current == before && current < next.number {
                put(&mut tx, &complete, next.through).await?;
                tx.commit().await?;
            } else if current < next.number {
                // Another process has published, and the pages may be others than those that this one was made of.
                continue;
            }
            return Ok(complete.crl);
        }
    }

    /// The issuer's current complete CRL.
    pub(crate) async fn crl(&self, issuer: Issuer) -> Result<CrlRecord, StoreError> {
        self.signed(issuer, CrlKind::Complete).await?.ok_or(StoreError::NoAuthority)
    }

    /// The issuer's current CRL of this kind; a delta is missing until something was published that has one.
    pub(crate) async fn signed(&self, issuer: Issuer, kind: CrlKind) -> Result<Option<CrlRecord>, StoreError> {
        match kind {
            CrlKind::Complete => pages::get(&mut *self.reader.begin().await?, issuer).await,
            CrlKind::Delta => {
                let query = sqlx::query("SELECT * FROM deltas WHERE issuer = ?").bind(issuer.as_str());
                let row = query.fetch_optional(&self.reader).await?;
                row.map(|row| Ok(CrlRecord { head: records::crl_head(&row, issuer)?, der: row.try_get("der")? }))
                    .transpose()
            }
        }
    }

    /// The number and the dates of the issuer's current complete CRL.
    pub(crate) async fn crl_head(&self, issuer: Issuer) -> Result<CrlHead, StoreError> {
        self.head(issuer, CrlKind::Complete).await?.ok_or(StoreError::NoAuthority)
    }

    /// As [`Self::signed`], without reading it.
    pub(crate) async fn head(&self, issuer: Issuer, kind: CrlKind) -> Result<Option<CrlHead>, StoreError> {
        head(&mut *self.reader.acquire().await?, issuer, kind).await
    }

    /// The newest number that can be fetched, and what is behind it or ahead of it.
    pub(crate) async fn newest(&self, issuer: Issuer) -> Result<Newest, StoreError> {
        newest(&mut *self.reader.acquire().await?, issuer).await
    }

    /// Whether every number that will be given is higher than this one already.
    pub(crate) async fn is_passed(&self, issuer: Issuer, number: CrlNumber) -> Result<bool, StoreError> {
        let query = sqlx::query_scalar("SELECT last_number >= ? FROM crl_sequences WHERE issuer = ?");
        Ok(query.bind(number.get()).bind(issuer.as_str()).fetch_one(&self.reader).await?)
    }

    /// Remembers that a relying party enforces a number that was never given. Nothing as low will be published again.
    /// Whether it was higher than everything known before.
    pub(crate) async fn raise(&self, issuer: Issuer, ahead: &Ahead) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let raised = sqlx::query(
            "UPDATE crl_sequences SET last_number = ?2, ahead_number = ?2, ahead_by = ?3, ahead_at = ?4
             WHERE issuer = ?1 AND last_number < ?2",
        )
        .bind(issuer.as_str())
        .bind(ahead.number.get())
        .bind(&ahead.by)
        .bind(ahead.at.unix())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(raised.rows_affected() == 1)
    }
}

/// The number that is given next, and what has to be known to publish under it.
pub(super) struct Publication {
    issuer: Issuer,
    pub(super) number: CrlNumber,
    /// The id of the last revocation that it carries.
    through: i64,
    /// How many certificates were ever revoked.
    revoked: u64,
    /// The complete CRL before it, and the id of the last revocation in that.
    complete: (CrlNumber, i64),
    previous: CrlHead,
}

impl Publication {
    /// Whether the complete CRL belongs into the same transaction.
    pub(super) fn is_whole(&self) -> bool {
        self.issuer == Issuer::Root || self.revoked <= COALESCED_ABOVE
    }

    fn head(&self, period: Period, previous_update: Option<Timestamp>) -> CrlHead {
        CrlHead {
            issuer: self.issuer,
            number: self.number,
            this_update: period.this_update,
            next_update: period.this_update.plus(period.lifetime),
            previous_update,
        }
    }

    /// RFC 5280 section 3.3: an entry stays until one CRL was issued beyond the certificate's validity.
    fn ended_after(&self, period: Period) -> Timestamp {
        period.this_update.minus(period.lifetime).min(self.previous.this_update)
    }
}

/// The next number is the time in seconds, or the next higher where more than one is given in a second or the clock went
/// back. A database that was restored has forgotten numbers that relying parties have seen with other contents; its next
/// CRL overtakes them all, and is believed.
pub(super) async fn begin_publication(
    connection: &mut SqliteConnection,
    issuer: Issuer,
    period: Period,
) -> Result<Publication, StoreError> {
    let previous = head(connection, issuer, CrlKind::Complete).await?.ok_or(StoreError::NoAuthority)?;
    let row = sqlx::query(
        "UPDATE crl_sequences SET last_number = max(last_number + 1, ?2) WHERE issuer = ?1
         RETURNING last_number, complete_number, complete_to,
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
    Ok(Publication {
        issuer,
        number,
        through: row.try_get("through")?,
        revoked: u64::try_from(row.try_get::<i64, _>("revoked")?).unwrap_or(0),
        complete: (records::number(&row, "complete_number")?, row.try_get("complete_to")?),
        previous,
    })
}

/// Everything that was revoked up to this number is known here.
async fn note_number(connection: &mut SqliteConnection, issuer: Issuer, number: CrlNumber) -> Result<(), StoreError> {
    let query = sqlx::query("INSERT INTO crl_numbers (issuer, number) VALUES (?, ?) ON CONFLICT DO NOTHING");
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
        pages::assemble(connection, next.issuer, next.through, next.ended_after(period)).await?;
    let head = next.head(period, Some(next.previous.this_update));
    let draft = CrlDraft { number: head.number, this_update: head.this_update, next_update: head.next_update, revoked };
    let signer = Arc::clone(signer);
    let sign = move || {
        let list = signer.complete(draft)?;
        let contents = Contents::of(&list.der);
        Ok((list, contents))
    };
    let (list, contents) = apart(sign).await?;
    Ok(Complete::of(head, list, contents, paging))
}

pub(super) async fn put_delta(
    connection: &mut SqliteConnection,
    next: &Publication,
    period: Period,
    signer: &Arc<impl CrlSigner>,
) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT base, base_to, this_update FROM deltas WHERE issuer = ?")
        .bind(next.issuer.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let (base, previous_update) = match row {
        None => (next.complete, None),
        Some(row) => {
            ((records::number(&row, "base")?, row.try_get("base_to")?), Some(records::time(&row, "this_update")?))
        }
    };
    let (mut base, mut base_to) = base;
    let ended_after = next.ended_after(period);
    // Revocations are never removed, so the difference of their ids is how many there are.
    if next.through - base_to > DELTA_ENTRIES && next.complete.0 > base {
        // Whoever has followed so far has everything in that complete CRL, and does not notice; whoever has not fetches it.
        (base, base_to) = next.complete;
    }
    let mut revoked = Vec::new();
    pages::gather(connection, next.issuer, base_to..next.through, ended_after, &mut revoked).await?;
    let head = next.head(period, previous_update);
    let draft =
        DeltaDraft { number: head.number, base, this_update: head.this_update, next_update: head.next_update, revoked };
    let signer = Arc::clone(signer);
    let der = apart(move || signer.delta(&draft)).await?;
    insert_delta(connection, &CrlRecord { head, der }, base, base_to).await
}

/// A CRL with a million entries takes a tenth of a second to sign, and some more to digest, too long for a thread that others wait for.
async fn apart<T: Send + 'static>(
    sign: impl FnOnce() -> Result<T, IssuingError> + Send + 'static,
) -> Result<T, StoreError> {
    Ok(spawn_blocking(sign).await.map_err(|_| StoreError::Database(sqlx::Error::WorkerCrashed))??)
}

async fn head(connection: &mut SqliteConnection, issuer: Issuer, kind: CrlKind) -> Result<Option<CrlHead>, StoreError> {
    let sql = match kind {
        CrlKind::Complete => "SELECT number, this_update, next_update, previous_update FROM crls WHERE issuer = ?",
        CrlKind::Delta => "SELECT number, this_update, next_update, previous_update FROM deltas WHERE issuer = ?",
    };
    let row = sqlx::query(sql).bind(issuer.as_str()).fetch_optional(connection).await?;
    row.map(|row| records::crl_head(&row, issuer)).transpose()
}

pub(super) async fn newest(connection: &mut SqliteConnection, issuer: Issuer) -> Result<Newest, StoreError> {
    let row: Option<SqliteRow> = sqlx::query(
        "SELECT max(c.number, coalesce(d.number, 0)) AS newest, c.number AS complete,
                c.size AS complete_size, c.sha256 AS complete_sha256,
                d.number AS delta, d.size AS delta_size, d.sha256 AS delta_sha256,
                s.last_number, s.ahead_number, s.ahead_by, s.ahead_at,
                EXISTS (SELECT 1 FROM crl_numbers n
                        WHERE n.issuer = c.issuer AND n.number = s.ahead_number) AS is_known
         FROM crls c JOIN crl_sequences s ON s.issuer = c.issuer LEFT JOIN deltas d ON d.issuer = c.issuer
         WHERE c.issuer = ?",
    )
    .bind(issuer.as_str())
    .fetch_optional(connection)
    .await?;
    let row = row.ok_or(StoreError::NoAuthority)?;
    let number = records::number(&row, "newest")?;
    let is_known: bool = row.try_get("is_known")?;
    let ahead = match row.try_get::<Option<i64>, _>("ahead_number")? {
        // Once something higher was published, everybody follows again.
        Some(ahead) if ahead > number.get() && !is_known => Some(Ahead {
            number: records::number(&row, "ahead_number")?,
            by: row.try_get("ahead_by")?,
            at: records::time(&row, "ahead_at")?,
        }),
        _ => None,
    };
    let is_overtaken = records::number(&row, "last_number")? > number;
    let delta = match row.try_get::<Option<i64>, _>("delta")? {
        Some(_) => Some((records::number(&row, "delta")?, contents(&row, "delta_size", "delta_sha256")?)),
        None => None,
    };
    let complete_contents = contents(&row, "complete_size", "complete_sha256")?;
    Ok(Newest { number, complete: records::number(&row, "complete")?, complete_contents, delta, ahead, is_overtaken })
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

/// The pages that this one is made of have to be those that are stored.
pub(super) async fn put(
    connection: &mut SqliteConnection,
    complete: &Complete,
    through: i64,
) -> Result<(), StoreError> {
    let crl = &complete.crl;
    pages::put(connection, complete).await?;
    sqlx::query(
        "INSERT INTO crl_sequences (issuer, last_number, complete_number, complete_to) VALUES (?1, ?2, ?2, ?3)
         ON CONFLICT (issuer) DO UPDATE SET last_number = max(last_number, excluded.last_number),
             complete_number = excluded.complete_number, complete_to = excluded.complete_to",
    )
    .bind(crl.head.issuer.as_str())
    .bind(crl.head.number.get())
    .bind(through)
    .execute(&mut *connection)
    .await?;
    note_number(connection, crl.head.issuer, crl.head.number).await
}

/// The base has to be the number of a complete CRL, and `base_to` the id of the last revocation in it.
pub(super) async fn insert_delta(
    connection: &mut SqliteConnection,
    delta: &CrlRecord,
    base: CrlNumber,
    base_to: i64,
) -> Result<(), StoreError> {
    // It is short.
    let contents = Contents::of(&delta.der);
    sqlx::query(
        "INSERT INTO deltas (issuer, number, base, base_to, this_update, next_update, previous_update, der,
                             size, sha256)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, base = excluded.base,
             base_to = excluded.base_to, this_update = excluded.this_update, next_update = excluded.next_update,
             previous_update = excluded.previous_update, der = excluded.der, size = excluded.size, sha256 = excluded.sha256",
    )
    .bind(delta.head.issuer.as_str())
    .bind(delta.head.number.get())
    .bind(base.get())
    .bind(base_to)
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
