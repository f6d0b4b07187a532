//! Revocation status: [`LiveSet`] answers queries, and keepers fetch signed CRLs for it.
//!
//! It never decides by itself that a peer is revoked: only a signed CRL can revoke.

mod barriers;
mod behind;
pub(crate) mod bound;
mod connections;
mod deadlines;
mod end;
mod keeper;
mod kept;
mod link;
mod list;
mod live;
mod location;
mod own;
mod serials;
mod settling;
mod snapshot;
mod staleness;
mod verdicts;

pub use self::{
    barriers::Barrier,
    live::LiveSet,
    location::Location,
    staleness::{OnStaleCrl, Stale},
    verdicts::{Freshness, InstallError, Installed, ListInForce, NotReady, Refusal},
};
pub(crate) use self::{
    connections::Registration,
    deadlines::Deadlines,
    end::{End, EndLabels, EndReason},
    keeper::{Channels, Keeper, Progress},
    kept::ListFiles,
    link::{AuthorityClient, Connector, FeedEnd, Link, Opening, Question, client_over, link},
    location::{Fetched, Origin, conditional, der_of, read_answer},
    settling::Settling,
    snapshot::Source,
    staleness::StalenessLog,
};
