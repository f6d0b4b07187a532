//! A client of the fleet: enrolls with a token, sends requests over mutual TLS, and reports the results.
//!
//! It never has any secret but its own private key and a token.
//!
//! To see how a client uses `mtls`, read `enroll.rs`, then `request.rs` and `connection.rs`. `loadgen/` is for
//! measurements.

pub mod cli;
pub mod output;

mod alert;
mod connection;
mod enroll;
mod examples;
mod loadgen;
mod outcome;
mod renew;
mod repeat;
mod request;
mod status;
mod stop;
