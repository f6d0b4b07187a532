//! Sends many requests over a number of connections, each of its own, and counts what came of every one: for `-n`,
//! `--duration`, `--rate`, `-m` and `--handshakes`. To see how a client talks to a service, read [`crate::connection`].
//!
//! It never makes a request itself.

pub(crate) mod histogram;
mod lanes;
pub(crate) mod load;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod schedule;
pub(crate) mod summary;
