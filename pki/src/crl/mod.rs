//! Certificate revocation lists (RFC 5280 section 5): contents, drafts, signing and verification.
//!
//! It never decides what is revoked, or whether a CRL is fresh enough.
//!
//! CRLs are read and written by hand, without a library: the libraries allocate each entry, and a CRL may have a
//! million. Scanning the DER of such a CRL in place takes 11 ms; writing it needs one buffer.

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
