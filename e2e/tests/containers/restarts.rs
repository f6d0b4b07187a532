//! Services that are stopped, started and killed under load, and a balancer that is stopped.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use e2e::{Client, run, wait_until};
use serde_json::{Value, json};

use crate::compose::{Fleet, SERVICES, docker, say};

/// How many connections the load has at a time, six for each run of the client.
const CONNECTIONS: u64 = 12;

/// What came of a load.
#[derive(Debug, Default)]
struct Sum {
    answered: u64,
    failed: u64,
    unprocessed: u64,
    lost: u64,
    failures: Vec<Value>,
}

/// Says that it is over when it goes out of scope.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Requests of one run of the client: many, so that connections are open when something happens to their service, and few, so that
/// new ones are opened at any moment.
const RUNS: [u64; 2] = [2_500, 60];

/// Sends requests, without a pause, for as long as something happens.
fn under_load(fleet: &Fleet, client: &Client, happens: impl FnOnce()) -> Sum {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let loads = RUNS.map(|requests| {
            let over = &over;
            scope.spawn(move || {
                let mut summaries = Vec::new();
                // Once more after it is over: what happened last is under load, too.
                let mut last = false;
                while !last {
                    last = over.load(Ordering::Relaxed);
                    summaries.push(client.request(requests, &fleet.url()).json());
                }
                summaries
            })
        });
        // Ends the load even if this fails.
        let ends = Over(&over);
        happens();
        drop(ends);
        let mut sum = Sum::default();
        for summary in loads.into_iter().flat_map(|load| load.join().unwrap()) {
            sum.answered += summary["answered"].as_u64().unwrap();
            sum.failed += summary["failed"].as_u64().unwrap();
            sum.unprocessed += summary["sentAgain"]["unprocessed"].as_u64().unwrap();
            sum.lost += summary["sentAgain"]["lost"].as_u64().unwrap();
            sum.failures.extend(summary["failures"].as_array().unwrap().iter().cloned());
        }
        sum
    })
}

pub(crate) fn rolling_restart(fleet: &Fleet, client: &Client) {
    let sum = under_load(fleet, client, || {
        for service in SERVICES {
            let id = fleet.id(service);
            let _ = fleet.compose(&["stop", service]).success();
            let stopped = docker(&["inspect", "--format", "{{.State.ExitCode}}", &id]).success();
            assert_eq!(stopped.stdout.trim(), "0", "{service} drains and ends with 0");
            let _ = fleet.compose(&["start", service]).success();
            fleet.wait_healthy(service);
            fleet.wait_balanced();
        }
    });
    say(&format!("rolling restart of three services: {sum:?}"));
    assert_eq!(sum.failed, 0, "{sum:?}");
    assert_eq!(sum.lost, 0, "no request was cut off: {sum:?}");
    let replicas = client.request(60, &fleet.url()).success().json()["replicas"].take();
    assert_eq!(replicas.as_object().unwrap().len(), 3, "{replicas}");
}

pub(crate) fn killed_service(fleet: &Fleet, client: &Client) {
    let sum = under_load(fleet, client, || {
        let _ = docker(&["kill", "--signal", "KILL", &fleet.id("service1")]).success();
        fleet.wait_for_services(&["service0", "service2"]);
    });
    say(&format!("a service killed: {sum:?}"));
    assert_eq!(sum.failed, 0, "what was in flight on it is sent again: {sum:?}");
    assert!(sum.lost <= CONNECTIONS, "each connection has one request in flight: {sum:?}");

    // The balancer has noticed: from now on it costs nothing at all.
    let summary = client.request(300, &fleet.url()).success().json();
    assert_eq!(summary["sentAgain"], json!({ "unprocessed": 0, "lost": 0 }), "{summary}");
    assert_eq!(summary["replicas"].as_object().unwrap().keys().collect::<Vec<_>>(), ["service0", "service2"]);

    let _ = fleet.compose(&["start", "service1"]).success();
    fleet.wait_healthy("service1");
    fleet.wait_balanced();
}

/// What `docker compose stop balancer` does: nobody new is let in, and who is there stays until its own end.
pub(crate) fn stopped_balancer(fleet: &Fleet, client: &Client) {
    let url = fleet.url();
    let summary = thread::scope(|scope| {
        // Ten seconds of requests, on one connection.
        let request = ["request", "--json", "--timeout", "1m", "-n", "1000", "--rate", "100", "-c", "1", "--url", &url];
        let load = scope.spawn(move || run(client.command().args(request)).success().json());
        wait_until("the connection is open", || (fleet.balanced_connections() == 1).then_some(()));
        let _ = docker(&["stop", "--time", "60", &fleet.id("balancer")]).success();
        load.join().unwrap()
    });
    assert_eq!(summary["answered"], 1000, "{summary}");
    assert_eq!(summary["sentAgain"], json!({ "unprocessed": 0, "lost": 0 }), "{summary}");
    assert_eq!(summary["handshakes"], json!({ "full": 1, "resumed": 0 }), "{summary}");
    let state = fleet.inspect("balancer")["State"].take();
    assert_eq!((&state["Running"], &state["ExitCode"]), (&false.into(), &0.into()), "{state}");
    assert_eq!(client.request(1, &url).json()["answered"], 0, "nobody is there");

    let _ = fleet.compose(&["start", "balancer"]).success();
    fleet.wait_balanced();
    assert_eq!(client.request(6, &url).success().json()["answered"], 6);
}
