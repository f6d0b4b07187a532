//! Certificates: recorded once, never changed.
//!
//! It never decides whether one may be issued.

use pki::{
    certificate::CertificateInfo, issuing::IssuedCertificate, name::NamePattern, policy::Approved, serial::Serial,
    time::Timestamp, token::TokenId,
};
use rustls_pki_types::CertificateDer;
use sqlx::SqliteConnection;

use super::{CertificateRecord, Store, StoreError, TokenRefusal, records, tokens};

/// What became of an enrollment.
#[derive(Clone, Debug)]
pub(crate) enum Enrollment {
    /// The certificate is on the disk and the token's use counted.
    Recorded,
    /// The same key enrolled for the same names before; this is what it got.
    Repeated(CertificateDer<'static>),
    /// In the meantime the token became unusable. Nothing was changed.
    Refused(TokenRefusal),
}

/// Which certificates to list. Every part that is given has to hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) name: Option<NamePattern>,
    /// `valid`, `revoked` or `expired`.
    pub(crate) status: Option<&'static str>,
    /// Enrolled with this token.
    pub(crate) token: Option<TokenId>,
    pub(crate) issued_after: Option<Timestamp>,
    pub(crate) issued_before: Option<Timestamp>,
    /// Valid now and not any more after this.
    pub(crate) expiring_by: Option<Timestamp>,
}

/// Certificates with what became of them; the literal says which.
macro_rules! select_certificates {
    ($which:literal) => {
        concat!(
            "SELECT c.serial, c.common_name, c.profile, c.token_id, c.not_before, c.not_after, c.issued_at, c.der,
                    r.revoked_at, r.reason
             FROM certificates c LEFT JOIN revocations r ON r.serial = c.serial ",
            $which
        )
    };
}

impl Store {
    /// Records a certificate that no token was needed for.
    pub(crate) async fn record(&self, issued: &IssuedCertificate, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        insert(&mut tx, issued, None, now).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Counts a use of the token and records the certificate, in one transaction, unless the token cannot be used or
    /// the same was enrolled before: two requests at once must not become two certificates.
    pub(crate) async fn enroll(
        &self,
        token: &TokenId,
        order: &Approved,
        issued: &IssuedCertificate,
        now: Timestamp,
    ) -> Result<Enrollment, StoreError> {
        let mut tx = self.begin().await?;
        let record = tokens::get(&mut tx, token)
            .await?
            .ok_or_else(|| StoreError::damaged("token_id", &"a token has disappeared"))?;
        if let Err(refusal) = record.check_not_revoked() {
            return Ok(Enrollment::Refused(refusal));
        }
        let earlier = find_enrolled(&mut tx, token, &issued.info.spki_sha256, now).await?;
        if let Some(earlier) = earlier.into_iter().find(|(info, _)| order.is_met_by(info)) {
            return Ok(Enrollment::Repeated(earlier.1));
        }
        if let Err(refusal) = record.check(now) {
            return Ok(Enrollment::Refused(refusal));
        }
        tokens::count_use(&mut tx, token).await?;
        insert(&mut tx, issued, Some(token), now).await?;
        tx.commit().await?;
        Ok(Enrollment::Recorded)
    }

    /// The valid certificates that this key was given with this token, newest first.
    pub(crate) async fn enrolled(
        &self,
        token: &TokenId,
        spki_sha256: &[u8; 32],
        now: Timestamp,
    ) -> Result<Vec<(CertificateInfo, CertificateDer<'static>)>, StoreError> {
        find_enrolled(&mut *self.reader.acquire().await?, token, spki_sha256, now).await
    }

    /// The certificate with this serial number.
    pub(crate) async fn by_serial(
        &self,
        serial: &Serial,
        now: Timestamp,
    ) -> Result<Option<CertificateRecord>, StoreError> {
        let query = sqlx::query(select_certificates!("WHERE c.serial = ?")).bind(serial.magnitude());
        query.fetch_optional(&self.reader).await?.map(|row| records::certificate(&row, now)).transpose()
    }

    /// Every certificate with exactly this common name, oldest first.
    pub(crate) async fn by_name(&self, name: &str, now: Timestamp) -> Result<Vec<CertificateRecord>, StoreError> {
        let query = sqlx::query(select_certificates!("WHERE c.common_name = ? ORDER BY c.id")).bind(name);
        query.fetch_all(&self.reader).await?.iter().map(|row| records::certificate(row, now)).collect()
    }

    /// The certificates that pass the filter, oldest first.
    pub(crate) async fn list(&self, filter: &Filter, now: Timestamp) -> Result<Vec<CertificateRecord>, StoreError> {
        // A NamePattern has no other characters that mean something to GLOB than its stars.
        let query = sqlx::query(select_certificates!(
            "WHERE (?1 IS NULL OR c.common_name GLOB ?1)
               AND (?2 IS NULL OR ?2 = CASE WHEN r.serial IS NOT NULL THEN 'revoked'
                                            WHEN c.not_after < ?3 THEN 'expired'
                                            ELSE 'valid' END)
               AND (?4 IS NULL OR (r.serial IS NULL AND c.not_after BETWEEN ?3 AND ?4))
               AND (?5 IS NULL OR c.token_id = ?5)
               AND (?6 IS NULL OR c.issued_at >= ?6)
               AND (?7 IS NULL OR c.issued_at <= ?7)
             ORDER BY c.id"
        ))
        .bind(filter.name.as_ref().map(NamePattern::to_string))
        .bind(filter.status)
        .bind(now.unix())
        .bind(filter.expiring_by.map(Timestamp::unix))
        .bind(filter.token.as_ref().map(TokenId::as_str))
        .bind(filter.issued_after.map(Timestamp::unix))
        .bind(filter.issued_before.map(Timestamp::unix));
        query.fetch_all(&self.reader).await?.iter().map(|row| records::certificate(row, now)).collect()
    }
}

async fn find_enrolled(
    connection: &mut SqliteConnection,
    token: &TokenId,
    spki_sha256: &[u8; 32],
    now: Timestamp,
) -> Result<Vec<(CertificateInfo, CertificateDer<'static>)>, StoreError> {
    let rows = sqlx::query_scalar::<_, Vec<u8>>(
        "SELECT der FROM certificates c
         WHERE token_id = ? AND spki_sha256 = ? AND not_after >= ?
           AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)
         ORDER BY id DESC",
    )
    .bind(token.as_str())
    .bind(spki_sha256.as_slice())
    .bind(now.unix())
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|der| {
            let info = CertificateInfo::from_der(&der).map_err(|error| StoreError::damaged("der", &error))?;
            Ok((info, der.into()))
        })
        .collect()
}

async fn insert(
    connection: &mut SqliteConnection,
    issued: &IssuedCertificate,
    token: Option<&TokenId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let info = &issued.info;
    sqlx::query(
        "INSERT INTO certificates
             (serial, common_name, profile, spki_sha256, token_id, not_before, not_after, issued_at, der)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(info.id.serial.magnitude())
    .bind(info.display_name())
    .bind(issued.profile.as_str())
    .bind(info.spki_sha256.as_slice())
    .bind(token.map(TokenId::as_str))
    .bind(info.validity.not_before.unix())
    .bind(info.validity.not_after.unix())
    .bind(now.unix())
    .bind(issued.der.as_ref())
    .execute(connection)
    .await?;
    Ok(())
}
