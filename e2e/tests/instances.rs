//! Services that share a name, come and go, or are not known to the authority at all: what `revoke` says of each.

use std::fs;

use e2e::{Fleet, Network, Output, Service, run_in, wait_until};
use serde_json::Value;

fn listed(fleet: &Fleet) -> Vec<Value> {
    fleet.ca_daemon(&["relying-parties", "--json"]).success().json().as_array().cloned().unwrap_or_default()
}

/// Another service of the same name, with a directory and a certificate of its own.
fn replacement(fleet: &Fleet, directory: &str) -> Service {
    let service = fleet.launch_service("service0", &["--dir", directory]);
    service.wait_ready();
    service
}

fn line<'a>(said: &'a Output, text: &str) -> &'a str {
    said.stdout.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text}: {said:#?}"))
}

#[test]
fn a_service_that_is_cut_off_is_expected_though_another_took_its_name() {
    let Some(network) = Network::new() else { return };
    let fleet = Fleet::at(network.here, &[]);
    let cut_off = fleet.launch_service_in(&network, "service0", &["--crl-refresh", "60s"]);
    cut_off.wait_ready();
    fleet.wait_connected(1);
    let client = fleet.enroll("client_1");
    let far = cut_off.url();
    network.cut();
    wait_until("the authority notices", || listed(&fleet)[0]["connectedSince"].is_null().then_some(()));
    let near = replacement(&fleet, "replacement");

    let said = fleet.ca_daemon(&["revoke", "client_1", "--wait", "3s"]);
    assert_eq!(said.code(), 5, "{said:?}");
    assert!(said.stdout.contains("1 of 2 relying parties enforce it"), "{said:?}");
    line(&said, "service0 (2 instances)");
    let missing = line(&said, "not confirmed");
    for part in ["last seen", "may admit until", "another instance of this name is connected since"] {
        assert!(missing.contains(part), "{missing}");
    }
    assert_eq!(client.request(1, &near.url()).json()["failures"][0]["alert"], "certificate_revoked");
    // That is the truth.
    let mut command = client.command();
    command.args(["request", "--json", "--url", &far]);
    let _ = run_in(&network, &command).success();

    network.heal();
    wait_until("it is back, as who it was", || {
        let again = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1s"]);
        (again.code() == 0 && again.stdout.contains("2 of 2 relying parties")).then_some(())
    });
}

#[test]
fn after_a_rolling_update_nobody_waits_for_the_one_that_ended() {
    let mut fleet = Fleet::new();
    fleet.start_service("service0", &[]);
    fleet.wait_connected(1);
    let (first, second) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let new = replacement(&fleet, "replacement");
    fleet.wait_connected(2);
    let said = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    line(&said, "service0 (2 instances)");
    assert!(said.stdout.contains("2 of 2 relying parties enforce it"), "{said:?}");
    assert!(fleet.service(0).process.stop().success());
    // At once: it had said goodbye before it ended.
    let known = listed(&fleet);
    assert!(known.len() == 1 && known[0]["connectedSince"].is_string(), "{known:?}");
    let said = fleet.ca_daemon(&["revoke", "client_2", "--wait", "1m"]).success();
    assert!(said.stdout.contains("1 of 1 relying parties enforce it"), "{said:?}");
    // It still holds a certificate, with which it could come back.
    assert!(line(&said, "nothing is known of: ").contains("service0 (serial "), "{said:?}");
    for client in [&first, &second] {
        assert_eq!(client.request(1, &new.url()).json()["failures"][0]["alert"], "certificate_revoked");
    }
}

#[test]
fn a_service_that_is_started_again_after_a_crash_takes_its_own_place() {
    let mut fleet = Fleet::new();
    fleet.start_service("service0", &[]);
    fleet.wait_connected(1);
    let before = listed(&fleet)[0]["instance"].clone();
    let _ = fleet.enroll("client_1");
    fleet.service(0).process.kill();
    wait_until("the authority sees it go", || listed(&fleet)[0]["connectedSince"].is_null().then_some(()));
    let said = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1s"]);
    assert!(said.code() == 5 && said.stdout.contains("last seen"), "{said:?}");
    fleet.restart_service(0, &[]);
    fleet.wait_connected(1);
    assert_ne!(listed(&fleet)[0]["instance"], before);
    let said = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    assert!(said.stdout.contains("1 of 1 relying parties enforce it"), "{said:?}");
}

#[test]
fn a_service_without_its_authoritys_address_says_so_and_is_named() {
    let mut fleet = Fleet::new();
    fleet.start_service("service0", &[]);
    let _ = fleet.enroll("client_1");
    assert!(fleet.service(0).operations("metrics").1.contains("\napi_server_feed 1\n"));
    assert!(fleet.service(0).process.stop().success());
    let file = fleet.directory().join("service0/ca.url");
    let address = fs::read_to_string(&file).unwrap_or_default();
    for damaged in ["", "http://127.0.0.1:1\n", &address[..4]] {
        fs::write(&file, damaged).expect("the directory is there");
        let listen = format!("{}:0", fleet.address());
        let mut command = fleet.command("api-server");
        command.args(["--name", "service0", "--listen", &listen, "--ops-listen", &listen]);
        let refused = e2e::run(&mut command);
        assert_eq!(refused.code(), 1, "{damaged:?}: {refused:?}");
        assert!(
            refused.stderr.contains("ca.url is damaged") && refused.stderr.contains("https://HOST:8440"),
            "{refused:?}"
        );
    }
    fs::remove_file(&file).expect("it was just written");
    let service = fleet.launch_service("service0", &[]);
    service.wait_ready();
    assert!(service.operations("metrics").1.contains("\napi_server_feed 0\n"));
    let log = service.process.log();
    assert!(log.contains("WARN") && log.contains("NO FEED") && log.contains("ca.url"), "{log}");

    let said = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    assert!(line(&said, "nothing is known of: ").contains("service0 (serial "), "{said:?}");
    assert!(said.stdout.contains("no relying party is registered that could confirm it"), "{said:?}");
    let strict = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m", "--require-all", "--json"]);
    assert_eq!(strict.code(), 5, "{strict:?}");
    assert_eq!(strict.json()["unknownHolders"][0]["name"], "service0", "{strict:?}");
    assert!(fleet.ca_daemon(&["relying-parties"]).success().stdout.contains("nothing is known of: service0 (serial "));
}
