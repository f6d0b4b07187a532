//! What relying parties and clients experience, over real sockets and at a time that each test sets.

#![expect(clippy::unwrap_used, reason = "a test whose surroundings cannot be built has failed")]

mod common;

mod announced;
mod attacks;
mod clocks;
mod corpus;
mod draining;
mod enrollment;
mod example;
mod feed;
mod foreign;
mod handshake;
mod identity;
mod issuers;
mod keeper;
mod lacking;
mod live_set;
mod proxy;
mod returning;
mod slow_peers;
mod staleness;
mod standing;
