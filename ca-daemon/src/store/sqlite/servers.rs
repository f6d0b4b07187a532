//! The list of servers: a CRL that covers server certificates only. It is signed with each publication that revokes a
//! server, and with each timed publication of the issuing CA's CRL.
//!
//! It never decides which certificates are servers'. A trigger records each revocation, except of certificates that are
//! known to be clients'.

use std::sync::Arc;

use pki::{
    crl::{CrlDraft, RevokedEntry},
    time::Timestamp,
};
use sqlx::SqliteConnection;

use super::{
    CrlHead, CrlRecord, StoreError,
    crls::{CrlSigner, Period, Publication, apart},
    records,
};
use crate::issuer::Issuer;

/// The issuer's current list.
pub(super) async fn get(connection: &mut SqliteConnection, issuer: Issuer) -> Result<Option<CrlRecord>, StoreError> {
    let query = sqlx::query("SELECT * FROM servers_lists WHERE issuer = ?").bind(issuer.as_str());
    query.fetch_optional(connection).await?.map(|row| records::crl(&row, issuer)).transpose()
}

/// Signs the next list, if a server was revoked that the current one lacks.
pub(super) async fn put_if_revoked(
    connection: &mut SqliteConnection,
    next: &Publication,
    period: Period,
    signer: &Arc<impl CrlSigner>,
) -> Result<(), StoreError> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM revoked_servers
                        WHERE id > coalesce((SELECT through FROM servers_lists WHERE issuer = ?), -1))",
    );
    if query.bind(next.issuer.as_str()).fetch_one(&mut *connection).await? {
        put(connection, next, period, signer).await?;
    }
    Ok(())
}

/// Signs the next list.
pub(super) async fn put(
    connection: &mut SqliteConnection,
    next: &Publication,
    period: Period,
    signer: &Arc<impl CrlSigner>,
) -> Result<(), StoreError> {
    let previous = get(connection, next.issuer).await?.map(|list| list.head.this_update);
    // RFC 5280 section 3.3: an entry stays until one list was issued beyond the certificate's validity. This list is
    // not part of every publication, so the date of its own predecessor counts.
    let ended_after = next.ended_after.min(previous.unwrap_or(Timestamp::MIN));
    let rows = sqlx::query(
        "SELECT r.serial, r.revoked_at, r.reason FROM revoked_servers s JOIN revocations r ON r.id = s.id
         WHERE s.id <= ? AND r.not_after >= ? ORDER BY s.id",
    )
    .bind(next.through)
    .bind(ended_after.unix())
    .fetch_all(&mut *connection)
    .await?;
    let entry = |row| -> Result<RevokedEntry, StoreError> {
        let revoked_at = records::time(row, "revoked_at")?;
        Ok(RevokedEntry { serial: records::serial(row)?, revoked_at, reason: records::reason(row)? })
    };
    let revoked = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let head = next.head(period, previous);
    let draft = CrlDraft { number: head.number, this_update: head.this_update, next_update: head.next_update, revoked };
    let signer = Arc::clone(signer);
    let der = apart(move || signer.servers(&draft)).await?;
    insert(connection, &CrlRecord { head, der }, next.through).await
}

/// `through` is the id of the last revocation that was considered for it.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    CrlRecord { head, der }: &CrlRecord,
    through: i64,
) -> Result<(), StoreError> {
    let CrlHead { issuer, number, this_update, next_update, previous_update } = head;
    sqlx::query(
        "INSERT INTO servers_lists (issuer, number, through, this_update, next_update, previous_update, der)
         VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, through = excluded.through,
             this_update = excluded.this_update, next_update = excluded.next_update,
             previous_update = excluded.previous_update, der = excluded.der",
    )
    .bind(issuer.as_str())
    .bind(number.get())
    .bind(through)
    .bind(this_update.unix())
    .bind(next_update.unix())
    .bind(previous_update.map(Timestamp::unix))
    .bind(der)
    .execute(connection)
    .await?;
    Ok(())
}
