//! `revoke` returns when every service enforces the revocation, and tells the truth about the one that does not.

#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail like the test itself")]

use e2e::{Client, Fleet, Output, run, wait_until};
use rustix::process::Signal;
use serde_json::Value;

/// What `revoke --json` says of a relying party.
fn party<'a>(report: &'a Value, name: &str) -> &'a Value {
    let parties = report["relyingParties"].as_array().unwrap();
    parties.iter().find(|party| party["name"] == name).unwrap_or_else(|| panic!("{name} is not in {report}"))
}

fn revoke(fleet: &Fleet, name: &str, arguments: &[&str]) -> Output {
    fleet.ca_daemon(&[&["revoke", name], arguments].concat())
}

#[test]
fn revoke_returns_when_every_service_enforces_it() {
    let mut fleet = Fleet::new();
    // A minute between polls: what arrives sooner has come by the feed.
    let urls: Vec<_> = ["service0", "service1", "service2"]
        .map(|name| fleet.start_service(name, &["--crl-refresh", "60s"]).url())
        .into();
    fleet.wait_connected(3);
    let (client, other) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let _busy = fleet.enroll("busy_1").keep_asking(&urls[1]);

    let said = revoke(&fleet, "client_1", &["--reason", "key-compromise", "--wait", "1m"]).success();
    for line in ["revoked client_1 (serial ", "service0", "service1", "service2", "3 of 3 relying parties enforce it"] {
        assert!(said.stdout.contains(line), "{line:?} is not in {}", said.stdout);
    }
    // Not a moment later: it has returned, so it is enforced.
    for url in &urls {
        let refused = client.request(1, url).json();
        assert_eq!(refused["failures"][0]["alert"], "certificate_revoked", "{refused}");
        let _ = other.request(1, url).success();
    }

    let report = revoke(&fleet, "busy_1", &["--json", "--wait", "1m"]).success().json();
    assert_eq!(party(&report, "service1")["connectionsEnded"], 1, "{report}");
    assert_eq!(party(&report, "service0")["connectionsEnded"], 0, "{report}");
    assert!(party(&report, "service2")["afterMilliseconds"].is_number(), "{report}");
}

#[test]
fn everything_that_a_token_has_enrolled_is_revoked_at_once() {
    let mut fleet = Fleet::new();
    let url = fleet.start_service("service0", &["--crl-refresh", "60s"]).url();
    fleet.wait_connected(1);
    let created = fleet.ca_daemon(&["token", "create", "--client", "--uses", "3", "--json"]).success().json();
    let (token, id) = (created["token"].as_str().unwrap(), created["id"].as_str().unwrap());
    let enrolled = ["client_1", "client_2"].map(|name| {
        let _ = run(fleet.command("api-client").args(["enroll", "--name", name, "--dir", name, "--token", token]));
        Client { directory: fleet.directory().join(name) }
    });
    let other = fleet.enroll("client_3");
    for client in enrolled.iter().chain([&other]) {
        let _ = client.request(1, &url).success();
    }
    let dry_run = fleet.ca_daemon(&["revoke", "--token", id, "--dry-run"]).success();
    assert!(dry_run.stdout.contains("nothing was revoked; 2 would be"), "{dry_run:?}");

    let said = fleet.ca_daemon(&["revoke", "--token", id, "--json", "--wait", "1m"]).success();
    let report = said.json();
    assert_eq!(report["certificates"].as_array().unwrap().len(), 2, "{report}");
    assert_eq!(party(&report, "service0")["enforced"], true, "{report}");
    assert!(said.stderr.contains(&format!("ca-daemon token revoke {id}")), "one use is left: {said:?}");
    for client in &enrolled {
        assert_eq!(client.request(1, &url).json()["failures"][0]["alert"], "certificate_revoked");
    }
    let _ = other.request(1, &url).success();
}

#[test]
fn revoke_says_who_did_not_confirm_and_the_late_one_catches_up() {
    let mut fleet = Fleet::new();
    let urls: Vec<_> =
        ["service0", "service1"].map(|name| fleet.start_service(name, &["--crl-refresh", "60s"]).url()).into();
    fleet.wait_connected(2);
    let (first, second) = (fleet.enroll("client_1"), fleet.enroll("client_2"));

    fleet.service(1).process.signal(Signal::STOP);
    let said = fleet.revoke_but(&["client_1"], &["service0"]);
    assert!(said.stdout.contains("not confirmed") && said.stdout.contains("1 of 2 relying parties"), "{said:?}");
    assert_eq!(first.request(1, &urls[0]).json()["failures"][0]["alert"], "certificate_revoked");
    fleet.service(1).process.signal(Signal::CONT);
    wait_until("the paused service catches up", || {
        let answer = first.request(1, &urls[1]).json();
        (answer["failures"][0]["alert"] == "certificate_revoked").then_some(())
    });

    // The authority goes down; what is revoked meanwhile is published first thing when it is back.
    fleet.ca().kill();
    assert_eq!(revoke(&fleet, "client_2", &[]).code(), 5);
    let _ = second.request(1, &urls[0]).success();
    fleet.start_ca();
    for url in &urls {
        wait_until("the revocation arrives once the authority is back", || {
            let answer = second.request(1, url).json();
            (answer["failures"][0]["alert"] == "certificate_revoked").then_some(())
        });
    }
}
