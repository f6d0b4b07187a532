//! The records of the store, and how columns are parsed into types that cannot hold a wrong value.
//!
//! It never queries.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
    time::Duration,
};

use pki::{
    certificate::Fingerprint,
    crl::{CrlNumber, RevocationReason},
    issuing::IssuedCertificate,
    policy::Grant,
    profile::Profile,
    serial::Serial,
    time::{Timestamp, Validity},
    token::{SecretHash, TokenId},
};
use rustls_pki_types::CertificateDer;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{IssuerRevocation, StoreError};
use crate::issuer::Issuer;

/// How far a relying party's clock may be behind before it refuses a CRL as one from the future.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// The status of a certificate. Revoked comes before expired, because it says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "camelCase")]
pub(crate) enum Status {
    Valid,
    #[serde(rename_all = "camelCase")]
    Revoked {
        #[serde(rename = "revokedAt")]
        at: Timestamp,
        reason: RevocationReason,
    },
    Expired,
    /// It would be valid, but the issuing CA is revoked, and with it every certificate below it.
    #[serde(rename_all = "camelCase")]
    IssuerRevoked {
        #[serde(rename = "issuerRevokedAt")]
        at: Timestamp,
        reason: RevocationReason,
    },
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Revoked { .. } => "revoked",
            Self::Expired => "expired",
            Self::IssuerRevoked { .. } => "issuer revoked",
        }
    }
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub(crate) struct CertificateRecord {
    pub(crate) serial: Serial,
    pub(crate) common_name: String,
    pub(crate) profile: Profile,
    /// The token it was enrolled with; none if the operator or the authority itself ordered it.
    pub(crate) token: Option<TokenId>,
    pub(crate) validity: Validity,
    pub(crate) issued_at: Timestamp,
    pub(crate) der: CertificateDer<'static>,
    /// When it was added from its file, if a restored database did not know it.
    pub(crate) adopted_at: Option<Timestamp>,
    pub(crate) status: Status,
}

impl CertificateRecord {
    /// The record of a certificate that is added from its file.
    pub(crate) fn of_stray(stray: &IssuedCertificate, now: Timestamp) -> Self {
        let validity = stray.info.validity;
        Self {
            serial: stray.info.id.serial,
            common_name: stray.info.display_name(),
            profile: stray.profile,
            token: None,
            validity,
            issued_at: validity.not_before,
            der: stray.der.clone(),
            adopted_at: Some(now),
            status: if now > validity.not_after { Status::Expired } else { Status::Valid },
        }
    }
}

/// The result of one order to revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revocation {
    New,
    AlreadyRevoked { at: Timestamp, reason: RevocationReason },
}

/// The number and dates of an issuer's current CRL, without its 35 MB for a million entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CrlHead {
    pub(crate) issuer: Issuer,
    pub(crate) number: CrlNumber,
    pub(crate) this_update: Timestamp,
    pub(crate) next_update: Timestamp,
    /// `thisUpdate` of the previous CRL; none for the first.
    pub(crate) previous_update: Option<Timestamp>,
}

impl CrlHead {
    /// Whether relying parties with only this CRL refuse everybody.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        now > self.next_update
    }

    /// Whether relying parties with correct clocks refuse it, because it was issued by a clock that was ahead.
    pub(crate) fn is_from_the_future(&self, now: Timestamp) -> bool {
        self.this_update > now.plus(CLOCK_SKEW)
    }

    /// When the next one is to be signed: after a third of its life. At once if it was issued by a clock that was ahead
    /// and has been corrected: otherwise relying parties have no CRL until that time comes.
    pub(crate) fn successor_due(&self, now: Timestamp) -> Timestamp {
        if self.this_update > now {
            return now;
        }
        self.this_update.plus(self.next_update.since(self.this_update) / 3)
    }
}

/// The current CRL of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CrlRecord {
    pub(crate) head: CrlHead,
    pub(crate) der: Vec<u8>,
}

/// Size and digest of a signed CRL, to be compared with what was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) sha256: Fingerprint,
}

impl Contents {
    /// Hashes the whole CRL, which may be large.
    pub(crate) fn of(der: &[u8]) -> Self {
        Self { size: u64::try_from(der.len()).unwrap_or(u64::MAX), sha256: Fingerprint::of(der) }
    }
}

/// The newest CRL number of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    /// The highest number that can be downloaded, complete or delta.
    pub(crate) number: CrlNumber,
    /// The number of the complete CRL. It is lower while signing it is coalesced.
    pub(crate) complete: CrlNumber,
    /// Size and digest of the complete CRL; none if an older release signed it.
    pub(crate) complete_contents: Option<Contents>,
    /// The number of the delta, and its size and digest.
    pub(crate) delta: Option<(CrlNumber, Option<Contents>)>,
    /// Set if CRLs were published before a restore that are not known here.
    pub(crate) ahead: Option<Ahead>,
    /// Whether higher numbers were used than can be downloaded, by a CRL that was taken back or before a restore. If
    /// so, the next CRL is due.
    pub(crate) is_overtaken: bool,
}

/// This database is an older copy and lacks revocations that were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this database is an older copy: the mark beside it (ca.mark) has {issuer} CRL numbers up to {number}, and number \
     {revoking} revoked something that is not known here. No {issuer} CRL is published by itself until the missing \
     revocations are back. A relying party that enforces number {revoking} or a later one hands them over as soon as \
     it is on the feed. If none does, run: ca-daemon crl --import FILE... with the CRLs that a service keeps on its \
     disk (*.crl), or with any copy of them. If there is no copy, revoke again what was revoked since this database \
     was copied, then run: ca-daemon crl{} --resign",
    .issuer.option()
)]
pub(crate) struct Ahead {
    pub(crate) issuer: Issuer,
    /// The highest number that was used.
    pub(crate) number: CrlNumber,
    /// The highest number that came with a new revocation. CRLs from this number on have all of them.
    pub(crate) revoking: CrlNumber,
}

/// How many certificates a token may enroll, and how many it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uses {
    pub(crate) allowed: u32,
    pub(crate) used: u32,
}

/// A token, without its secret.
#[derive(Clone, Debug)]
pub(crate) struct TokenRecord {
    pub(crate) hash: SecretHash,
    pub(crate) grant: Grant,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) uses: Uses,
    pub(crate) revoked_at: Option<Timestamp>,
}

/// Why a token that exists enrolls no more certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefusal {
    #[error("the token was revoked at {at}; ask for a new one: ca-daemon token create")]
    Revoked { at: Timestamp },
    #[error(
        "the token is used up (uses: {uses}), and no certificate was issued with it for this key and these names; \
         ask for a new one: ca-daemon token create"
    )]
    UsedUp { uses: u32 },
    #[error("the token expired at {at}; ask for a new one: ca-daemon token create")]
    Expired { at: Timestamp },
}

impl TokenRefusal {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Revoked { .. } => "revoked",
            Self::UsedUp { .. } => "used-up",
            Self::Expired { .. } => "expired",
        }
    }
}

impl TokenRecord {
    pub(crate) fn id(&self) -> TokenId {
        self.hash.id()
    }

    /// Whether it can enroll now.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), TokenRefusal> {
        self.check_not_revoked()?;
        if self.uses.used >= self.uses.allowed {
            return Err(TokenRefusal::UsedUp { uses: self.uses.allowed });
        }
        if now > self.expires_at {
            return Err(TokenRefusal::Expired { at: self.expires_at });
        }
        Ok(())
    }

    /// Whether a certificate that was enrolled with it may still be sent to a client that lost the answer.
    pub(crate) fn check_not_revoked(&self) -> Result<(), TokenRefusal> {
        self.revoked_at.map_or(Ok(()), |at| Err(TokenRefusal::Revoked { at }))
    }
}

/// `issuer`: when and why the issuing CA was revoked, if it was.
pub(super) fn certificate(
    row: &SqliteRow,
    issuer: Option<IssuerRevocation>,
    now: Timestamp,
) -> Result<CertificateRecord, StoreError> {
    let validity = Validity { not_before: time(row, "not_before")?, not_after: time(row, "not_after")? };
    let status = match optional_time(row, "revoked_at")? {
        Some(at) => Status::Revoked { at, reason: reason(row)? },
        None if now > validity.not_after => Status::Expired,
        None => issuer.map_or(Status::Valid, |IssuerRevocation { at, reason }| Status::IssuerRevoked { at, reason }),
    };
    let token: Option<String> = row.try_get("token_id")?;
    Ok(CertificateRecord {
        serial: serial(row)?,
        common_name: row.try_get("common_name")?,
        profile: parse(row, "profile")?,
        token: token.map(|id| id.parse()).transpose().map_err(|error| StoreError::damaged("token_id", &error))?,
        validity,
        issued_at: time(row, "issued_at")?,
        der: row.try_get::<Vec<u8>, _>("der")?.into(),
        adopted_at: optional_time(row, "adopted_at")?,
        status,
    })
}

pub(super) fn token(row: &SqliteRow) -> Result<TokenRecord, StoreError> {
    let count = |column| -> Result<u32, StoreError> {
        u32::try_from(row.try_get::<i64, _>(column)?).map_err(|error| StoreError::damaged(column, &error))
    };
    Ok(TokenRecord {
        hash: SecretHash::from_bytes(octets(row, "secret_sha256")?),
        grant: from_json(row, "granted")?,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
        uses: Uses { allowed: count("uses")?, used: count("used")? },
        revoked_at: optional_time(row, "revoked_at")?,
    })
}

pub(super) fn crl_head(row: &SqliteRow, issuer: Issuer) -> Result<CrlHead, StoreError> {
    Ok(CrlHead {
        issuer,
        number: number(row, "number")?,
        this_update: time(row, "this_update")?,
        next_update: time(row, "next_update")?,
        previous_update: optional_time(row, "previous_update")?,
    })
}

/// A signed CRL that is stored in one piece.
pub(super) fn crl(row: &SqliteRow, issuer: Issuer) -> Result<CrlRecord, StoreError> {
    Ok(CrlRecord { head: crl_head(row, issuer)?, der: row.try_get("der")? })
}

pub(super) fn already_revoked(row: &SqliteRow) -> Result<Revocation, StoreError> {
    Ok(Revocation::AlreadyRevoked { at: time(row, "revoked_at")?, reason: reason(row)? })
}

pub(super) fn number(row: &SqliteRow, column: &'static str) -> Result<CrlNumber, StoreError> {
    CrlNumber::new(row.try_get(column)?).ok_or_else(|| StoreError::damaged(column, &"below zero"))
}

pub(super) fn serial(row: &SqliteRow) -> Result<Serial, StoreError> {
    Serial::from_magnitude(row.try_get("serial")?).map_err(|error| StoreError::damaged("serial", &error))
}

pub(super) fn reason(row: &SqliteRow) -> Result<RevocationReason, StoreError> {
    RevocationReason::from_code(row.try_get("reason")?).ok_or_else(|| StoreError::damaged("reason", &"unknown code"))
}

pub(super) fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_unix(row.try_get(column)?))
}

pub(super) fn optional_time(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_unix))
}

pub(super) fn octets<const N: usize>(row: &SqliteRow, column: &'static str) -> Result<[u8; N], StoreError> {
    row.try_get::<&[u8], _>(column)?.try_into().map_err(|error| StoreError::damaged(column, &error))
}

pub(super) fn parse<T: FromStr<Err: fmt::Display>>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    row.try_get::<&str, _>(column)?.parse().map_err(|error| StoreError::damaged(column, &error))
}

/// As [`parse`], for values that may have been recorded under more permissive rules than apply to new ones.
pub(super) fn recorded<T: TryFrom<String, Error: fmt::Display>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get::<String, _>(column)?.try_into().map_err(|error| StoreError::damaged(column, &error))
}

pub(super) fn from_json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(row.try_get(column)?).map_err(|error| StoreError::damaged(column, &error))
}

/// For `json_each`, whose values SQL turns back with `unhex`.
pub(super) fn serials_to_json(serials: &[Serial]) -> String {
    to_json(&serials.iter().map(|serial| hex(serial.magnitude())).collect::<Vec<_>>())
}

pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names and patterns serialize to strings and lists of strings")
}

/// Encodes bytes for SQLite's `unhex`. A list of byte strings is bound as JSON, which has no byte strings.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        write!(text, "{octet:02x}").expect("writing to a string does not fail");
        text
    })
}
