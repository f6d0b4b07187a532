//! The certificate authority: it enrolls, issues, revokes and publishes, over HTTP and from the command line.
//!
//! It never verifies a peer's revocation itself; relying parties do, with `mtls`.

mod authority;
pub mod cli;
mod control;
mod daemon;
mod directory;
mod feed;
mod founding;
mod http;
mod metrics;
mod peers;
mod settings;
mod store;
mod upkeep;

pub use daemon::{Daemon, Listen, StartError};
