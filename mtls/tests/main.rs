//! Tests of relying parties and clients over real sockets, with clocks that each test sets.

#![expect(clippy::unwrap_used, reason = "a test whose surroundings cannot be built has failed")]

mod common;

mod announced;
mod attacks;
mod clocks;
mod corpus;
mod deadlines;
mod draining;
mod endings;
mod enrollment;
mod example;
mod feed;
mod foreign;
mod handshake;
mod identity;
mod instance;
mod issuers;
mod keeper;
mod kept;
mod lacking;
mod live_set;
mod own;
mod proxy;
mod returning;
mod servers;
mod slow_peers;
mod staleness;
mod standing;
mod stock;
