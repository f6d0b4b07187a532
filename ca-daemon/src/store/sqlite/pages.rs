//! Complete CRLs in pages. The encoded entries of all but the latest revocations are stored in DER. The next CRL is
//! made of these pages and of the entries since, and only the new entries are stored with it.
//!
//! It never decides what is revoked. A page matches its rows: rows are never changed, removed or added in its range.
//! Each page records which ends of validity change its content.

use std::{collections::HashMap, ops::Range};

use futures_util::TryStreamExt as _;
use pki::{
    crl::{EncodedEntries, RevokedEntry, SignedCrl},
    time::Timestamp,
};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Contents, CrlHead, CrlRecord, StoreError, records};
use crate::issuer::Issuer;

/// How many revocations are in a page. A migration that empties the table of pages is needed to change it.
pub(super) const PAGE: i64 = 1024;

/// The entries of a complete CRL, and which of them are in pages.
pub(super) struct Assembled {
    pub(super) entries: EncodedEntries,
    pub(super) paging: Paging,
}

/// How many bytes of the entries are in pages. The pages come first.
pub(super) struct Paging {
    pages: i64,
    octets: usize,
    /// Pages that are not stored yet, or are stored with other entries.
    fresh: Vec<Fresh>,
}

struct Fresh {
    page: i64,
    ends: Ends,
    octets: Range<usize>,
}

/// When certificates of a page end. The page is valid while none that it contains has ended, and all that were left out
/// have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    first: Option<Timestamp>,
    last_ended: Option<Timestamp>,
}

impl Ends {
    fn are_those_of(self, ended_after: Timestamp) -> bool {
        self.first.is_none_or(|first| first >= ended_after) && self.last_ended.is_none_or(|last| last < ended_after)
    }
}

/// A signed complete CRL to be stored.
pub(super) struct Complete {
    pub(super) crl: CrlRecord,
    contents: Contents,
    /// The offset of its entries.
    first: usize,
    paging: Paging,
    /// Certificates that ended before this are not in it.
    pub(super) ended_after: Timestamp,
}

impl Complete {
    /// A list that was signed with entries that are paged like this.
    pub(super) fn of(
        head: CrlHead,
        signed: SignedCrl,
        contents: Contents,
        paging: Paging,
        ended_after: Timestamp,
    ) -> Self {
        let SignedCrl { der, entries } = signed;
        Self { crl: CrlRecord { head, der }, contents, first: entries.start, paging, ended_after }
    }

    /// The first complete CRL. It is short, has no pages, and leaves nothing out.
    pub(super) fn whole(crl: CrlRecord) -> Self {
        let contents = Contents::of(&crl.der);
        let paging = Paging { pages: 0, octets: 0, fresh: Vec::new() };
        Self { crl, contents, first: 0, paging, ended_after: Timestamp::MIN }
    }
}

/// All entries up to the revocation with this id, except of certificates that have ended; from pages where they exist.
pub(super) async fn assemble(
    connection: &mut SqliteConnection,
    issuer: Issuer,
    through: i64,
    ended_after: Timestamp,
) -> Result<Assembled, StoreError> {
    let pages = through / PAGE;
    let good = stored(connection, issuer, ended_after).await?;
    let mut entries = EncodedEntries::with_capacity(good.values().sum());
    let mut fresh = Vec::new();
    let mut page = 0;
    while page < pages {
        let end = (page..pages).find(|page| !good.contains_key(page)).unwrap_or(pages);
        if end > page {
            read(connection, issuer, page..end, |der| entries.push_encoded(der)).await?;
            page = end;
            continue;
        }
        let start = entries.as_der().len();
        let ends = gather(connection, issuer, page * PAGE..(page + 1) * PAGE, ended_after, &mut entries).await?;
        fresh.push(Fresh { page, ends, octets: start..entries.as_der().len() });
        page += 1;
    }
    let octets = entries.as_der().len();
    gather(connection, issuer, pages * PAGE..through, ended_after, &mut entries).await?;
    Ok(Assembled { entries, paging: Paging { pages, octets, fresh } })
}

/// The pages that are valid, and the length of each in bytes.
async fn stored(
    connection: &mut SqliteConnection,
    issuer: Issuer,
    ended_after: Timestamp,
) -> Result<HashMap<i64, usize>, StoreError> {
    let sql = "SELECT page, first_end, last_ended, length(der) AS octets FROM crl_pages WHERE issuer = ?";
    let mut rows = sqlx::query(sql).bind(issuer.as_str()).fetch(connection);
    let mut good = HashMap::new();
    while let Some(row) = rows.try_next().await? {
        let ends = Ends {
            first: records::optional_time(&row, "first_end")?,
            last_ended: records::optional_time(&row, "last_ended")?,
        };
        if ends.are_those_of(ended_after) {
            good.insert(row.try_get("page")?, octets(&row, "octets")?);
        }
    }
    Ok(good)
}

async fn read(
    connection: &mut SqliteConnection,
    issuer: Issuer,
    pages: Range<i64>,
    mut take: impl FnMut(&[u8]),
) -> Result<(), StoreError> {
    let sql = "SELECT page, der FROM crl_pages WHERE issuer = ? AND page >= ? AND page < ? ORDER BY page";
    let mut rows = sqlx::query(sql).bind(issuer.as_str()).bind(pages.start).bind(pages.end).fetch(connection);
    let mut next = pages.start;
    while let Some(row) = rows.try_next().await? {
        if row.try_get::<i64, _>("page")? != next {
            break;
        }
        take(row.try_get("der")?);
        next += 1;
    }
    if next == pages.end { Ok(()) } else { Err(StoreError::damaged("page", &format!("there is no page {next}"))) }
}

/// Reads the revocations with ids above `ids.start`, up to and including `ids.end`, except of certificates that have
/// ended.
pub(super) async fn gather(
    connection: &mut SqliteConnection,
    issuer: Issuer,
    ids: Range<i64>,
    ended_after: Timestamp,
    into: &mut impl Extend<RevokedEntry>,
) -> Result<Ends, StoreError> {
    let sql = match issuer {
        Issuer::Root => {
            "SELECT serial, revoked_at, reason, not_after FROM revoked_authorities WHERE id > ? AND id <= ? ORDER BY id"
        }
        Issuer::Issuing => {
            "SELECT serial, revoked_at, reason, not_after FROM revocations WHERE id > ? AND id <= ? ORDER BY id"
        }
    };
    let mut rows = sqlx::query(sql).bind(ids.start).bind(ids.end).fetch(connection);
    let mut ends = Ends::default();
    while let Some(row) = rows.try_next().await? {
        let not_after = records::time(&row, "not_after")?;
        if not_after < ended_after {
            ends.last_ended = ends.last_ended.max(Some(not_after));
            continue;
        }
        ends.first = Some(ends.first.map_or(not_after, |first| first.min(not_after)));
        into.extend([RevokedEntry {
            serial: records::serial(&row)?,
            revoked_at: records::time(&row, "revoked_at")?,
            reason: records::reason(&row)?,
        }]);
    }
    Ok(ends)
}

/// A trigger of the table refuses a number that is not higher than the previous one.
pub(super) async fn put(connection: &mut SqliteConnection, complete: &Complete) -> Result<(), StoreError> {
    let Complete { crl, contents, first, paging, .. } = complete;
    let (before, rest) = crl.der.split_at(*first);
    let (paged, after) = rest.split_at(paging.octets);
    sqlx::query(
        "INSERT INTO crls (issuer, number, this_update, next_update, previous_update, around, pages, pages_at, size, sha256)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, this_update = excluded.this_update,
             next_update = excluded.next_update, previous_update = excluded.previous_update, around = excluded.around,
             pages = excluded.pages, pages_at = excluded.pages_at, size = excluded.size, sha256 = excluded.sha256",
    )
    .bind(crl.head.issuer.as_str())
    .bind(crl.head.number.get())
    .bind(crl.head.this_update.unix())
    .bind(crl.head.next_update.unix())
    .bind(crl.head.previous_update.map(Timestamp::unix))
    .bind([before, after].concat())
    .bind(paging.pages)
    .bind(i64::try_from(before.len()).map_err(|error| StoreError::damaged("pages_at", &error))?)
    .bind(i64::try_from(contents.size).map_err(|error| StoreError::damaged("size", &error))?)
    .bind(contents.sha256.0.as_slice())
    .execute(&mut *connection)
    .await?;
    for Fresh { page, ends, octets } in &paging.fresh {
        sqlx::query(
            "INSERT INTO crl_pages (issuer, page, first_end, last_ended, der) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (issuer, page) DO UPDATE SET first_end = excluded.first_end, last_ended = excluded.last_ended,
                 der = excluded.der",
        )
        .bind(crl.head.issuer.as_str())
        .bind(page)
        .bind(ends.first.map(Timestamp::unix))
        .bind(ends.last_ended.map(Timestamp::unix))
        .bind(&paged[octets.clone()])
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The issuer's current complete CRL, assembled. The caller reads in one transaction.
pub(super) async fn get(connection: &mut SqliteConnection, issuer: Issuer) -> Result<Option<CrlRecord>, StoreError> {
    let row = sqlx::query(
        "SELECT *, (SELECT coalesce(sum(length(p.der)), 0) FROM crl_pages p WHERE p.issuer = c.issuer AND p.page < c.pages) AS paged
         FROM crls c WHERE issuer = ?",
    )
    .bind(issuer.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let head = records::crl_head(&row, issuer)?;
    let around: &[u8] = row.try_get("around")?;
    let before = around.split_at_checked(octets(&row, "pages_at")?);
    let (before, after) = before.ok_or_else(|| StoreError::damaged("pages_at", &"it is beyond the end"))?;
    let mut der = Vec::with_capacity(around.len() + octets(&row, "paged")?);
    der.extend_from_slice(before);
    read(connection, issuer, 0..row.try_get("pages")?, |page| der.extend_from_slice(page)).await?;
    der.extend_from_slice(after);
    Ok(Some(CrlRecord { head, der }))
}

fn octets(row: &SqliteRow, column: &'static str) -> Result<usize, StoreError> {
    usize::try_from(row.try_get::<i64, _>(column)?).map_err(|error| StoreError::damaged(column, &error))
}
