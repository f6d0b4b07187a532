//! What the live set says: why a peer is not let in, why a service is not ready, what became of a list.
//!
//! It never decides any of it.

use std::sync::Arc;

use pki::{
    certificate::{IssuerId, VerifiedId},
    crl::{CrlNumber, CrlVerifyError},
    time::Timestamp,
};

use super::{barriers::Barrier, staleness::Stale};

/// Why a peer is not let in, as far as revocation goes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody is let in at present.
    #[error("nobody is let in: {0}")]
    Barred(Barrier),
    /// A certificate in its chain is revoked.
    #[error("certificate {} is revoked", .0.serial)]
    Revoked(VerifiedId),
    /// There is no CRL for the issuer of a certificate in its chain.
    #[error("there is no CRL of {0}, so nobody with its certificates is let in")]
    NoCrl(IssuerId),
    /// What was in force for the issuer of a certificate in its chain before the restart is lost, and nothing that says as much has
    /// arrived since.
    #[error("the CRL of {issuer} is not in force, so nobody with its certificates is let in: {why}")]
    Withheld {
        /// Whose CRL.
        issuer: IssuerId,
        /// What became of it.
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

/// Why a service should not be sent clients, as far as revocation goes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// Nobody is let in at present.
    #[error("nobody is let in: {0}")]
    Barred(Barrier),
    /// There is no CRL for an issuer that is trusted.
    #[error("there is no CRL of {0}, so nobody with its certificates is let in")]
    NoCrl(IssuerId),
    /// What was in force for an issuer that is trusted before the restart is lost, and nothing that says as much has
    /// arrived since.
    #[error("the CRL of {issuer} is not in force, so nobody with its certificates is let in: {why}")]
    Withheld {
        /// Whose CRL.
        issuer: IssuerId,
        /// What became of it.
        why: Arc<str>,
    },
    /// The CRL of an issuer that is trusted is stale.
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

/// What became of a CRL that was believed.
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
        /// Where the complete CRL says that its delta lies (RFC 5280 section 5.2.6).
        delta_url: Option<String>,
    },
    /// It is believed, and not in force: what was in force before the restart said more, and is lost.
    Withheld {
        /// Its number.
        number: CrlNumber,
        /// The number that is needed.
        settled: CrlNumber,
        /// Where the complete CRL says that its delta lies (RFC 5280 section 5.2.6).
        delta_url: Option<String>,
    },
    /// A delta that moved on to a later base than the one that is here: it is in force together with what deltas before it brought
    /// (RFC 5280 section 5.2.4). Only with its own complete CRL it can be restored.
    WithoutItsBase {
        /// Its number.
        number: CrlNumber,
        /// How many certificates are revoked now.
        revoked: usize,
        /// How many open connections that ended.
        ended: usize,
    },
    /// It is the one that was in force already.
    Unchanged,
}

/// Why a CRL was not believed; what was in force stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// Not a CRL of a trusted issuer.
    #[error(transparent)]
    Verify(#[from] CrlVerifyError),
    /// A CRL that was in force before is played again (or the authority was restored from an old backup).
    #[error("CRL number {offered} of {issuer} is lower than {in_force}, which is in force")]
    LowerNumber {
        /// Whose CRL.
        issuer: IssuerId,
        /// The number that arrived.
        offered: CrlNumber,
        /// The number that is in force.
        in_force: CrlNumber,
    },
    /// Two lists with one number: the authority was restored from an old backup and has counted again.
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
    /// It lacks something that is enforced, and the authority has not vouched for that.
    #[error(
        "CRL number {offered} of {issuer} lacks revocations that are enforced here by number {in_force}, and the authority does not \
         say that it knows them; was its database restored from an older copy?"
    )]
    Lacks {
        /// Whose CRL.
        issuer: IssuerId,
        /// The number that arrived.
        offered: CrlNumber,
        /// The number that is in force.
        in_force: CrlNumber,
    },
    /// The authority has announced another list with this number.
    #[error("CRL number {number} of {issuer} is not the list that the authority has announced with that number")]
    NotAnnounced {
        /// Whose CRL.
        issuer: IssuerId,
        /// The number of both.
        number: CrlNumber,
    },
    /// A delta to a complete CRL that is newer than the one in force, or to none; the complete CRL has to be fetched.
    #[error("the delta of {issuer} is based on CRL number {base}, and that complete CRL, or a later one, is not here")]
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
    /// Its thisUpdate is ahead by more than clocks may differ.
    #[error("CRL number {number} is not valid before {this_update}; check this machine's clock and the authority's")]
    NotYetValid {
        /// Its number.
        number: CrlNumber,
        /// Its thisUpdate.
        this_update: Timestamp,
    },
}

/// How current the list of one issuer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Whose list.
    pub issuer: IssuerId,
    /// The list in force, if one ever arrived and is not withheld.
    pub list: Option<ListInForce>,
}

/// A list in force. Where one issuer has several, the one that is stale first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListInForce {
    /// Its CRL number.
    pub number: CrlNumber,
    /// Its thisUpdate.
    pub this_update: Timestamp,
    /// Its nextUpdate.
    pub next_update: Timestamp,
    /// How many certificates of this issuer are revoked, by all its lists together.
    pub revoked: usize,
    /// When it is stale here: its nextUpdate, or as much earlier as the clock was set back since the list came.
    pub good_until: Timestamp,
    /// Until when clients are judged by it: its nextUpdate, or later where a stale list has some grace. After that they are refused.
    pub admits_until: Timestamp,
}
