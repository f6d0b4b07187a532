//! The certificate authority: it enrolls, issues, revokes and publishes, over HTTP and from the command line.
//!
//! It never decides for a relying party whether a client is revoked. Relying parties do that, with `mtls`.

mod authority;
pub mod cli;
mod daemon;
mod feed;
mod home;
mod http;
mod issuer;
mod metrics;
mod operator;
mod settings;
mod store;

pub use daemon::{Daemon, Listen, StartError};
