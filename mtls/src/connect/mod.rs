//! Connections to other hosts, over which HTTP requests are sent.
//!
//! It never judges who is at the other end: the TLS configuration that it is given does.

pub(crate) mod contact;
pub(crate) mod tcp;
