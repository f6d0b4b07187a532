//! The end of a connection whose peer may not be served any more: the reason, whether it has begun, and whether it is
//! complete.
//!
//! It never decides that a connection has to end.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, OnceLock},
};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use tokio_util::sync::CancellationToken;

/// Why an admitted connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EndReason {
    /// A certificate of the client's chain is revoked.
    Revoked,
    /// A certificate of the client's chain has expired.
    Expired,
    /// The CRL that the client was judged by is stale, and any grace is over.
    NoFreshCrl,
    /// The service's own certificate is revoked.
    OwnCertificate,
    /// The authority does not expect the service any more, so a revocation would not wait for it.
    Unregistered,
}

impl EndReason {
    /// The reason in words, for an error and for the peer.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "the client's certificate, or one above it, is revoked",
            Self::Expired => "the client's certificate, or one above it, has expired",
            Self::NoFreshCrl => "there is no current CRL to judge the client by",
            Self::OwnCertificate => "the service's own certificate, or one above it, is revoked",
            Self::Unregistered => "the authority does not expect this service any more",
        }
    }
}

impl EncodeLabelValue for EndReason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.write_str(match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::NoFreshCrl => "no_fresh_crl",
            Self::OwnCertificate => "own_certificate",
            Self::Unregistered => "unregistered",
        })
    }
}

/// The labels under which ended connections are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EndLabels {
    pub(crate) reason: EndReason,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The end of one connection. Clones share it. A query costs one load, because it happens before everything that is
/// sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct End(Arc<State>);

#[derive(Debug, Default)]
struct State {
    reason: OnceLock<EndReason>,
    begun: CancellationToken,
    complete: CancellationToken,
}

impl End {
    /// Ends the connection. Only the first reason is kept.
    pub(super) fn begin(&self, reason: EndReason) {
        let _ = self.0.reason.set(reason);
        self.0.begun.cancel();
    }

    /// Nothing is left of the connection that could send anything.
    pub(super) fn complete(&self) {
        self.0.complete.cancel();
    }

    /// Why the connection ends. `None` if it does not.
    pub(crate) fn reason(&self) -> Option<EndReason> {
        self.0.reason.get().copied()
    }

    /// Resolves when the connection has to end.
    pub(crate) async fn begun(&self) {
        self.0.begun.cancelled().await;
    }

    /// Resolves when nothing is left of the connection.
    pub(super) async fn completed(&self) {
        self.0.complete.cancelled().await;
    }
}
