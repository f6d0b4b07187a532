//! A service of the fleet: it answers who its client is, to clients whose certificate is not revoked.
//!
//! It never issues anything and knows no database; what it does about revocation is `mtls`'s.

pub mod config;
pub mod server;

mod hello;
mod metrics;
mod operations;
