//! The commands, one file each. `revoke` has a module of its own.
//!
//! They never read the system's clock; the context has a clock.

pub(in crate::cli) mod crl;
pub(in crate::cli) mod examples;
pub(in crate::cli) mod healthcheck;
pub(in crate::cli) mod init;
pub(in crate::cli) mod issue;
pub(in crate::cli) mod list;
pub(in crate::cli) mod relying_parties;
pub(in crate::cli) mod renew;
pub(in crate::cli) mod renewals;
pub(in crate::cli) mod serve;
pub(in crate::cli) mod show;
pub(in crate::cli) mod start;
pub(in crate::cli) mod token;
