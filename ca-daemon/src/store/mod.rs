//! The database of the authority. Each method of [`Store`] is a whole business transaction.
//!
//! It never decides what is allowed and never signs. A transaction that needs a signature receives a signer.

mod error;
mod sqlite;

pub(crate) use self::{
    error::StoreError,
    sqlite::{
        Ahead, Candidate, CertificateRecord, Condemned, Contents, CrlHead, CrlRecord, Enrollment, Entitlement, Filter,
        Founding, InstanceKey, IssuerRevocation, Lines, Live, Newest, NotReplaced, Period, PredecessorRefusal,
        Recorded, Refusal, RelyingParty, RenewalOrder, RenewalProgress, Revocation, Revoked, SignedList, Status, Store,
        StrayRevocation, TakenBack, Tallies, Target, TokenRecord, TokenRefusal, TokenRevocation, Uncertifiable, Uses,
        Wanted, WithTokens,
    },
};
