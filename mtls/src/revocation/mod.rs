//! Revocation as it stands at this moment: [`LiveSet`] answers, and keepers bring it what is signed, from wherever it lies.
//!
//! It never decides by itself that a peer is revoked; it believes signed CRLs and nothing else.

mod barriers;
mod behind;
mod connections;
mod keeper;
mod live;
mod location;
mod serials;
mod snapshot;
mod staleness;

pub use self::{
    barriers::Barrier,
    live::{Freshness, InstallError, Installed, LiveSet, NotReady, Refusal},
    location::Location,
    staleness::{OnStaleCrl, Stale},
};
pub(crate) use self::{
    connections::Registration,
    keeper::{Channels, Keeper, ListFiles, Progress},
    location::Origin,
    snapshot::Source,
    staleness::StalenessLog,
};
