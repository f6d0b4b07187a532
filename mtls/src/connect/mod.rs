//! Connections to other hosts for HTTP requests.
//!
//! It never judges the server: the given TLS configuration does.

pub(crate) mod contact;
pub(crate) mod tcp;
