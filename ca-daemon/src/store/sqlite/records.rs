//! The records that the store keeps, and how a column becomes a value that cannot be wrong.
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

/// What a certificate is worth now. Revoked goes before expired: it says more.
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
    /// It would be valid, but the issuing CA above it is revoked, and so is all that it issued.
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
    /// When somebody brought it along, if a restored database did not know it otherwise.
    pub(crate) adopted_at: Option<Timestamp>,
    pub(crate) status: Status,
}

impl CertificateRecord {
    /// What there will be of a certificate once it is recorded out of its file.
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

/// What became of one order to revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revocation {
    New,
    AlreadyRevoked { at: Timestamp, reason: RevocationReason },
}

/// What there is to know about an issuer's current CRL without reading it: with a million entries it has 35 MB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CrlHead {
    pub(crate) issuer: Issuer,
    pub(crate) number: CrlNumber,
    pub(crate) this_update: Timestamp,
    pub(crate) next_update: Timestamp,
    /// thisUpdate of the CRL before it; none for the first.
    pub(crate) previous_update: Option<Timestamp>,
}

impl CrlHead {
    /// Whether relying parties that have no other refuse everybody by now.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        now > self.next_update
    }

    /// Whether relying parties whose clocks are right refuse it because it was issued by a clock that was ahead.
    pub(crate) fn is_from_the_future(&self, now: Timestamp) -> bool {
        self.this_update > now.plus(CLOCK_SKEW)
    }

    /// When it is to be followed by the next: a third of its life after it was issued. At once if the clock was ahead
    /// then and has been set right: waiting for that future would leave relying parties without a CRL until it comes.
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

/// What a signed list consists of, for whoever compares it with what was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) sha256: Fingerprint,
}

impl Contents {
    /// It reads the whole list, which may be long.
    pub(crate) fn of(der: &[u8]) -> Self {
        Self { size: u64::try_from(der.len()).unwrap_or(u64::MAX), sha256: Fingerprint::of(der) }
    }
}

/// The newest CRL number of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    /// That can be fetched, in a complete CRL or a delta.
    pub(crate) number: CrlNumber,
    /// Of the complete CRL; lower while that waits to be signed together with what comes next.
    pub(crate) complete: CrlNumber,
    /// What the complete CRL consists of, unless an older program signed it.
    pub(crate) complete_contents: Option<Contents>,
    /// The delta's number, and what it consists of.
    pub(crate) delta: Option<(CrlNumber, Option<Contents>)>,
    /// What was published before a restore and is not known here.
    pub(crate) ahead: Option<Ahead>,
    /// Whether higher numbers were given than can be fetched, by a list that was taken back or before a restore, so that the next
    /// one is due.
    pub(crate) is_overtaken: bool,
}

/// This database is an older copy, and has forgotten revocations that were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this database is an older copy: by the mark beside it (ca.mark), {issuer} CRL numbers up to {number} were given, and number \
     {revoking} revoked something that is not known here. No {issuer} CRL is published by itself until this is mended. It is, when \
     a relying party that enforces number {revoking} or a later one hands it over, which it does as soon as it is on the feed. If \
     none does: ca-daemon crl --import FILE... with the CRLs that a service keeps on its disk (*.crl), or any copy of them. If there is \
     none: revoke again what was revoked since the copy was made, and then, or if nothing was: ca-daemon crl{} --resign",
    .issuer.option()
)]
pub(crate) struct Ahead {
    pub(crate) issuer: Issuer,
    /// The highest number that was given, ...
    pub(crate) number: CrlNumber,
    /// ... and the highest with a new revocation: from there on, each list has all of them.
    pub(crate) revoking: CrlNumber,
}

/// How often a token may enroll, and how often it did.
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

/// Why a token that exists enrolls nobody any more.
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

    /// Whether it can enroll somebody now.
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

    /// Whether what was enrolled with it may still be handed out to whoever lost the answer.
    pub(crate) fn check_not_revoked(&self) -> Result<(), TokenRefusal> {
        self.revoked_at.map_or(Ok(()), |at| Err(TokenRefusal::Revoked { at }))
    }
}

/// `issuer`: since when the issuing CA is revoked, if it is.
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

/// A signed list that is kept in one piece.
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

/// As [`parse`], of what was recorded under rules that may have been wider than those for what is new.
pub(super) fn recorded<T: TryFrom<String, Error: fmt::Display>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get::<String, _>(column)?.try_into().map_err(|error| StoreError::damaged(column, &error))
}

pub(super) fn from_json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(row.try_get(column)?).map_err(|error| StoreError::damaged(column, &error))
}

pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names and patterns serialize to strings and lists of strings")
}

/// As `unhex` reads it: a list of octet strings goes into a statement as JSON, which has none.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        write!(text, "{octet:02x}").expect("writing to a string does not fail");
        text
    })
}
