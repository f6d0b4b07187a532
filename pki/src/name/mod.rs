//! The names that certificates carry, and the patterns by which a token allows them.
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
