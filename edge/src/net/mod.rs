//! Finds the addresses of other hosts.
//!
//! It never connects.

pub mod resolver;
