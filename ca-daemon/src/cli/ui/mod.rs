//! How commands read their arguments, print, and write files.
//!
//! It never depends on the command that uses it.

pub(in crate::cli) mod arguments;
pub(in crate::cli) mod columns;
pub(in crate::cli) mod output;
pub(in crate::cli) mod spool;
pub(in crate::cli) mod targets;
