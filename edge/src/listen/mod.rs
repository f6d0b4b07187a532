//! The limits of a listener: how many files the process may open, and how many connections may be open at once.
//!
//! It never accepts a connection.

pub mod bounded;
pub mod file_limit;
