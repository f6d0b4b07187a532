//! Services that cannot reach the authority: one while a client is revoked, and all for longer than a CRL lives.

use std::{process::Command, time::Instant};

use e2e::{Client, Output, run, wait_until};
use serde_json::Value;

use crate::compose::{Fleet, SERVICES, docker, say};

/// Whether a summary's failures are all the refusal of a revoked client.
fn refused(summary: &Value) -> u64 {
    let failures = summary["failures"].as_array().unwrap();
    assert!(failures.iter().all(|failure| failure["alert"] == "certificate_revoked"), "{summary}");
    summary["failed"].as_u64().unwrap()
}

pub(crate) fn one_service(fleet: &Fleet) {
    let (revoked, other) = (fleet.enroll("client_2"), fleet.enroll("client_3"));
    let many = |client: &Client| {
        let arguments = ["request", "--json", "--timeout", "1m", "-n", "30", "-c", "30", "--url", &fleet.url()];
        run(client.command().args(arguments)).json()
    };
    assert_eq!(many(&revoked)["answered"], 30);
    let (network, id) = (fleet.network("authority"), fleet.id("service2"));
    let _ = docker(&["network", "disconnect", &network, &id]).success();

    let said = wait_until("the other two enforce it within the time that they are given", || {
        let said = fleet.ca_daemon(&["revoke", "client_2", "--reason", "key-compromise", "--wait", "10s"]);
        assert_eq!(said.code(), 5, "recorded, and not confirmed by everybody: {said:?}");
        said.stdout.contains("2 of 3 relying parties enforce it").then_some(said)
    });
    let exposed = said.stdout.lines().find(|line| line.trim_start().starts_with("service2")).unwrap();
    assert!(exposed.contains("not confirmed") && exposed.contains("may admit until"), "{said:?}");

    // The one that does not know goes on, as was said; the others refuse.
    let summary = many(&revoked);
    assert!(refused(&summary) > 0, "{summary}");
    let replicas = summary["replicas"].as_object().unwrap();
    assert_eq!(replicas.keys().collect::<Vec<_>>(), ["service2"], "{summary}");

    let number = || metric(fleet, "service2", "crl_number").max().unwrap();
    let before = number();
    let _ = docker(&["network", "connect", "--alias", "service2", &network, &id]).success();
    let healed = Instant::now();
    wait_until("service2 has the CRL", || (number() > before).then_some(()));
    say(&format!("caught up within {} ms after the cut healed", healed.elapsed().as_millis()));
    assert_eq!(refused(&many(&revoked)), 30, "from now on service2 refuses, too");
    assert_eq!(many(&other)["answered"], 30, "nobody else notices");

    let again = fleet.enroll("client_4");
    wait_until("service2 is on the feed again", || {
        let parties = fleet.ca_daemon(&["relying-parties", "--json"]).success().json();
        parties.as_array().unwrap().iter().all(|party| party["connected"] == true).then_some(())
    });
    let said = fleet.ca_daemon(&["revoke", "client_4", "--wait", "1m"]).success();
    assert!(said.stdout.contains("3 of 3 relying parties enforce it"), "{said:?}");
    assert_eq!(refused(&many(&again)), 30);
}

pub(crate) fn all_services(fleet: &Fleet, client: &Client) {
    let _ = fleet.compose(&["stop", "ca"]).success();
    // That nobody answers for its authority's name (the engine's name server takes ten seconds to say so) keeps it from nothing.
    let _ = docker(&["stop", "--time", "8", &fleet.id("service0")]).success();
    assert_eq!(fleet.inspect("service0")["State"]["ExitCode"], 0, "service0 drains and ends by itself");
    // A container of its own, that has nothing but its volume, and nobody to ask.
    let began = Instant::now();
    let _ = fleet.compose(&["up", "-d", "--no-deps", "--force-recreate", "service0"]).success();
    fleet.wait_healthy("service0");
    say(&format!("cold start of a service without its authority: {:.1} s", began.elapsed().as_secs_f64()));
    let summary = wait_until("service0 is used again", || {
        let summary = judged_by_the_service(client, 30, &fleet.url()).json();
        summary["replicas"].as_object().unwrap().contains_key("service0").then_some(summary)
    });
    assert_eq!(summary["answered"], 30, "{summary}");

    // They serve for as long as their CRLs are current, and not any longer. Asked before and after each request, as time passes.
    let seconds_left = || SERVICES.map(|service| seconds_to_next_update(fleet, service));
    let mut served_in_the_last_seconds = false;
    wait_until("the CRLs are stale", || {
        let before = seconds_left();
        let summary = judged_by_the_service(client, 6, &fleet.url()).json();
        if seconds_left().iter().all(|seconds| *seconds > 0) {
            assert_eq!(summary["answered"], 6, "every CRL is current: {summary}");
            served_in_the_last_seconds = before.iter().any(|seconds| *seconds <= 15);
        }
        let is_over = before.iter().all(|seconds| *seconds < 0);
        assert!(!is_over || summary["answered"] == 0, "no CRL is current: {summary}");
        is_over.then_some(())
    });
    assert!(served_in_the_last_seconds, "they are served until the CRLs are stale");
    fleet.wait_for_services(&[]);
    assert_eq!(judged_by_the_service(client, 1, &fleet.url()).json()["answered"], 0);
    for service in SERVICES {
        let health = run(Command::new("docker").args(["exec", &fleet.id(service), "/api-server", "healthcheck"]));
        assert_eq!(health.code(), 1, "{health:?}");
        assert!(health.stderr.contains("stale"), "{service} says why: {health:?}");
        // Past the balancer, they refuse by themselves.
        let own = format!("container:{}", fleet.id(service));
        let request = [
            "request",
            "--json",
            "--timeout",
            "1m",
            "--on-missing-crl",
            "accept",
            "--url",
            "https://localhost:8443/hello",
        ];
        let summary = fleet.client_in(&own, client, &request).json();
        assert_eq!(summary["failures"][0]["alert"], "access_denied", "{service}: {summary}");
    }

    let _ = fleet.compose(&["start", "ca"]).success();
    fleet.wait_balanced();
    let summary = client.request(30, &fleet.url()).success().json();
    assert_eq!(summary["replicas"].as_object().unwrap().len(), 3, "{summary}");
}

/// A client whose own lists end at the same time would send nothing; here the services are asked.
fn judged_by_the_service(client: &Client, requests: u64, url: &str) -> Output {
    let requests = requests.to_string();
    let asked = ["request", "--json", "--timeout", "1m", "--on-missing-crl", "accept", "-n", &requests, "--url", url];
    run(client.command().args(asked))
}

/// How long the CRL of a service that is stale first is good for; negative since it is.
fn seconds_to_next_update(fleet: &Fleet, service: &str) -> i64 {
    metric(fleet, service, "crl_seconds_to_next_update").min().unwrap()
}

/// A metric of a service, for each issuer.
fn metric(fleet: &Fleet, service: &str, name: &str) -> impl Iterator<Item = i64> {
    let url = format!("http://{}:8081/metrics", fleet.address(service, "fleet"));
    let metrics = run(Command::new("curl").args(["-sSf", "--max-time", "60", &url])).success().stdout;
    let begins = format!("api_server_{name}{{");
    let values: Vec<_> = metrics.lines().filter(|line| line.starts_with(&begins)).map(str::to_owned).collect();
    values.into_iter().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
}
