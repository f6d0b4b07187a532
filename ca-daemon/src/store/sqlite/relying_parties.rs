//! Relying parties: which instances are expected to enforce what is revoked, and what each enforced the last time it said so.
//!
//! It never knows who is connected right now; the daemon's feed does, and writes it down here from time to time.

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

/// An instance of a relying party and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RelyingParty {
    /// The common name of its certificate.
    pub(crate) name: String,
    /// Its certificate.
    pub(crate) serial: Serial,
    pub(crate) instance: InstanceId,
    pub(crate) address: String,
    /// The issuing CA's CRL that it enforces; none before its first confirmation, and none that is not known here.
    pub(crate) crl_number: Option<CrlNumber>,
    pub(crate) root_crl_number: Option<CrlNumber>,
    /// A number that it says it enforces and that this database never gave.
    pub(crate) claims: Option<CrlNumber>,
    /// After that it refuses everybody, unless it is heard of again.
    pub(crate) admits_until: Option<Timestamp>,
    /// For how many seconds it judges clients by a CRL that is stale.
    pub(crate) grace: u64,
    pub(crate) open_connections: u64,
    pub(crate) first_seen: Timestamp,
    /// None: it is not on the feed.
    pub(crate) connected_since: Option<Timestamp>,
    pub(crate) last_seen: Timestamp,
    /// Its own certificate is revoked, so that it is not waited for.
    pub(crate) certificate_revoked: bool,
}

/// What an instance is known by. Only its own certificate confirms for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstanceKey {
    pub(crate) serial: Serial,
    pub(crate) instance: InstanceId,
}

/// A valid server certificate without any instance that is known.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) name: String,
    pub(crate) serial: Serial,
    /// The certificate, if it was not enrolled with a token: then it may be the authority's own.
    pub(crate) unclaimed_der: Option<Vec<u8>>,
}

impl RelyingParty {
    pub(crate) fn key(&self) -> InstanceKey {
        InstanceKey { serial: self.serial, instance: self.instance }
    }

    /// Until when it could let a client in that is revoked, if it has heard nothing of that. One that is connected may yet confirm the
    /// last list without the revocation, which is good until `outlasting`; one that is not admits nobody for longer than it said.
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

    /// How many CRLs of the issuing CA came after the one that each of these enforces; all that there are before its first confirmation.
    /// Their numbers do not say that: they follow the clock.
    pub(crate) async fn lags(&self, parties: &[RelyingParty]) -> Result<Vec<u64>, StoreError> {
        let number = |party: &RelyingParty| party.crl_number.map_or(0, CrlNumber::get);
        // Most of them enforce the same one.
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

    /// Writes down what is known of these, and that the others are not expected any more, all in one transaction.
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

    /// Who holds a valid server certificate of which no instance is known, oldest first. The authority's own are among them.
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

    /// A look-out for commits, by this process or another.
    pub(crate) async fn look_out(&self) -> Result<LookOut, StoreError> {
        // SQLite compares with what the same connection has seen before, so it must not go back to the pool.
        let connection = self.reader.acquire().await?.detach();
        Ok(LookOut { connection, version: 0, beneath: Arc::clone(&self.beneath) })
    }
}

/// Notices that the database was changed, without reading it.
#[derive(Debug)]
pub(crate) struct LookOut {
    connection: SqliteConnection,
    version: i64,
    beneath: Arc<Beneath>,
}

impl LookOut {
    /// Whether anything was committed since this was asked the last time. Nothing more is once the files beneath were replaced.
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
    // One that is no number was never confirmed: a relying party's word is no reason not to start.
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
