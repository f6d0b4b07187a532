//! Lines of succession: which certificate has taken the place of which, from the first one that was enrolled or ordered.
//!
//! It never decides whether a certificate is renewed.

use std::collections::HashMap;

use pki::{crl::RevokedEntry, issuing::IssuedCertificate, serial::Serial, time::Timestamp, token::TokenId};
use rustls_pki_types::CertificateDer;
use sqlx::{Row as _, SqliteConnection};

use super::{Store, StoreError, records};

/// Why a certificate gets no successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PredecessorRefusal {
    /// A revocation is permanent.
    #[error("the certificate with serial {serial} was revoked at {at}; enroll for another with a token")]
    Revoked { serial: Serial, at: Timestamp },
    /// Another certificate of this authority has this serial number.
    #[error("the certificate with serial {serial} is not the one that this authority issued")]
    NotTheSame { serial: Serial },
}

/// What is known of a certificate that is to be renewed.
#[derive(Clone, Debug)]
pub(super) struct Predecessor {
    pub(super) token: Option<TokenId>,
    pub(super) der: CertificateDer<'static>,
    pub(super) revoked_at: Option<Timestamp>,
}

impl Predecessor {
    pub(super) fn check(&self, presented: &IssuedCertificate) -> Result<(), PredecessorRefusal> {
        let serial = presented.info.id.serial;
        if let Some(at) = self.revoked_at {
            return Err(PredecessorRefusal::Revoked { serial, at });
        }
        if self.der == presented.der { Ok(()) } else { Err(PredecessorRefusal::NotTheSame { serial }) }
    }
}

/// A certificate that has taken the place of another one.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) predecessor: Serial,
    pub(super) spki_sha256: [u8; 32],
    pub(super) der: CertificateDer<'static>,
}

impl Store {
    /// Those that are valid at `now` of the lines to which these certificates belong, but for themselves; oldest first.
    pub(crate) async fn valid_of_lines(&self, serials: &[Serial], now: Timestamp) -> Result<Vec<Serial>, StoreError> {
        valid_of_lines(&mut *self.reader.acquire().await?, serials, now).await
    }

    /// The serial number of the certificate whose place this one has taken, and of those that have taken its own.
    pub(crate) async fn neighbours(&self, serial: &Serial) -> Result<(Option<Serial>, Vec<Serial>), StoreError> {
        let mut connection = self.reader.acquire().await?;
        let before = sqlx::query(
            "SELECT p.serial FROM certificates c JOIN successions s ON s.successor = c.id
             JOIN certificates p ON p.id = s.predecessor WHERE c.serial = ?",
        );
        let before = before.bind(serial.magnitude()).fetch_optional(&mut *connection).await?;
        let after = sqlx::query(
            "SELECT n.serial FROM certificates c JOIN successions s ON s.predecessor = c.id
             JOIN certificates n ON n.id = s.successor WHERE c.serial = ? ORDER BY n.id",
        );
        let after = after.bind(serial.magnitude()).fetch_all(&mut *connection).await?;
        Ok((
            before.as_ref().map(records::serial).transpose()?,
            after.iter().map(records::serial).collect::<Result<_, _>>()?,
        ))
    }
}

pub(super) async fn valid_of_lines(
    connection: &mut SqliteConnection,
    serials: &[Serial],
    now: Timestamp,
) -> Result<Vec<Serial>, StoreError> {
    let query = sqlx::query(
        "WITH asked AS MATERIALIZED
             (SELECT c.id FROM json_each(?1) AS given CROSS JOIN certificates AS c ON c.serial = unhex(given.value)),
         lines AS MATERIALIZED
             (SELECT DISTINCT coalesce((SELECT s.line FROM successions s WHERE s.successor = asked.id), asked.id) AS line
              FROM asked),
         members AS (SELECT line AS id FROM lines
                     UNION SELECT s.successor FROM lines CROSS JOIN successions AS s ON s.line = lines.line)
         SELECT c.serial FROM members CROSS JOIN certificates AS c ON c.id = members.id
         WHERE c.not_after >= ?2 AND c.id NOT IN (SELECT id FROM asked)
           AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)
         ORDER BY c.id",
    );
    let rows = query.bind(records::serials_to_json(serials)).bind(now.unix()).fetch_all(connection).await?;
    rows.iter().map(records::serial).collect()
}

/// What was renewed from a certificate, directly or not, after it was revoked.
pub(super) async fn renewed_since(
    connection: &mut SqliteConnection,
    entry: &RevokedEntry,
) -> Result<Vec<Serial>, StoreError> {
    let query = sqlx::query(
        "SELECT n.serial FROM certificates AS p
         CROSS JOIN successions AS s
             ON s.line = coalesce((SELECT o.line FROM successions o WHERE o.successor = p.id), p.id)
         CROSS JOIN certificates AS n ON n.id = s.successor
         WHERE p.serial = ?1 AND n.id > p.id AND n.issued_at >= ?2",
    );
    let rows = query.bind(entry.serial.magnitude()).bind(entry.revoked_at.unix()).fetch_all(connection).await?;
    rows.iter().map(records::serial).collect()
}

/// What is known of these certificates, by serial number; nothing of one that a restored database does not know.
pub(super) async fn predecessors(
    connection: &mut SqliteConnection,
    serials: impl IntoIterator<Item = Serial>,
) -> Result<HashMap<Serial, Predecessor>, StoreError> {
    let serials: Vec<_> = serials.into_iter().collect();
    if serials.is_empty() {
        return Ok(HashMap::new());
    }
    // Also the revocation of a certificate that is not known here otherwise.
    let query = sqlx::query(
        "SELECT unhex(given.value) AS serial, c.token_id, c.der, r.revoked_at FROM json_each(?) AS given
         LEFT JOIN certificates AS c ON c.serial = unhex(given.value)
         LEFT JOIN revocations AS r ON r.serial = unhex(given.value)
         WHERE c.id IS NOT NULL OR r.id IS NOT NULL",
    );
    let rows = query.bind(records::serials_to_json(&serials)).fetch_all(connection).await?;
    let read = |row: &sqlx::sqlite::SqliteRow| {
        let token: Option<String> = row.try_get("token_id")?;
        let revoked_at: Option<i64> = row.try_get("revoked_at")?;
        let predecessor = Predecessor {
            token: token.map(|id| id.parse()).transpose().map_err(|error| StoreError::damaged("token_id", &error))?,
            der: row.try_get::<Option<Vec<u8>>, _>("der")?.unwrap_or_default().into(),
            revoked_at: revoked_at.map(Timestamp::from_unix),
        };
        Ok((records::serial(row)?, predecessor))
    };
    rows.iter().map(read).collect()
}

/// The successors of these certificates that are valid then, the newest first.
pub(super) async fn successors(
    connection: &mut SqliteConnection,
    serials: impl IntoIterator<Item = Serial>,
    now: Timestamp,
) -> Result<Vec<Successor>, StoreError> {
    let serials: Vec<_> = serials.into_iter().collect();
    if serials.is_empty() {
        return Ok(Vec::new());
    }
    let query = sqlx::query(
        "SELECT p.serial, n.spki_sha256, n.der FROM json_each(?1) AS given
         CROSS JOIN certificates AS p ON p.serial = unhex(given.value)
         CROSS JOIN successions AS s ON s.predecessor = p.id
         CROSS JOIN certificates AS n ON n.id = s.successor
         WHERE n.not_after >= ?2 AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = n.serial)
         ORDER BY n.id DESC",
    );
    let rows = query.bind(records::serials_to_json(&serials)).bind(now.unix()).fetch_all(connection).await?;
    let read = |row| {
        Ok(Successor {
            predecessor: records::serial(row)?,
            spki_sha256: records::octets(row, "spki_sha256")?,
            der: row.try_get::<Vec<u8>, _>("der")?.into(),
        })
    };
    rows.iter().map(read).collect()
}

/// Records that one certificate has taken the place of another; both are recorded.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    successor: Serial,
    predecessor: &IssuedCertificate,
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO successions (successor, predecessor, line)
         SELECT n.id, p.id, coalesce((SELECT s.line FROM successions s WHERE s.successor = p.id), p.id)
         FROM certificates n JOIN certificates p ON p.serial = ?2 WHERE n.serial = ?1",
    );
    let query = query.bind(successor.magnitude()).bind(predecessor.info.id.serial.magnitude());
    query.execute(connection).await?;
    Ok(())
}
