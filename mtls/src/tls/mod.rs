//! TLS 1.3 with certificates at both ends: this process's identity, the verifiers of peers' chains, and resumable
//! sessions.
//!
//! It never decides that a certificate is revoked: [`revocation`](crate::revocation) does. It never opens or accepts a
//! connection.

pub(crate) mod aside;
pub(crate) mod candidates;
pub(crate) mod client_verifier;
pub(crate) mod clock;
pub(crate) mod connecting;
pub(crate) mod generations;
pub(crate) mod identity;
pub(crate) mod issuers;
pub(crate) mod provider;
pub(crate) mod seen;
pub(crate) mod server_verifier;
pub(crate) mod sessions;
pub(crate) mod validation;
pub(crate) mod verified_chain;
pub(crate) mod verified_chains;
pub(crate) mod verifier;

pub use self::{
    clock::TlsClock,
    connecting::{NotTheAuthority, mutual_tls, pinned},
    identity::{Identity, IdentityError, ServerIdentity, load_key},
    issuers::ChainError,
    provider::provider,
    validation::PathValidator,
    verifier::{CheckClient, Verifier},
};
