//! Certificates: recorded once, never changed.
//!
//! It never decides whether one may be issued.

use pki::{issuing::IssuedCertificate, serial::Serial, time::Timestamp, token::TokenId};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{
    CertificateRecord, Store, StoreError, Uncertifiable, records,
    uncertifiable::{Obstacles, issuer_revocation},
};

/// Selects certificates with their revocations. The literals are an index hint, and the rest of the query.
macro_rules! select_certificates {
    ($hint:literal, $which:literal) => {
        concat!(
            "SELECT c.id, c.serial, c.common_name, c.profile, c.token_id, c.not_before, c.not_after, c.issued_at, c.der, c.adopted_at,
                    r.revoked_at, r.reason
             FROM certificates c ",
            $hint,
            " LEFT JOIN revocations r ON r.serial = c.serial ",
            $which
        )
    };
}
pub(super) use select_certificates;

/// The result of recording a certificate that was issued without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Recorded {
    /// It is durable.
    Done,
    /// Nothing was changed.
    Refused(Uncertifiable),
}

impl Store {
    /// Records a certificate that was issued without a token.
    pub(crate) async fn record(&self, issued: &IssuedCertificate, now: Timestamp) -> Result<Recorded, StoreError> {
        let mut tx = self.begin().await?;
        let key = issued.info.spki_sha256;
        if let Err(why) = Obstacles::read(&mut tx, [key]).await?.check(&key) {
            return Ok(Recorded::Refused(why));
        }
        insert(&mut tx, &[(issued, None, now)]).await?;
        tx.commit().await?;
        Ok(Recorded::Done)
    }

    /// Records the certificate that the daemon itself presents, even if the issuing CA is revoked: the daemon needs one
    /// to announce that revocation.
    pub(crate) async fn record_own(&self, issued: &IssuedCertificate, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        insert(&mut tx, &[(issued, None, now)]).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The certificate with this serial number.
    pub(crate) async fn by_serial(
        &self,
        serial: &Serial,
        now: Timestamp,
    ) -> Result<Option<CertificateRecord>, StoreError> {
        let mut connection = self.reader.acquire().await?;
        let issuer = issuer_revocation(&mut connection).await?;
        let query = sqlx::query(select_certificates!("", "WHERE c.serial = ?")).bind(serial.magnitude());
        let row = query.fetch_optional(&mut *connection).await?;
        row.map(|row| records::certificate(&row, issuer, now)).transpose()
    }

    /// Every certificate with exactly this common name, oldest first.
    pub(crate) async fn by_name(&self, name: &str, now: Timestamp) -> Result<Vec<CertificateRecord>, StoreError> {
        let mut connection = self.reader.acquire().await?;
        let issuer = issuer_revocation(&mut connection).await?;
        let query = sqlx::query(select_certificates!("", "WHERE c.common_name = ? ORDER BY c.id")).bind(name);
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| records::certificate(row, issuer, now)).collect()
    }
}

/// The most rows in one INSERT. More rows per statement mean less work, but each number of rows is one more prepared
/// statement to keep.
const ROWS: usize = 32;

/// A certificate to record, the token that it was enrolled with, and when it was issued.
pub(super) type New<'a> = (&'a IssuedCertificate, Option<&'a TokenId>, Timestamp);

pub(super) async fn insert(connection: &mut SqliteConnection, rows: &[New<'_>]) -> Result<(), StoreError> {
    for rows in rows.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO certificates
                 (serial, common_name, profile, spki_sha256, token_id, not_before, not_after, issued_at, der) ",
        );
        query.push_values(rows, |mut row, (issued, token, now)| {
            let info = &issued.info;
            row.push_bind(info.id.serial.magnitude())
                .push_bind(info.display_name())
                .push_bind(issued.profile.as_str())
                .push_bind(info.spki_sha256.as_slice())
                .push_bind(token.map(TokenId::as_str))
                .push_bind(info.validity.not_before.unix())
                .push_bind(info.validity.not_after.unix())
                .push_bind(now.unix())
                .push_bind(issued.der.as_ref());
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}
