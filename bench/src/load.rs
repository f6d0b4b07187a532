//! `api-client request` as the driver, and the server's own processor time beside what it says.
//!
//! It never counts a failed request as an answered one: a run with failures is an error.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use e2e::{Process, binary, run};
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
    /// Over connections that stay open, each when the one before it on its stream is answered.
    Requests,
    /// Over connections that stay open, so many in a second altogether, answered or not; latencies count from when one was due.
    Paced(u32),
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
    /// The latency's median, as the client sees it, in seconds.
    pub(crate) p50: f64,
    /// The same, of the slowest hundredth.
    pub(crate) p99: f64,
    /// How many of the handshakes resumed a session, of one.
    pub(crate) resumed: f64,
}

impl Shape {
    /// Drives servers at this URL, which are these processes, with the identity in this directory.
    pub(crate) fn drive(self, identity: &Path, url: &str, servers: &[u32]) -> anyhow::Result<Driven> {
        let mut command = Command::new(binary("api-client"));
        self.configure(&mut command, identity, url);
        let used_so_far =
            || servers.iter().map(|server| usage::processor_time(*server)).sum::<anyhow::Result<Duration>>();
        let before = used_so_far()?;
        let output = run(&mut command);
        let used = used_so_far()?.saturating_sub(before);
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
            p50: number("/latencyMicroseconds/p50")? / 1e6,
            p99: number("/latencyMicroseconds/p99")? / 1e6,
            resumed: resumed / (full + resumed),
        })
    }

    /// Starts to drive a server, until this is dropped or its time is over; nobody asks what came of it.
    pub(crate) fn keep_driving(self, identity: &Path, url: &str, log: &Path) -> Process {
        Process::start(binary("api-client"), log, |command| self.configure(command, identity, url))
    }

    fn configure(self, command: &mut Command, identity: &Path, url: &str) {
        let Self { connections, streams, kind, period } = self;
        command.args(["request", "--json", "--url", url]).arg("--identity").arg(identity);
        command.args(["-c", &connections.to_string(), "-m", &streams.to_string()]);
        command.args(["--duration", &humantime::format_duration(period).to_string()]);
        match kind {
            Kind::Requests => command,
            // Connections are opened before anything is counted: a handshake is no request's latency.
            Kind::Paced(rate) => command.args(["--rate", &rate.to_string(), "--warm-up", "300ms"]),
            Kind::Handshakes => command.arg("--handshakes"),
            Kind::Resumptions => command.args(["--handshakes", "--resume"]),
        };
    }
}
