//! Strays: what this authority issued, but a restored database does not know. Certificates are added from their files;
//! revocations may be of certificates that are not known here.
//!
//! It never decides whether this authority issued a certificate; the caller has verified its signature.

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

/// A revocation of a certificate that is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StrayRevocation {
    id: i64,
    pub(crate) serial: Serial,
    pub(crate) revoked_at: Timestamp,
    pub(crate) reason: RevocationReason,
    /// It is in CRLs until then. The certificate's own end is not known, so this is the end of the issuing CA's.
    pub(crate) not_after: Timestamp,
}

impl Store {
    /// The revocation with this serial number, if the certificate is not known here.
    pub(crate) async fn stray_revocation(&self, serial: &Serial) -> Result<Option<StrayRevocation>, StoreError> {
        let query = sqlx::query(
            "SELECT id, serial, revoked_at, reason, not_after FROM revocations r
             WHERE serial = ? AND NOT EXISTS (SELECT 1 FROM certificates c WHERE c.serial = r.serial)",
        );
        query.bind(serial.magnitude()).fetch_optional(&self.reader).await?.as_ref().map(read).transpose()
    }

    /// The next page of these revocations, oldest first. An empty page is the end.
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

/// Records a certificate that is not known here. The time of issue is not known, so the start of its validity is used.
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
    // The CRL with its revocation was taken back before the key was known.
    match revocation(connection, &info.id.serial).await? {
        Some(Revocation::AlreadyRevoked { reason, .. }) if reason.is_compromise() => {
            compromise_key(connection, &info.id.serial, now).await
        }
        _ => Ok(()),
    }
}

/// Revokes a certificate of which only the serial number is known.
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
