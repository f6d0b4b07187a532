//! The questions, one file each. Every one sets up what it needs, measures in rounds, and answers with a table.

pub(crate) mod authority;
pub(crate) mod balanced;
pub(crate) mod beside;
pub(crate) mod effect;
pub(crate) mod enrollments;
pub(crate) mod footprint;
pub(crate) mod handshakes;
pub(crate) mod latency;
pub(crate) mod live_set;
pub(crate) mod requests;
pub(crate) mod revocation;
pub(crate) mod servers;
pub(crate) mod swap;
