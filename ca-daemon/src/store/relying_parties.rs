//! Relying parties: who has ever been on the feed, and what it enforced the last time it said so.
//!
//! It never knows who is connected right now; the daemon's feed does, and writes it down here from time to time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pki::{crl::CrlNumber, time::Timestamp};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{RelyingParty, Store, StoreError, beneath::Beneath, records};
use crate::settings::Issuer;

impl Store {
    /// Everybody, by name.
    pub(crate) async fn relying_parties(&self) -> Result<Vec<RelyingParty>, StoreError> {
        let rows = sqlx::query("SELECT * FROM relying_parties ORDER BY name").fetch_all(&self.reader).await?;
        rows.iter().map(read).collect()
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

    /// Writes down what is known of these, all in one transaction.
    pub(crate) async fn record_relying_parties(&self, parties: &[RelyingParty]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for party in parties {
            sqlx::query(
                "INSERT INTO relying_parties (name, serial, address, crl_number, root_crl_number, admits_until,
                     grace, open_connections, first_seen, connected_since, last_seen)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (name) DO UPDATE SET serial = excluded.serial, address = excluded.address,
                     crl_number = excluded.crl_number, root_crl_number = excluded.root_crl_number,
                     admits_until = excluded.admits_until, grace = excluded.grace, open_connections = excluded.open_connections,
                     connected_since = excluded.connected_since, last_seen = excluded.last_seen",
            )
            .bind(&party.name)
            .bind(party.serial.magnitude())
            .bind(&party.address)
            .bind(party.crl_number.map(CrlNumber::get))
            .bind(party.root_crl_number.map(CrlNumber::get))
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

    /// Expects nothing of this relying party any more; whether there was one.
    pub(crate) async fn forget_relying_party(&self, name: &str) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let removed = sqlx::query("DELETE FROM relying_parties WHERE name = ?").bind(name).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(removed.rows_affected() == 1)
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

fn read(row: &SqliteRow) -> Result<RelyingParty, StoreError> {
    // One that is no number was never confirmed: a relying party's word is no reason not to start.
    let number = |column| Ok::<_, StoreError>(row.try_get::<Option<i64>, _>(column)?.and_then(CrlNumber::new));
    Ok(RelyingParty {
        name: row.try_get("name")?,
        serial: records::serial(row)?,
        address: row.try_get("address")?,
        crl_number: number("crl_number")?,
        root_crl_number: number("root_crl_number")?,
        admits_until: records::optional_time(row, "admits_until")?,
        grace: u64::try_from(row.try_get::<i64, _>("grace")?).unwrap_or(0),
        open_connections: u64::try_from(row.try_get::<i64, _>("open_connections")?).unwrap_or(0),
        first_seen: records::time(row, "first_seen")?,
        connected_since: records::optional_time(row, "connected_since")?,
        last_seen: records::time(row, "last_seen")?,
    })
}
