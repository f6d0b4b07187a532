//! Revocations: recorded together with the CRL that carries them, and taken back from lists that another copy of this database
//! had signed.
//!
//! It never removes one.

use std::{collections::HashSet, sync::Arc};

use pki::{
    crl::{CrlNumber, RevocationReason, RevokedEntry},
    issuing::IssuedCertificate,
    serial::Serial,
    time::Timestamp,
    token::TokenId,
};
use serde::Serialize;
use sqlx::{Row as _, SqliteConnection};

use super::{
    CrlSigner, Period, Revocation, Store, StoreError,
    crls::{begin_publication, lacks_revocations, newest, note_number, note_revoking, put_complete, put_delta},
    records, servers,
    strays::{adopt, revoke_unknown},
    successions::{renewed_since, valid_of_lines},
    tokens,
    uncertifiable::compromise_key,
};
use crate::issuer::Issuer;

/// What an order to revoke names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target<'a> {
    /// These certificates, valid or not; each of them exists.
    pub(crate) serials: &'a [Serial],
    pub(crate) lines: Lines,
    /// And every certificate with exactly one of these common names that is valid by then.
    pub(crate) names: &'a [String],
    /// And every certificate that was enrolled with one of these tokens and is valid by then.
    pub(crate) tokens: &'a [TokenId],
    pub(crate) with_tokens: WithTokens,
    /// Of the serials, the certificates that this authority has issued and that are not known here.
    pub(crate) strays: &'a [IssuedCertificate],
    /// And what has these serial numbers, of which nothing else is known here but until when it is in CRLs.
    pub(crate) unknown: &'a [(Serial, Timestamp)],
}

/// What becomes of the certificates that have taken the place of those with given serial numbers, and of those whose place they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lines {
    /// Those that are valid are revoked as well: they are one holder's, or a thief's who has renewed.
    #[default]
    Take,
    /// They stay valid.
    Leave,
}

/// What becomes of the tokens that enrolled what is revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WithTokens {
    /// They go on enrolling as often as they may.
    #[default]
    Leave,
    /// Those that could still enroll somebody are revoked in the same transaction, and those that the target names.
    Revoke,
}

/// What became of an order to revoke, certificate by certificate, and the CRL that says so.
#[derive(Clone, Debug)]
pub(crate) struct Revoked {
    /// Those of which only the serial number was known come last.
    pub(crate) outcomes: Vec<(Serial, Revocation)>,
    /// The issuing CA's current CRL, complete or delta: a new one if anything was revoked that was not before.
    pub(crate) crl: CrlNumber,
    /// Until when the last list is good that does not say all of it.
    pub(crate) outlasting: Timestamp,
    /// The tokens that were revoked together with them.
    pub(crate) tokens: Vec<TokenId>,
}

/// An issuing CA that is to be revoked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condemned {
    pub(crate) serial: Serial,
    pub(crate) not_after: Timestamp,
}

/// A CRL that this authority has signed, read.
#[derive(Clone, Debug)]
pub(crate) struct SignedList {
    pub(crate) issuer: Issuer,
    pub(crate) number: CrlNumber,
    /// The number of the complete CRL that it adds to; none if it is one itself.
    pub(crate) base: Option<CrlNumber>,
    pub(crate) revoked: Vec<RevokedEntry>,
}

/// What came of taking a list back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TakenBack {
    pub(crate) issuer: Issuer,
    pub(crate) number: CrlNumber,
    /// Whether this database knew the number: there was nothing to take back.
    pub(crate) was_known: bool,
    /// How many revocations were not known here.
    pub(crate) revocations: usize,
}

/// What [`valid`] selects.
macro_rules! valid_with {
    ($column:literal) => {
        concat!(
            "SELECT serial FROM certificates c WHERE ",
            $column,
            " = ? AND not_after >= ? AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial) ORDER BY id"
        )
    };
}

impl Store {
    /// Revokes the target's certificates and publishes that, in one transaction. It is in there that a name becomes serial
    /// numbers: what is issued until then is not forgotten.
    pub(crate) async fn revoke(
        &self,
        target: Target<'_>,
        reason: RevocationReason,
        period: Period,
        signer: Arc<impl CrlSigner>,
    ) -> Result<Revoked, StoreError> {
        let mut tx = self.begin().await?;
        for stray in target.strays {
            adopt(&mut tx, stray, period.this_update).await?;
        }
        let mut serials = target.serials.to_vec();
        if target.lines == Lines::Take {
            serials.extend(valid_of_lines(&mut tx, target.serials, period.this_update).await?);
        }
        for name in target.names {
            serials.extend(valid(&mut tx, valid_with!("common_name"), name, period.this_update).await?);
        }
        for token in target.tokens {
            serials.extend(valid(&mut tx, valid_with!("token_id"), token.as_str(), period.this_update).await?);
        }
        let before = longest_good(&mut tx, Issuer::Issuing).await?;
        let mut seen = HashSet::new();
        serials.retain(|serial| seen.insert(*serial));
        let mut outcomes = Vec::with_capacity(serials.len());
        for serial in &serials {
            outcomes.push((*serial, revoke(&mut tx, serial, reason, period.this_update).await?));
        }
        for (serial, until) in target.unknown {
            let entry = RevokedEntry { serial: *serial, revoked_at: period.this_update, reason };
            outcomes.push((*serial, revoke_unknown(&mut tx, &entry, *until).await?));
        }
        let tokens = match target.with_tokens {
            WithTokens::Leave => Vec::new(),
            WithTokens::Revoke => tokens::revoke_usable(&mut tx, &serials, target.tokens, period.this_update).await?,
        };
        let outlasting = outcomes.iter().map(|(_, outcome)| outcome.outlasting(before, period)).max().unwrap_or(before);
        let has_news = outcomes.iter().any(|(_, outcome)| *outcome == Revocation::New);
        // What was taken back is revoked already and in no list yet: whoever enforces the newest one may still admit it.
        let is_unpublished = lacks_revocations(&mut tx, Issuer::Issuing).await?;
        if has_news || is_unpublished {
            let next = begin_publication(&mut tx, Issuer::Issuing, period, self.coalesced_above).await?;
            if has_news {
                note_revoking(&mut tx, Issuer::Issuing).await?;
            }
            put_delta(&mut tx, &next, period, &signer).await?;
            servers::put_if_revoked(&mut tx, &next, period, &signer).await?;
            if next.is_whole() {
                put_complete(&mut tx, &next, period, &signer).await?;
            }
            self.commit_numbers(tx).await?;
            let outlasting = if is_unpublished { before } else { outlasting };
            return Ok(Revoked { outcomes, crl: next.number, outlasting, tokens });
        }
        let crl = newest(&mut tx, Issuer::Issuing).await?.number;
        // No new list, but a key or a token may have ended.
        tx.commit().await?;
        Ok(Revoked { outcomes, crl, outlasting, tokens })
    }

    /// Revokes an issuing CA with the root's next CRL, in one transaction.
    pub(crate) async fn revoke_authority(
        &self,
        condemned: Condemned,
        reason: RevocationReason,
        period: Period,
        root: Arc<impl CrlSigner>,
    ) -> Result<Revoked, StoreError> {
        let mut tx = self.begin().await?;
        let serial = condemned.serial;
        let entry = RevokedEntry { serial, revoked_at: period.this_update, reason };
        let before = longest_good(&mut tx, Issuer::Root).await?;
        let outcome = if insert(&mut tx, Issuer::Root, &entry, condemned.not_after).await? {
            Revocation::New
        } else {
            let row = sqlx::query("SELECT revoked_at, reason FROM revoked_authorities WHERE serial = ?");
            records::already_revoked(&row.bind(serial.magnitude()).fetch_one(&mut *tx).await?)?
        };
        let (outcomes, tokens) = (vec![(serial, outcome)], Vec::new());
        let is_news = outcome == Revocation::New;
        if is_news || lacks_revocations(&mut tx, Issuer::Root).await? {
            let next = begin_publication(&mut tx, Issuer::Root, period, self.coalesced_above).await?;
            if is_news {
                note_revoking(&mut tx, Issuer::Root).await?;
            }
            put_complete(&mut tx, &next, period, &root).await?;
            self.commit_numbers(tx).await?;
            return Ok(Revoked { outcomes, crl: next.number, outlasting: before, tokens });
        }
        let outlasting = outcome.outlasting(before, period);
        let crl = newest(&mut tx, Issuer::Root).await?.number;
        Ok(Revoked { outcomes, crl, outlasting, tokens })
    }

    /// Records what these lists revoke and this database does not know, all in one transaction, or nothing if one is a delta
    /// to a list that is not known. A certificate that is not known here is taken to end at `until`. Nothing is published, and
    /// nothing with as low a number will be.
    pub(crate) async fn take_back(&self, lists: &[SignedList], until: Timestamp) -> Result<Vec<TakenBack>, StoreError> {
        let mut tx = self.begin().await?;
        let mut taken = Vec::with_capacity(lists.len());
        for list in lists {
            let SignedList { issuer, number, base, .. } = *list;
            let was_known = knows_number(&mut tx, issuer, number).await?;
            let mut revocations = 0;
            if !was_known {
                let known = known_serials(&mut tx, issuer).await?;
                for entry in list.revoked.iter().filter(|entry| !known.contains(&entry.serial)) {
                    revocations += usize::from(insert(&mut tx, issuer, entry, until).await?);
                    // What was renewed from it since was renewed because the revocation was forgotten.
                    for serial in renewed_since(&mut tx, entry).await? {
                        let heir = RevokedEntry { serial, ..*entry };
                        revocations += usize::from(insert(&mut tx, issuer, &heir, until).await?);
                    }
                }
            }
            if let Some(base) = base
                && !was_known
                && !knows_between(&mut tx, issuer, base, number).await?
            {
                return Err(StoreError::MissingBase { number, base });
            }
            if !was_known {
                // What is published lags behind from here on: that is how it is seen that the next CRL is due.
                let raise = "UPDATE crl_sequences SET last_number = max(last_number + 1, ?2) WHERE issuer = ?1";
                sqlx::query(raise).bind(issuer.as_str()).bind(number.get()).execute(&mut *tx).await?;
                note_taken_back(&mut tx, issuer, number).await?;
                if revocations > 0 {
                    note_revoking(&mut tx, issuer).await?;
                }
                // With this list, everything that a restore has lost is known again.
                let mended = "UPDATE crl_sequences SET ahead_number = NULL, ahead_revoked = NULL
                              WHERE issuer = ?1 AND ?2 BETWEEN ahead_revoked AND ahead_number";
                sqlx::query(mended).bind(issuer.as_str()).bind(number.get()).execute(&mut *tx).await?;
            }
            taken.push(TakenBack { issuer, number, was_known, revocations });
        }
        self.commit_numbers(tx).await?;
        Ok(taken)
    }

    /// From which number on every list contains what the list with this number revoked, but for certificates that have ended: from
    /// itself on, or, if it was taken back, from the next one that was given after that. None: the number is not known here.
    pub(crate) async fn contained_from(
        &self,
        issuer: Issuer,
        number: CrlNumber,
    ) -> Result<Option<CrlNumber>, StoreError> {
        let mut reader = self.reader.acquire().await?;
        let query = sqlx::query("SELECT contained_from FROM crl_numbers WHERE issuer = ? AND number = ?");
        let row = query.bind(issuer.as_str()).bind(number.get()).fetch_optional(&mut *reader).await?;
        match row {
            Some(row) if row.try_get::<Option<i64>, _>("contained_from")?.is_some() => {
                Ok(Some(records::number(&row, "contained_from")?))
            }
            Some(_) => Ok(Some(number)),
            None => Ok(knows_number(&mut reader, issuer, number).await?.then_some(number)),
        }
    }

    /// Since when the certificate with this serial number is revoked, also where it was issued after the copy was made that this
    /// database was restored from.
    pub(crate) async fn revoked_since(&self, serial: &Serial) -> Result<Option<Timestamp>, StoreError> {
        let query = sqlx::query("SELECT revoked_at FROM revocations WHERE serial = ?").bind(serial.magnitude());
        query.fetch_optional(&self.reader).await?.map(|row| records::time(&row, "revoked_at")).transpose()
    }

    /// What was revoked after the revocation with this id, and the id of the last one.
    pub(crate) async fn revoked_after(&self, id: i64) -> Result<(Vec<Serial>, i64), StoreError> {
        let rows = sqlx::query("SELECT id, serial FROM revocations WHERE id > ? ORDER BY id").bind(id);
        let rows = rows.fetch_all(&self.reader).await?;
        let last = rows.last().map_or(Ok(id), |row| row.try_get("id"))?;
        Ok((rows.iter().map(records::serial).collect::<Result<_, _>>()?, last))
    }

    /// The id of the last revocation there is; zero if there is none.
    pub(crate) async fn last_revocation(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM revocations").fetch_one(&self.reader).await?)
    }
}

impl Revocation {
    /// Until when a list is good that does not say so, if all that were there before it end by `before`.
    fn outlasting(self, before: Timestamp, period: Period) -> Timestamp {
        match self {
            Self::New => before,
            // Every list of this issuer lives equally long.
            Self::AlreadyRevoked { at, .. } => before.min(at.plus(period.lifetime)),
        }
    }
}

/// Until when the issuer's current lists are good.
async fn longest_good(connection: &mut SqliteConnection, issuer: Issuer) -> Result<Timestamp, StoreError> {
    let query = sqlx::query_scalar(
        "SELECT max(next_update) FROM (SELECT next_update FROM crls WHERE issuer = ?1
                                       UNION ALL SELECT next_update FROM deltas WHERE issuer = ?1)",
    );
    let until: Option<i64> = query.bind(issuer.as_str()).fetch_one(connection).await?;
    until.map(Timestamp::from_unix).ok_or(StoreError::NoAuthority)
}

/// The valid certificates that have this in this column.
async fn valid(
    connection: &mut SqliteConnection,
    select: &'static str,
    value: &str,
    now: Timestamp,
) -> Result<Vec<Serial>, StoreError> {
    let rows = sqlx::query(select).bind(value).bind(now.unix()).fetch_all(connection).await?;
    rows.iter().map(records::serial).collect()
}

async fn revoke(
    connection: &mut SqliteConnection,
    serial: &Serial,
    reason: RevocationReason,
    now: Timestamp,
) -> Result<Revocation, StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO revocations (serial, revoked_at, reason, not_after)
         SELECT serial, ?, ?, not_after FROM certificates WHERE serial = ?
         ON CONFLICT (serial) DO NOTHING",
    )
    .bind(now.unix())
    .bind(reason.code())
    .bind(serial.magnitude())
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(Revocation::New);
    }
    let known = revocation(connection, serial).await?.ok_or(sqlx::Error::RowNotFound)?;
    if reason.is_compromise() {
        // The reason that was published stays; the key is not certified again all the same.
        compromise_key(connection, serial, now).await?;
    }
    Ok(known)
}

/// The revocation with this serial number, if there is one.
pub(super) async fn revocation(
    connection: &mut SqliteConnection,
    serial: &Serial,
) -> Result<Option<Revocation>, StoreError> {
    let query = sqlx::query("SELECT revoked_at, reason FROM revocations WHERE serial = ?").bind(serial.magnitude());
    query.fetch_optional(connection).await?.as_ref().map(records::already_revoked).transpose()
}

/// Numbers from before they were written down are not held against anybody.
async fn knows_number(
    connection: &mut SqliteConnection,
    issuer: Issuer,
    number: CrlNumber,
) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM crl_numbers WHERE issuer = ?1 AND number = ?2)
             OR ?2 < (SELECT min(number) FROM crl_numbers WHERE issuer = ?1)",
    );
    Ok(query.bind(issuer.as_str()).bind(number.get()).fetch_one(connection).await?)
}

/// Everything that was revoked up to this number, which somebody else gave, is known here from now on; what is published next says it.
async fn note_taken_back(
    connection: &mut SqliteConnection,
    issuer: Issuer,
    number: CrlNumber,
) -> Result<(), StoreError> {
    note_number(connection, issuer, number).await?;
    let query = sqlx::query(
        "UPDATE crl_numbers SET contained_from = (SELECT last_number + 1 FROM crl_sequences WHERE issuer = ?1)
         WHERE issuer = ?1 AND number = ?2",
    );
    query.bind(issuer.as_str()).bind(number.get()).execute(connection).await?;
    Ok(())
}

/// Whether everything up to the base of a delta is known here: then the delta makes everything known up to its own number.
async fn knows_between(
    connection: &mut SqliteConnection,
    issuer: Issuer,
    base: CrlNumber,
    number: CrlNumber,
) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM crl_numbers WHERE issuer = ?1 AND number BETWEEN ?2 AND ?3)
             OR ?2 < (SELECT min(number) FROM crl_numbers WHERE issuer = ?1)",
    );
    Ok(query.bind(issuer.as_str()).bind(base.get()).bind(number.get()).fetch_one(connection).await?)
}

async fn known_serials(connection: &mut SqliteConnection, issuer: Issuer) -> Result<HashSet<Serial>, StoreError> {
    let sql = match issuer {
        Issuer::Root => "SELECT serial FROM revoked_authorities",
        Issuer::Issuing => "SELECT serial FROM revocations",
    };
    sqlx::query(sql).fetch_all(connection).await?.iter().map(records::serial).collect()
}

/// Whether it was not there.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    issuer: Issuer,
    entry: &RevokedEntry,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let sql = match issuer {
        Issuer::Root => {
            "INSERT INTO revoked_authorities (serial, revoked_at, reason, not_after) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (serial) DO NOTHING"
        }
        Issuer::Issuing => {
            "INSERT INTO revocations (serial, revoked_at, reason, not_after)
             VALUES (?1, ?2, ?3, coalesce((SELECT not_after FROM certificates WHERE serial = ?1), ?4))
             ON CONFLICT (serial) DO NOTHING"
        }
    };
    let inserted = sqlx::query(sql)
        .bind(entry.serial.magnitude())
        .bind(entry.revoked_at.unix())
        .bind(entry.reason.code())
        .bind(until.unix())
        .execute(connection)
        .await?;
    Ok(inserted.rows_affected() == 1)
}
