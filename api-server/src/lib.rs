//! A service of the fleet: it answers who its client is. Clients with a revoked certificate are refused.
//!
//! It never issues a certificate and has no database. `mtls` decides about revocation.

pub mod config;
pub mod server;

mod hello;
mod metrics;
mod operations;
mod own;
