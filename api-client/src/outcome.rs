//! The outcome of a request: an answer or a failure.
//!
//! It never sends anything.

use std::{fmt, time::Duration};

use http::StatusCode;
use rustls::AlertDescription;

use crate::alert;

/// An answered request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The body as text.
    pub(crate) body: String,
    /// From the time the request was due to the end of the body, including the connection.
    pub(crate) latency: Duration,
}

/// A failed request: the kind of failure, and details.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) detail: String,
}

/// Kinds of failure. They are counted separately.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailureKind {
    /// The service ended the handshake with an alert (RFC 8446 section 6.2).
    HandshakeRefused(String),
    /// Nothing listens at the address.
    ConnectionRefused,
    /// The service's certificate is not trusted.
    ServerNotTrusted,
    /// The service's certificate, or that of a CA above it, is revoked.
    ServerRevoked,
    /// No current CRL shows whether the service is revoked.
    ServerNotKnown,
    /// The connection ended before the answer.
    ConnectionClosed,
    /// A status other than 200.
    Status(u16),
    /// No answer in time.
    Timeout,
    /// Anything else.
    Other,
}

impl FailureKind {
    pub(crate) fn alert(alert: AlertDescription) -> Self {
        Self::HandshakeRefused(alert::name(alert))
    }

    pub(crate) fn status(status: StatusCode) -> Self {
        Self::Status(status.as_u16())
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandshakeRefused(alert) => write!(f, "refused by the service: TLS alert {alert}"),
            Self::ConnectionRefused => f.write_str("connection refused"),
            Self::ServerNotTrusted => f.write_str("the service's certificate is not trusted"),
            Self::ServerRevoked => f.write_str("the service is revoked; nothing was sent to it"),
            Self::ServerNotKnown => {
                f.write_str("it is not known whether the service is revoked; nothing was sent to it")
            }
            Self::ConnectionClosed => f.write_str("connection closed before the answer"),
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::Timeout => f.write_str("timed out"),
            Self::Other => f.write_str("failed"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() { self.kind.fmt(f) } else { write!(f, "{} ({})", self.kind, self.detail) }
    }
}
