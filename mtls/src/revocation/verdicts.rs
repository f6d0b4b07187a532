//! The results of the live set: why a peer is refused, why a service is not ready, what happened to a CRL.
//!
//! It never decides any of them.

use std::sync::Arc;

use pki::{
    certificate::{IssuerId, VerifiedId},
    crl::{CrlNumber, CrlVerifyError},
    time::Timestamp,
};

use super::{barriers::Barrier, staleness::Stale};

/// Why a peer is refused because of revocation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody is admitted at present.
    #[error("nobody is let in: {0}")]
    Barred(Barrier),
    /// A certificate in its chain is revoked.
    #[error("certificate {} is revoked", .0.serial)]
    Revoked(VerifiedId),
    /// There is no CRL for the issuer of a certificate in its chain.
    #[error("there is no CRL of {0}, so nobody with its certificates is let in")]
    NoCrl(IssuerId),
    /// The CRL that was in force before the restart, for the issuer of a certificate in its chain, is lost. No CRL that
    /// is at least as new has arrived since.
    #[error("the CRL of {issuer} is not in force, so nobody with its certificates is let in: {why}")]
    Withheld {
        /// Whose CRL.
        issuer: IssuerId,
        /// What happened to it.
        why: Arc<str>,
    },
    /// The CRL for the issuer of a certificate in its chain is stale, and any grace is over.
    #[error("the CRL of {issuer} is stale since {since}, so nobody with its certificates is let in")]
    StaleCrl {
        /// Whose CRL.
        issuer: IssuerId,
        /// Its nextUpdate.
        since: Timestamp,
    },
}

/// Why a service should get no clients, as far as revocation is concerned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// Nobody is admitted at present.
    #[error("nobody is let in: {0}")]
    Barred(Barrier),
    /// There is no CRL for a trusted issuer.
    #[error("there is no CRL of {0}, so nobody with its certificates is let in")]
    NoCrl(IssuerId),
    /// The CRL that was in force for a trusted issuer before the restart is lost. No CRL that is at least as new has
    /// arrived since.
    #[error("the CRL of {issuer} is not in force, so nobody with its certificates is let in: {why}")]
    Withheld {
        /// Whose CRL.
        issuer: IssuerId,
        /// What happened to it.
        why: Arc<str>,
    },
    /// The CRL of a trusted issuer is stale.
    #[error("the CRL of {issuer} is stale since {since}; clients are {clients}")]
    StaleCrl {
        /// Whose CRL.
        issuer: IssuerId,
        /// Its nextUpdate.
        since: Timestamp,
        /// What happens to clients.
        clients: Stale,
    },
}

/// What happened to a valid CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// It is in force now.
    Replaced {
        /// Whose it is.
        issuer: IssuerId,
        /// Its number.
        number: CrlNumber,
        /// How many certificates it revokes.
        revoked: usize,
        /// How many open connections that ended.
        ended: usize,
        /// The URL of the delta, from the complete CRL (RFC 5280 section 5.2.6).
        delta_url: Option<String>,
    },
    /// It is valid, but not in force: a newer CRL was in force before the restart, and is lost.
    Withheld {
        /// Its number.
        number: CrlNumber,
        /// The number that is needed.
        settled: CrlNumber,
        /// The URL of the delta, from the complete CRL (RFC 5280 section 5.2.6).
        delta_url: Option<String>,
    },
    /// A delta with a later base than the one that is present. It is in force together with what earlier deltas added
    /// (RFC 5280 section 5.2.4). It can only be restored together with its own complete CRL.
    WithoutItsBase {
        /// Its number.
        number: CrlNumber,
        /// How many certificates are revoked now.
        revoked: usize,
        /// How many open connections that ended.
        ended: usize,
    },
    /// It was in force already.
    Unchanged,
}

/// Why a CRL was refused. What was in force stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// Not a CRL of a trusted issuer.
    #[error(transparent)]
    Verify(#[from] CrlVerifyError),
    /// An older CRL was replayed, or the authority was restored from an old backup.
    #[error("CRL number {offered} of {issuer} is lower than {in_force}, which is in force")]
    LowerNumber {
        /// Whose CRL.
        issuer: IssuerId,
        /// The number that arrived.
        offered: CrlNumber,
        /// The number that is in force.
        in_force: CrlNumber,
    },
    /// Two different CRLs have the same number: the authority was restored from an old backup and reused the number.
    #[error(
        "CRL number {number} of {issuer} is another list than the one with that number that is in force; \
         sign a CRL with a higher number at the authority: ca-daemon crl --resign"
    )]
    OtherList {
        /// Whose CRL.
        issuer: IssuerId,
        /// The number of both.
        number: CrlNumber,
    },
    /// It lacks revocations that are enforced, and the authority has not vouched for that.
    #[error(
        "CRL number {offered} of {issuer} lacks revocations that are enforced here by number {in_force}, and the \
         authority does not say that it knows them; was its database restored from an older copy?"
    )]
    Lacks {
        /// Whose CRL.
        issuer: IssuerId,
        /// The number that arrived.
        offered: CrlNumber,
        /// The number that is in force.
        in_force: CrlNumber,
    },
    /// The authority has announced another CRL with this number.
    #[error("CRL number {number} of {issuer} is not the list that the authority has announced with that number")]
    NotAnnounced {
        /// Whose CRL.
        issuer: IssuerId,
        /// The number of both.
        number: CrlNumber,
    },
    /// The base of the delta is newer than the complete CRL in force, or there is none in force. The complete CRL has
    /// to be fetched.
    #[error(
        "the delta of {issuer} is based on CRL number {base}, and neither that complete CRL nor a later one is \
             present"
    )]
    MissingBase {
        /// Whose delta.
        issuer: IssuerId,
        /// The number of its base.
        base: CrlNumber,
    },
    /// Its nextUpdate has passed.
    #[error(
        "CRL number {number} was stale when it arrived: its nextUpdate was {next_update}; \
         check this machine's clock, and whether the authority still signs"
    )]
    Stale {
        /// Its number.
        number: CrlNumber,
        /// Its nextUpdate.
        next_update: Timestamp,
    },
    /// Its thisUpdate is ahead by more than the permitted clock skew.
    #[error("CRL number {number} is not valid before {this_update}; check this machine's clock and the authority's")]
    NotYetValid {
        /// Its number.
        number: CrlNumber,
        /// Its thisUpdate.
        this_update: Timestamp,
    },
}

/// How current the CRL of one issuer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Whose CRL.
    pub issuer: IssuerId,
    /// The CRL in force, if one has arrived and is not withheld.
    pub list: Option<ListInForce>,
}

/// A CRL in force. If an issuer has several, the one that becomes stale first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListInForce {
    /// Its CRL number.
    pub number: CrlNumber,
    /// Its thisUpdate.
    pub this_update: Timestamp,
    /// Its nextUpdate.
    pub next_update: Timestamp,
    /// How many certificates of this issuer are revoked, by all its CRLs together.
    pub revoked: usize,
    /// When it becomes stale here: its nextUpdate, or earlier by as much as the clock was set back since the CRL
    /// arrived.
    pub good_until: Timestamp,
    /// Until when it decides about clients: its nextUpdate plus any grace. After that they are refused.
    pub admits_until: Timestamp,
}
