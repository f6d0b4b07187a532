//! `api-client request` as the driver, and the server's own processor time beside what it says.
//!
//! It never counts a failed request as an answered one: a run with failures is an error.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use e2e::{binary, run};
use serde_json::Value;

use crate::usage;

/// What is sent, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) connections: u32,
    pub(crate) streams: u32,
    pub(crate) kind: Kind,
    pub(crate) period: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Over connections that stay open.
    Requests,
    /// A full handshake for each.
    Handshakes,
    /// A resumed one for each.
    Resumptions,
}

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Driven {
    pub(crate) per_second: f64,
    /// Of the server, in seconds, for each request.
    pub(crate) server_time: f64,
    /// Of the driver, in seconds, for each request.
    pub(crate) client_time: f64,
    /// The latency's, as the client sees it, in seconds.
    pub(crate) p99: f64,
    /// How many of the handshakes resumed a session, of one.
    pub(crate) resumed: f64,
}

impl Shape {
    /// Drives a server at this URL with the identity in this directory.
    pub(crate) fn drive(self, identity: &Path, url: &str, server: u32) -> anyhow::Result<Driven> {
        let Self { connections, streams, kind, period } = self;
        let mut command = std::process::Command::new(binary("api-client"));
        command.args(["request", "--json", "--url", url]).arg("--identity").arg(identity);
        command.args(["-c", &connections.to_string(), "-m", &streams.to_string()]);
        command.args(["--duration", &humantime::format_duration(period).to_string()]);
        command.args(match kind {
            Kind::Requests => &[][..],
            Kind::Handshakes => &["--handshakes"],
            Kind::Resumptions => &["--handshakes", "--resume"],
        });
        let before = usage::processor_time(server)?;
        let output = run(&mut command);
        let used = usage::processor_time(server)?.saturating_sub(before);
        ensure!(output.status.success(), "{command:?}: {output:?}");
        let report = output.json();
        let number =
            |path: &str| report.pointer(path).and_then(Value::as_f64).with_context(|| format!("{path} in {report}"));
        let answered = number("/answered")?;
        let (full, resumed) = (number("/handshakes/full")?, number("/handshakes/resumed")?);
        Ok(Driven {
            per_second: number("/answeredPerSecond")?,
            server_time: used.as_secs_f64() / answered,
            client_time: number("/clientCpuMicroseconds")? / 1e6 / answered,
            p99: number("/latencyMicroseconds/p99")? / 1e6,
            resumed: resumed / (full + resumed),
        })
    }
}
