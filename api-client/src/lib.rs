//! The client of the fleet: enrolls with a token, sends requests over mutual TLS, and says what came of them.
//!
//! It never holds anything but its own key and certificates.
//!
//! To see how a client uses `mtls`, read `enroll.rs`, then `request.rs` and `connection.rs`. What is in `loadgen/` is about measuring.

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
