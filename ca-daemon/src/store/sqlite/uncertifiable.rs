//! What is never certified, regardless of tokens and orders: public keys that were revoked as compromised, and anything
//! if the issuing CA is revoked.
//!
//! It never forgets a key: triggers record it with the revocation.

use std::collections::HashMap;

use pki::{crl::RevocationReason, serial::Serial, time::Timestamp};
use sqlx::{Row as _, SqliteConnection};

use super::{Store, StoreError, records};

/// Why a certificate is not issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Uncertifiable {
    /// Relying parties refuse everything that a revoked CA issued.
    #[error(transparent)]
    Issuer(#[from] IssuerRevocation),
    /// The private key may be known to an attacker.
    #[error(
        "the public key was revoked for compromise at {at} and is never certified again; enroll with a new key \
         (api-client makes one: enroll --force)"
    )]
    Key { at: Timestamp },
}

/// When the issuing CA was revoked, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the issuing CA of this authority was revoked at {at} ({reason}), so everything that it issued is refused; found \
     another authority: ca-daemon init --dir DIR"
)]
pub(crate) struct IssuerRevocation {
    pub(crate) at: Timestamp,
    pub(crate) reason: RevocationReason,
}

impl Store {
    /// What prevents a certificate for the key with this SHA-256.
    pub(crate) async fn uncertifiable(&self, key: [u8; 32]) -> Result<Option<Uncertifiable>, StoreError> {
        let obstacles = Obstacles::read(&mut *self.reader.acquire().await?, [key]).await?;
        Ok(obstacles.check(&key).err())
    }

    /// Serial numbers and names of valid certificates whose key is compromised by a revocation of one of `serials`: at
    /// most `limit`, oldest first. Scans the index of names.
    pub(crate) async fn valid_with_keys_of(
        &self,
        serials: &[Serial],
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Serial, String)>, StoreError> {
        // The index of names contains a part of each key.
        let query = sqlx::query(
            "SELECT c.serial, c.common_name FROM certificates AS c INDEXED BY certificates_by_name
             WHERE c.common_name >= ''
               AND substr(c.spki_sha256, 1, 8) IN
                   (SELECT substr(k.spki_sha256, 1, 8) FROM json_each(?1) AS asked
                    CROSS JOIN certificates AS k ON k.serial = unhex(asked.value))
               AND c.spki_sha256 IN (SELECT spki_sha256 FROM compromised_keys)
               AND c.not_after >= ?2
               AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)
             ORDER BY c.id LIMIT ?3",
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows =
            query.bind(records::serials_to_json(serials)).bind(now.unix()).bind(limit).fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok((records::serial(row)?, row.try_get("common_name")?))).collect()
    }

    /// The revocation of the issuing CA, if it is revoked. There is only one issuing CA.
    pub(crate) async fn issuer_revocation(&self) -> Result<Option<IssuerRevocation>, StoreError> {
        issuer_revocation(&mut *self.reader.acquire().await?).await
    }
}

/// What prevents certificates for a set of keys.
pub(super) struct Obstacles {
    issuer: Option<IssuerRevocation>,
    /// The compromised keys among them, and since when.
    keys: HashMap<[u8; 32], Timestamp>,
}

impl Obstacles {
    pub(super) async fn read(
        connection: &mut SqliteConnection,
        keys: impl IntoIterator<Item = [u8; 32]>,
    ) -> Result<Self, StoreError> {
        let asked: Vec<String> = keys.into_iter().map(|key| records::hex(&key)).collect();
        let query = "SELECT spki_sha256, at FROM compromised_keys
                     WHERE spki_sha256 IN (SELECT unhex(value) FROM json_each(?))";
        let rows = sqlx::query(query).bind(records::to_json(&asked)).fetch_all(&mut *connection).await?;
        let keys = rows.iter().map(|row| Ok((records::octets(row, "spki_sha256")?, records::time(row, "at")?)));
        let keys = keys.collect::<Result<_, StoreError>>()?;
        Ok(Self { issuer: issuer_revocation(connection).await?, keys })
    }

    pub(super) fn check(&self, key: &[u8; 32]) -> Result<(), Uncertifiable> {
        if let Some(revocation) = self.issuer {
            return Err(revocation.into());
        }
        self.keys.get(key).map_or(Ok(()), |&at| Err(Uncertifiable::Key { at }))
    }
}

pub(super) async fn issuer_revocation(
    connection: &mut SqliteConnection,
) -> Result<Option<IssuerRevocation>, StoreError> {
    let query = sqlx::query("SELECT revoked_at, reason FROM revoked_authorities ORDER BY id LIMIT 1");
    let row = query.fetch_optional(connection).await?;
    let read = |row| Ok(IssuerRevocation { at: records::time(&row, "revoked_at")?, reason: records::reason(&row)? });
    row.map(read).transpose()
}

/// Marks the key of a certificate as compromised that was revoked before for another reason.
pub(super) async fn compromise_key(
    connection: &mut SqliteConnection,
    serial: &Serial,
    at: Timestamp,
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO compromised_keys (spki_sha256, at) SELECT spki_sha256, ? FROM certificates WHERE serial = ?
         ON CONFLICT DO NOTHING",
    );
    query.bind(at.unix()).bind(serial.magnitude()).execute(connection).await?;
    Ok(())
}
