//! Sends many requests over a number of connections and counts the outcomes: for `-n`, `--duration`, `--rate`, `-m` and
//! `--handshakes`. To see how a client sends one request, read [`crate::connection`].
//!
//! It never makes an HTTP request itself.

pub(crate) mod histogram;
mod lanes;
pub(crate) mod load;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod schedule;
pub(crate) mod summary;
