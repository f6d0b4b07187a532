//! Orders to renew certificates before it is time, and how far the holders have come with that.
//!
//! It never renews anything: the holders do.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use pki::{
    certificate::CertificateInfo,
    name::NamePattern,
    renewal::Window,
    serial::Serial,
    time::{Timestamp, Validity},
};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Store, StoreError, records};

/// An order to renew what was issued before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RenewalOrder {
    pub(crate) id: i64,
    pub(crate) names: NamePattern,
    pub(crate) ordered_at: Timestamp,
    /// Over how long a time the renewals are spread.
    pub(crate) within: Duration,
    /// The id of the last certificate that it is about.
    through: i64,
}

/// How far the holders have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RenewalProgress {
    /// How many certificates have a successor that was issued after the order.
    pub(crate) replaced: u64,
    /// Those that have none, oldest first; no more than were asked for.
    pub(crate) waiting: Vec<NotReplaced>,
    /// How many have none altogether.
    pub(crate) waiting_count: u64,
}

/// A certificate that was to be renewed and has no successor yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotReplaced {
    pub(crate) serial: Serial,
    pub(crate) name: String,
    pub(crate) not_after: Timestamp,
}

impl Store {
    /// Records an order about every certificate of these names that is known by now.
    pub(crate) async fn order_renewal(
        &self,
        names: &NamePattern,
        within: Duration,
        now: Timestamp,
    ) -> Result<RenewalOrder, StoreError> {
        let mut tx = self.begin().await?;
        let query = sqlx::query(
            "INSERT INTO renewal_orders (names, through, ordered_at, within)
             SELECT ?, coalesce(max(id), 0), ?, ? FROM certificates RETURNING *",
        );
        let within = i64::try_from(within.as_secs()).unwrap_or(i64::MAX);
        let query = query.bind(names.to_string()).bind(now.unix()).bind(within);
        let order = read(&query.fetch_one(&mut *tx).await?)?;
        tx.commit().await?;
        Ok(order)
    }

    /// Every order of which a certificate may still be waiting, oldest first.
    pub(crate) async fn renewal_orders(&self, now: Timestamp) -> Result<Vec<RenewalOrder>, StoreError> {
        let query = sqlx::query(
            "SELECT * FROM renewal_orders o WHERE EXISTS
                 (SELECT 1 FROM certificates c WHERE c.id <= o.through AND c.not_after >= ?) ORDER BY id",
        );
        query.bind(now.unix()).fetch_all(&self.reader).await?.iter().map(read).collect()
    }

    /// The id of the last order; zero if there is none.
    pub(crate) async fn last_renewal_order(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM renewal_orders").fetch_one(&self.reader).await?)
    }

    /// When to renew the certificate with this serial number and validity: at its own time, or sooner where that was ordered.
    pub(crate) async fn renewal_window(&self, serial: &Serial, validity: Validity) -> Result<Window, StoreError> {
        let query = sqlx::query(
            "SELECT o.* FROM certificates c JOIN renewal_orders o ON o.through >= c.id AND c.common_name GLOB o.names
             WHERE c.serial = ? ORDER BY o.ordered_at + o.within LIMIT 1",
        );
        let order =
            query.bind(serial.magnitude()).fetch_optional(&self.reader).await?.as_ref().map(read).transpose()?;
        let regular = Window::of(validity);
        Ok(match order {
            Some(order) if order.ordered_at < regular.start => {
                Window::from_now(order.ordered_at, order.within, validity)
            }
            _ => regular,
        })
    }

    /// How far an order has been carried out, and of those that wait so many.
    pub(crate) async fn renewal_progress(
        &self,
        order: &RenewalOrder,
        most: usize,
    ) -> Result<RenewalProgress, StoreError> {
        let mut connection = self.reader.acquire().await?;
        progress(&mut connection, order, most).await
    }
}

async fn progress(
    connection: &mut SqliteConnection,
    order: &RenewalOrder,
    most: usize,
) -> Result<RenewalProgress, StoreError> {
    // What had a successor by then is left out, and what the authority issued for itself: it looks after that.
    let mut rows = sqlx::query(
        "SELECT c.serial, c.common_name, c.not_after,
                CASE WHEN c.token_id IS NULL AND c.profile = 'server' THEN c.der END AS of_authority,
                EXISTS (SELECT 1 FROM successions s WHERE s.successor > ?1 AND s.line =
                    coalesce((SELECT o.line FROM successions o WHERE o.successor = c.id), c.id)) AS is_replaced
         FROM certificates AS c NOT INDEXED
         WHERE c.id <= ?1 AND c.not_after >= ?2 AND c.common_name GLOB ?3
           AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)
           AND NOT EXISTS (SELECT 1 FROM successions s WHERE s.predecessor = c.id AND s.successor <= ?1)
         ORDER BY c.id",
    )
    .bind(order.through)
    .bind(order.ordered_at.unix())
    .bind(order.names.to_string())
    .fetch(connection);
    let mut progress = RenewalProgress::default();
    while let Some(row) = rows.try_next().await? {
        let der: Option<Vec<u8>> = row.try_get("of_authority")?;
        if der.is_some_and(|der| CertificateInfo::from_der(&der).is_ok_and(|info| info.is_of_authority())) {
            continue;
        }
        if row.try_get("is_replaced")? {
            progress.replaced += 1;
            continue;
        }
        progress.waiting_count += 1;
        if progress.waiting.len() < most {
            progress.waiting.push(NotReplaced {
                serial: records::serial(&row)?,
                name: row.try_get("common_name")?,
                not_after: records::time(&row, "not_after")?,
            });
        }
    }
    Ok(progress)
}

fn read(row: &SqliteRow) -> Result<RenewalOrder, StoreError> {
    Ok(RenewalOrder {
        id: row.try_get("id")?,
        names: records::recorded(row, "names")?,
        ordered_at: records::time(row, "ordered_at")?,
        within: Duration::from_secs(u64::try_from(row.try_get::<i64, _>("within")?).unwrap_or(0)),
        through: row.try_get("through")?,
    })
}
