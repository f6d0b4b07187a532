//! The client of the fleet: enrolls with a token, sends requests over mutual TLS, and says what came of them.
//!
//! It never holds anything but its own key and certificates.

pub mod cli;

mod alert;
mod enroll;
mod examples;
mod histogram;
mod lanes;
mod load;
mod outcome;
mod progress;
mod repeat;
mod request;
mod schedule;
mod status;
mod stop;
