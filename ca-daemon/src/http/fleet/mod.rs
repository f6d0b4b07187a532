//! What relying parties ask over mutual TLS.
//!
//! It never answers a peer without a valid server certificate of this authority.

pub(in crate::http) mod feed;
pub(in crate::http) mod handed_over;
pub(in crate::http) mod known;
