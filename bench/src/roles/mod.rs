//! Parts that this program plays as a process of its own, so that their memory and processor time can be told from the
//! measuring side's.
//!
//! What serves is killed in the end; what measures itself ends by itself.

use clap::Subcommand;

pub(crate) mod enrolling;
pub(crate) mod lists;
mod relying_parties;
mod service;

#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Many relying parties in one process.
    RelyingParties(relying_parties::Arguments),
    /// A service with the check of revocation, or without.
    Service(service::Arguments),
    /// Clients that enroll.
    Enrolling(enrolling::Arguments),
    /// Signs lists.
    SignLists(lists::Arguments),
    /// Loads lists, and asks the live set.
    LoadLists(lists::Arguments),
}

impl Role {
    pub(crate) async fn play(self) -> anyhow::Result<()> {
        match self {
            Self::RelyingParties(arguments) => relying_parties::play(arguments).await,
            Self::Service(arguments) => service::play(arguments).await,
            Self::Enrolling(arguments) => enrolling::play(arguments).await,
            Self::SignLists(arguments) => lists::sign(&arguments),
            Self::LoadLists(arguments) => lists::load(&arguments),
        }
    }
}
