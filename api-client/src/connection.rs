//! One connection to a service: mutual TLS, requests over it, and the reason if there is no answer.
//!
//! It never prints, and it never decides how many requests are sent.

use std::{
    io,
    time::{Duration, Instant},
};

use edge::errors::find;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use mtls::{
    errors::{certificate_error, error_chain},
    standing::{ServerRefusal, ServerStanding},
};
use pki::wire::Problem;
use rustls::{ClientConfig, client::Resumption};
use tokio::time::{sleep, timeout};

use crate::{
    alert::{LastAlert, Noting},
    outcome::{Answer, Failure, FailureKind},
    repeat::{self, Fate, Repeats},
};

/// The largest response body that is read, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// Where requests are sent, and their time limit.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) handshakes: Handshakes,
    /// The time limit of one request, including its connection.
    pub(crate) timeout: Duration,
}

/// When a new connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshakes {
    /// When there is none that is usable.
    AsNeeded,
    /// For every request, with a full handshake.
    Full,
    /// For every request, resuming a session if there is one.
    Resumed,
}

/// Each connection has an HTTP client of its own, because a shared client would send everything over one connection.
pub(crate) struct Connection {
    client: Client<Noting, Empty<Bytes>>,
    last_alert: LastAlert,
    repeats: Repeats,
    target: Target,
}

impl Connection {
    /// `tls` is the configuration of the client's identity; `standing` has the revocation status of services.
    pub(crate) fn new(target: Target, mut tls: ClientConfig, standing: &ServerStanding, repeats: Repeats) -> Self {
        if target.handshakes == Handshakes::Full {
            tls.resumption = Resumption::disabled();
        }
        let last_alert = LastAlert::default();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Nagle's algorithm would delay each of several concurrent requests until the one before it is acknowledged.
        tcp.set_nodelay(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_all_versions().wrap_connector(tcp);
        let mut client = Client::builder(TokioExecutor::new());
        if target.handshakes != Handshakes::AsNeeded {
            client.pool_max_idle_per_host(0);
        }
        let connector = standing.connector(connector);
        let client = client.build(Noting { connector, last: last_alert.clone() });
        Self { client, last_alert, repeats, target }
    }

    /// Sends one request. Its latency counts from `due`, which is in the past if earlier requests took too long.
    /// Otherwise a stalled service would receive fewer requests during the stall, and its latencies would look better
    /// than they are.
    pub(crate) async fn request(&self, due: Instant) -> Result<Answer, Failure> {
        let body = timeout(self.target.timeout, self.persistent_exchange()).await.unwrap_or_else(|_| {
            let detail = format!("no answer within {}", humantime::format_duration(self.target.timeout));
            Err(Failure { kind: FailureKind::Timeout, detail })
        })?;
        Ok(Answer { body, latency: due.elapsed() })
    }

    /// The number of handshakes so far: full ones, and resumed ones.
    pub(crate) fn handshakes(&self) -> (u64, u64) {
        self.last_alert.handshakes()
    }

    /// Sends a request and repeats it if that is allowed.
    async fn persistent_exchange(&self) -> Result<String, Failure> {
        for pause in repeat::PAUSES {
            match self.exchange().await {
                Err((_, Some(fate))) => self.repeats.count(fate),
                result => return result.map_err(|(failure, _)| failure),
            }
            sleep(pause).await;
        }
        self.exchange().await.map_err(|(failure, _)| failure)
    }

    async fn exchange(&self) -> Result<String, (Failure, Option<Fate>)> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.target.uri.clone();
        let response = self.client.request(request).await.map_err(|error| self.failure(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| self.failure(error.as_ref()))?.to_bytes();
        if status == StatusCode::OK {
            return Ok(String::from_utf8_lossy(&body).into_owned());
        }
        let detail = serde_json::from_slice(&body).map_or_else(|_| String::new(), |problem: Problem| problem.detail);
        Err((Failure { kind: FailureKind::status(status), detail }, None))
    }

    fn failure(&self, error: &(dyn std::error::Error + 'static)) -> (Failure, Option<Fate>) {
        let failure = self.explain(error);
        let fate = repeat::fate(&failure.kind, error);
        (failure, fate)
    }

    fn explain(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        let told = |kind| Failure { kind, detail: String::new() };
        let explained = |kind| Failure { kind, detail: error_chain(error) };
        if let Some(alert) = self.last_alert.take() {
            return told(FailureKind::alert(alert));
        }
        if let Some(refusal) = ServerRefusal::find(error) {
            let kind = match refusal {
                ServerRefusal::Revoked(_) => FailureKind::ServerRevoked,
                ServerRefusal::Unknown(_) => FailureKind::ServerNotKnown,
            };
            return Failure { kind, detail: refusal.to_string() };
        }
        if let Some(tls) = find::<rustls::Error>(error) {
            return match tls {
                rustls::Error::AlertReceived(alert) => told(FailureKind::alert(*alert)),
                rustls::Error::InvalidCertificate(why) => {
                    Failure { kind: FailureKind::ServerNotTrusted, detail: certificate_error(why) }
                }
                _ => explained(FailureKind::Other),
            };
        }
        match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => told(FailureKind::ConnectionRefused),
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof) => {
                explained(FailureKind::ConnectionClosed)
            }
            // hyper reports an error without an I/O error below it if the connection ended too early.
            None if find::<hyper::Error>(error).is_some() => explained(FailureKind::ConnectionClosed),
            _ => explained(FailureKind::Other),
        }
    }
}
