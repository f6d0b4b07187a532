//! The questions that commands send to a running daemon, and the answers: one line of JSON with a question, then lines
//! of JSON with its answers.
//!
//! It never changes a certificate. A command does that itself, and notifies the daemon afterwards.

mod connection;
mod follow;
mod respond;
mod roll_call;

use std::{net::SocketAddr, time::Duration};

use pki::{crl::CrlNumber, wire::RollCallAnswer};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::Instant;

#[cfg(test)]
pub(crate) use self::connection::Answers;
pub(crate) use self::{
    connection::{DaemonConnection, address},
    respond::respond,
};
use crate::{
    feed::{Enforced, Forgotten},
    issuer::Issuer,
    store::RelyingParty,
};

/// A question, and the type of each of its answers.
pub(crate) trait Question: Into<AnyQuestion> {
    type Answer: DeserializeOwned;
}

/// A question as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum AnyQuestion {
    Published(Published),
    RelyingParties,
    Operations,
    RollCall(RollCall),
    Forget(Forget),
}

/// Reports that the command has published something. The feed announces it at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Published {
    /// Also wait for confirmations.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) wait: Option<Wait>,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wait {
    pub(crate) issuer: Issuer,
    /// The number of the CRL that has to be enforced.
    pub(crate) number: CrlNumber,
    /// How long ago it was committed. A duration, because two processes share no monotonic clock.
    pub(crate) committed_micros_ago: u64,
    pub(crate) timeout_millis: u64,
}

impl Wait {
    /// When it was committed, by the clock of this process.
    fn committed(&self, arrived: Instant) -> Instant {
        arrived.checked_sub(Duration::from_micros(self.committed_micros_ago)).unwrap_or(arrived)
    }
}

/// Which instances have to enforce revocations?
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelyingParties;

/// On which address are readiness and metrics served?
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operations;

/// Which clients are connected to each instance?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RollCall {
    /// How long to wait for answers.
    pub(crate) timeout_millis: u64,
}

/// Stop expecting the disconnected instances with this name, or the one whose id starts like this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Forget {
    pub(crate) name: String,
    /// The start of an instance's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) instance: Option<String>,
}

/// An answer to [`Published`]. First `Announced`; with a wait then `RelyingParties`, `Enforced` for each that confirms,
/// and `Missing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Confirmed {
    /// The feed has announced it.
    #[serde(rename = "told")]
    Announced,
    /// All instances that have to enforce revocations now.
    RelyingParties(Vec<RelyingParty>),
    /// This one enforces the CRL.
    Enforced {
        /// The instance.
        party: Box<RelyingParty>,
        /// When it confirmed.
        enforced: Enforced,
    },
    /// The wait is over, and these do not enforce it. Instances whose own certificate was revoked meanwhile are among
    /// them.
    Missing(Vec<RelyingParty>),
    /// It could not be announced.
    Failed(String),
}

/// An answer to [`RelyingParties`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Expected {
    RelyingParties(Vec<RelyingParty>),
}

/// An answer to [`Operations`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ListensOn {
    Operations(SocketAddr),
}

/// An answer to [`RollCall`]: `Present` for each that answers, then `Missing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Called {
    /// An instance has answered.
    Present {
        /// The instance.
        party: Box<RelyingParty>,
        /// Its report.
        answer: RollCallAnswer,
    },
    /// The wait is over, and these did not answer.
    Missing(Vec<RelyingParty>),
}

/// An answer to [`Forget`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ForgetOutcome {
    Forgotten(Forgotten),
    /// It could not be stored.
    Failed(String),
}

impl From<Published> for AnyQuestion {
    fn from(question: Published) -> Self {
        Self::Published(question)
    }
}

impl From<RelyingParties> for AnyQuestion {
    fn from(RelyingParties: RelyingParties) -> Self {
        Self::RelyingParties
    }
}

impl From<Operations> for AnyQuestion {
    fn from(Operations: Operations) -> Self {
        Self::Operations
    }
}

impl From<RollCall> for AnyQuestion {
    fn from(question: RollCall) -> Self {
        Self::RollCall(question)
    }
}

impl From<Forget> for AnyQuestion {
    fn from(question: Forget) -> Self {
        Self::Forget(question)
    }
}

impl Question for Published {
    type Answer = Confirmed;
}

impl Question for RelyingParties {
    type Answer = Expected;
}

impl Question for Operations {
    type Answer = ListensOn;
}

impl Question for RollCall {
    type Answer = Called;
}

impl Question for Forget {
    type Answer = ForgetOutcome;
}
