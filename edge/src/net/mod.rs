//! How other hosts are found.
//!
//! It never connects.

pub mod resolver;
