//! Shared by the tests: an authority, a service that relies on it, clients, the service's log, and waiting for a
//! condition.

pub(crate) mod authority;
mod client;
pub(crate) mod example;
pub(crate) mod feed;
pub(crate) mod foreign;
pub(crate) mod lists;
mod log;
pub(crate) mod publisher;
pub(crate) mod raw;
mod service;
pub(crate) mod tls;

use std::time::Duration;

use pki::time::Timestamp;
use tokio::time::{Instant, sleep};

pub(crate) use self::{
    authority::{Authority, Issued},
    client::{Client, Http},
    log::Log,
    service::{LARGE, Service, Surroundings, keep_crl, listen},
};

pub(crate) const DAY: Duration = Duration::from_hours(24);

/// Timeout for anything that happens without further action. It is generous, because machines are busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The time at which every test begins.
pub(crate) fn start() -> Timestamp {
    testkit::authority::now()
}

/// Waits until a condition holds. Fails after a timeout.
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    wait(format!("{what} ({place})"), holds)
}

async fn wait(what: String, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "did not happen: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}
