//! Relying parties: which instances have to enforce revocations, and what each of them confirmed last.
//!
//! It never knows which are connected now. The daemon's feed does, and stores its state here from time to time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pki::{crl::CrlNumber, instance::InstanceId, serial::Serial, time::Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Store, StoreError, beneath::Beneath, records};
use crate::issuer::Issuer;

/// An instance of a relying party, and what it enforces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RelyingParty {
    /// The common name of its certificate.
    pub(crate) name: String,
    /// The serial number of its certificate.
    pub(crate) serial: Serial,
    pub(crate) instance: InstanceId,
    pub(crate) address: String,
    /// The number of the issuing CA's CRL that it enforces; none before its first confirmation, or if that number is
    /// not known here.
    pub(crate) crl_number: Option<CrlNumber>,
    pub(crate) root_crl_number: Option<CrlNumber>,
    /// A number that it claims to enforce and that this database never used.
    pub(crate) claims: Option<CrlNumber>,
    /// After this it refuses everybody, unless the authority receives another message from it.
    pub(crate) admits_until: Option<Timestamp>,
    /// For how many seconds it still uses a stale CRL.
    pub(crate) grace: u64,
    pub(crate) open_connections: u64,
    pub(crate) first_seen: Timestamp,
    /// None if it is not on the feed.
    pub(crate) connected_since: Option<Timestamp>,
    pub(crate) last_seen: Timestamp,
    /// Its own certificate is revoked, so nobody waits for it.
    pub(crate) certificate_revoked: bool,
}

/// What identifies an instance. Only its own certificate confirms for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstanceKey {
    pub(crate) serial: Serial,
    pub(crate) instance: InstanceId,
}

/// A valid server certificate of which no instance is known.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) name: String,
    pub(crate) serial: Serial,
    /// The certificate, if it was not enrolled with a token. It may be the authority's own.
    pub(crate) unclaimed_der: Option<Vec<u8>>,
}

impl RelyingParty {
    pub(crate) fn key(&self) -> InstanceKey {
        InstanceKey { serial: self.serial, instance: self.instance }
    }

    /// Until when it could admit a revoked client if it has not received the revocation. A connected one may still
    /// confirm the last CRL without the revocation, which is valid until `outlasting`. One that is not connected admits
    /// nobody after what it reported.
    pub(crate) fn exposed_until(&self, outlasting: Timestamp) -> Option<Timestamp> {
        let latest = outlasting.plus(Duration::from_secs(self.grace));
        self.admits_until.map(|until| if self.connected_since.is_some() { until.max(latest) } else { until })
    }
}

impl Store {
    /// All instances, by name.
    pub(crate) async fn relying_parties(&self) -> Result<Vec<RelyingParty>, StoreError> {
        let query = "SELECT p.*, EXISTS (SELECT 1 FROM revocations r WHERE r.serial = p.serial) AS certificate_revoked
                     FROM relying_parties p ORDER BY p.name, p.first_seen, p.serial, p.instance";
        sqlx::query(query).fetch_all(&self.reader).await?.iter().map(read).collect()
    }

    /// How many CRLs the issuing CA published after the one that each of these enforces; all of them before its first
    /// confirmation. The numbers themselves do not show that, because they follow the clock.
    pub(crate) async fn lags(&self, parties: &[RelyingParty]) -> Result<Vec<u64>, StoreError> {
        let number = |party: &RelyingParty| party.crl_number.map_or(0, CrlNumber::get);
        // Most instances enforce the same number, so each number is queried once.
        let mut lags = BTreeMap::new();
        for number in parties.iter().map(number).collect::<BTreeSet<_>>() {
            let query = sqlx::query_scalar(
                "SELECT coalesce((SELECT ordinal FROM crl_numbers WHERE issuer = ?1 ORDER BY number DESC LIMIT 1), 0)
                     - coalesce((SELECT ordinal FROM crl_numbers WHERE issuer = ?1 AND number <= ?2
                                 ORDER BY number DESC LIMIT 1), 0)",
            );
            let lag: i64 = query.bind(Issuer::Issuing.as_str()).bind(number).fetch_one(&self.reader).await?;
            lags.insert(number, u64::try_from(lag).unwrap_or(0));
        }
        Ok(parties.iter().map(|party| lags[&number(party)]).collect())
    }

    /// Stores the state of these instances, and removes the ones that are no longer expected, in one transaction.
    pub(crate) async fn record_relying_parties(
        &self,
        parties: &[RelyingParty],
        gone: &[InstanceKey],
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for key in gone {
            remove(&mut tx, key).await?;
        }
        for party in parties {
            sqlx::query(
                "INSERT INTO relying_parties (serial, instance, name, address, crl_number, root_crl_number, claims, admits_until,
                     grace, open_connections, first_seen, connected_since, last_seen)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (serial, instance) DO UPDATE SET name = excluded.name, address = excluded.address,
                     crl_number = excluded.crl_number, root_crl_number = excluded.root_crl_number, claims = excluded.claims,
                     admits_until = excluded.admits_until, grace = excluded.grace, open_connections = excluded.open_connections,
                     connected_since = excluded.connected_since, last_seen = excluded.last_seen",
            )
            .bind(party.serial.magnitude())
            .bind(party.instance.to_string())
            .bind(&party.name)
            .bind(&party.address)
            .bind(party.crl_number.map(CrlNumber::get))
            .bind(party.root_crl_number.map(CrlNumber::get))
            .bind(party.claims.map(CrlNumber::get))
            .bind(party.admits_until.map(Timestamp::unix))
            .bind(i64::try_from(party.grace).unwrap_or(i64::MAX))
            .bind(i64::try_from(party.open_connections).unwrap_or(i64::MAX))
            .bind(party.first_seen.unix())
            .bind(party.connected_since.map(Timestamp::unix))
            .bind(party.last_seen.unix())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Valid server certificates of which no instance is known, oldest first. The authority's own are among them.
    pub(crate) async fn unknown_holders(&self, now: Timestamp) -> Result<Vec<Holder>, StoreError> {
        let rows = sqlx::query(
            "SELECT c.serial, c.common_name, CASE WHEN c.token_id IS NULL THEN c.der END AS unclaimed_der
             FROM certificates c INDEXED BY certificates_of_servers
             WHERE c.profile = 'server' AND c.not_after >= ?1 AND c.not_before <= ?1
               AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)
               AND NOT EXISTS (SELECT 1 FROM relying_parties p WHERE p.serial = c.serial)
             ORDER BY c.id",
        )
        .bind(now.unix())
        .fetch_all(&self.reader)
        .await?;
        let holder = |row: &SqliteRow| {
            Ok(Holder {
                name: row.try_get("common_name")?,
                serial: records::serial(row)?,
                unclaimed_der: row.try_get("unclaimed_der")?,
            })
        };
        rows.iter().map(holder).collect()
    }

    /// Creates a [`LookOut`] for commits by this process or another.
    pub(crate) async fn look_out(&self) -> Result<LookOut, StoreError> {
        // `PRAGMA data_version` compares with what the same connection saw before, so it must not return to the pool.
        let connection = self.reader.acquire().await?.detach();
        Ok(LookOut { connection, version: 0, beneath: Arc::clone(&self.beneath) })
    }
}

/// Notices commits without reading the data.
#[derive(Debug)]
pub(crate) struct LookOut {
    connection: SqliteConnection,
    version: i64,
    beneath: Arc<Beneath>,
}

impl LookOut {
    /// Whether anything was committed since the last call. Fails after the files were replaced.
    pub(crate) async fn has_changed(&mut self) -> Result<bool, StoreError> {
        if self.beneath.check().is_err() {
            return Ok(false);
        }
        let version = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut self.connection).await?;
        Ok(std::mem::replace(&mut self.version, version) != version)
    }
}

async fn remove(connection: &mut SqliteConnection, key: &InstanceKey) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM relying_parties WHERE serial = ? AND instance = ?");
    query.bind(key.serial.magnitude()).bind(key.instance.to_string()).execute(connection).await?;
    Ok(())
}

fn read(row: &SqliteRow) -> Result<RelyingParty, StoreError> {
    // A value that is not a number counts as none: what a relying party sent must not prevent a start.
    let number = |column| Ok::<_, StoreError>(row.try_get::<Option<i64>, _>(column)?.and_then(CrlNumber::new));
    let instance: String = row.try_get("instance")?;
    Ok(RelyingParty {
        name: row.try_get("name")?,
        serial: records::serial(row)?,
        instance: instance.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        address: row.try_get("address")?,
        crl_number: number("crl_number")?,
        root_crl_number: number("root_crl_number")?,
        claims: number("claims")?,
        admits_until: records::optional_time(row, "admits_until")?,
        grace: u64::try_from(row.try_get::<i64, _>("grace")?).unwrap_or(0),
        open_connections: u64::try_from(row.try_get::<i64, _>("open_connections")?).unwrap_or(0),
        first_seen: records::time(row, "first_seen")?,
        connected_since: records::optional_time(row, "connected_since")?,
        last_seen: records::time(row, "last_seen")?,
        certificate_revoked: row.try_get("certificate_revoked")?,
    })
}
