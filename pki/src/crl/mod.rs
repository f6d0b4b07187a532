//! Certificate revocation lists (RFC 5280 section 5): what one contains, how it is drafted and signed, and how a
//! received one is verified.
//!
//! It never decides what is revoked, nor whether a list is fresh enough to be used.
//!
//! CRLs are read and written by hand, without a library: none reads a list without allocating each of its entries, and
//! a list may have a million. Scanning the DER of such a list in place takes 11 ms; writing it needs one buffer.

mod encoding;
mod entry;
mod error;
mod number;
mod read;
mod scope;
pub(crate) mod sign;
mod verify;
mod write;

pub use self::{
    entry::{RevocationReason, RevokedEntries, RevokedEntry, Streamed, UnknownReason},
    error::{CrlError, CrlVerifyError},
    number::{CrlNumber, NegativeNumber},
    sign::{CrlDraft, DeltaDraft, SignedCrl},
    verify::{CrlIssuer, VerifiedCrl, VerifiedDelta, VerifiedList},
    write::EncodedEntries,
};
pub use crate::publication::{ISSUING_CRL_PATH, ROOT_CRL_PATH, SERVERS_CRL_PATH, servers_crl_url};
