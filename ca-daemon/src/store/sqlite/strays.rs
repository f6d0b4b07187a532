//! What this authority has issued and this database does not know, because it was restored from an older copy: certificates that
//! somebody brings along, and revocations of certificates that nobody has seen here.
//!
//! It never decides whether a certificate is one of ours; whoever hands one in has verified its signature.

use pki::{
    crl::{RevocationReason, RevokedEntry},
    issuing::IssuedCertificate,
    serial::Serial,
    time::Timestamp,
};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    Revocation, Store, StoreError, records,
    revocations::{insert, revocation},
    uncertifiable::compromise_key,
};
use crate::issuer::Issuer;

/// How many are read at a time.
const PAGE: i64 = 1_000;

/// A revocation of a certificate that is not known here otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StrayRevocation {
    id: i64,
    pub(crate) serial: Serial,
    pub(crate) revoked_at: Timestamp,
    pub(crate) reason: RevocationReason,
    /// Until then it is in CRLs: the end of the issuing CA's certificate, as that of its own is not known.
    pub(crate) not_after: Timestamp,
}

impl Store {
    /// The revocation of the certificate with this serial number, if that is not known here otherwise.
    pub(crate) async fn stray_revocation(&self, serial: &Serial) -> Result<Option<StrayRevocation>, StoreError> {
        let query = sqlx::query(
            "SELECT id, serial, revoked_at, reason, not_after FROM revocations r
             WHERE serial = ? AND NOT EXISTS (SELECT 1 FROM certificates c WHERE c.serial = r.serial)",
        );
        query.bind(serial.magnitude()).fetch_optional(&self.reader).await?.as_ref().map(read).transpose()
    }

    /// Some more of these revocations, the oldest first; an empty page is the end.
    pub(crate) async fn stray_revocations(
        &self,
        after: Option<&StrayRevocation>,
    ) -> Result<Vec<StrayRevocation>, StoreError> {
        let query = sqlx::query(
            "SELECT id, serial, revoked_at, reason, not_after FROM revocations r
             WHERE id > ? AND NOT EXISTS (SELECT 1 FROM certificates c WHERE c.serial = r.serial) ORDER BY id LIMIT ?",
        );
        let query = query.bind(after.map_or(0, |stray| stray.id)).bind(PAGE);
        query.fetch_all(&self.reader).await?.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<StrayRevocation, StoreError> {
    Ok(StrayRevocation {
        id: row.try_get("id")?,
        serial: records::serial(row)?,
        revoked_at: records::time(row, "revoked_at")?,
        reason: records::reason(row)?,
        not_after: records::time(row, "not_after")?,
    })
}

/// Records a certificate that is not known here otherwise. When it was issued is not known; its validity begins about then.
pub(super) async fn adopt(
    connection: &mut SqliteConnection,
    stray: &IssuedCertificate,
    now: Timestamp,
) -> Result<(), StoreError> {
    let info = &stray.info;
    sqlx::query(
        "INSERT INTO certificates
             (serial, common_name, profile, spki_sha256, not_before, not_after, issued_at, der, adopted_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?7, ?8) ON CONFLICT (serial) DO NOTHING",
    )
    .bind(info.id.serial.magnitude())
    .bind(info.display_name())
    .bind(stray.profile.as_str())
    .bind(info.spki_sha256.as_slice())
    .bind(info.validity.not_before.unix())
    .bind(info.validity.not_after.unix())
    .bind(stray.der.as_ref())
    .bind(now.unix())
    .execute(&mut *connection)
    .await?;
    // Its key was not known when a list with its revocation was taken back.
    match revocation(connection, &info.id.serial).await? {
        Some(Revocation::AlreadyRevoked { reason, .. }) if reason.is_compromise() => {
            compromise_key(connection, &info.id.serial, now).await
        }
        _ => Ok(()),
    }
}

/// Revokes a certificate of which the serial number is all that is known.
pub(super) async fn revoke_unknown(
    connection: &mut SqliteConnection,
    entry: &RevokedEntry,
    until: Timestamp,
) -> Result<Revocation, StoreError> {
    if insert(connection, Issuer::Issuing, entry, until).await? {
        return Ok(Revocation::New);
    }
    Ok(revocation(connection, &entry.serial).await?.ok_or(sqlx::Error::RowNotFound)?)
}
