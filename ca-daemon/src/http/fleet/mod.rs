//! What the holders of certificates ask over mutual TLS: relying parties on the feed, and whoever renews.
//!
//! It never answers a peer without a valid certificate of this authority.

pub(in crate::http) mod feed;
pub(in crate::http) mod handed_over;
pub(in crate::http) mod known;
pub(in crate::http) mod peer;
pub(in crate::http) mod renew;
