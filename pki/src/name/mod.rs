//! The names in certificates, and the patterns that a token allows.
//!
//! It never decides who may have a name; [`crate::policy`] does.

mod host;
mod pattern;
mod rule;
mod subject;
mod trust_domain;
mod visible;

pub use self::{
    host::Host,
    pattern::{HostPattern, NamePattern},
    rule::NameError,
    subject::{AuthorityName, CommonName, Organization},
    trust_domain::TrustDomain,
    visible::Visible,
};
