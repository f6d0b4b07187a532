//! Certificates that are renewed: by services while they serve, and by clients; and what becomes of a line of them.

#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail like the test itself")]

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use e2e::{Client, Fleet, Output, Service, run, wait_until};

/// A number that a service counts.
fn metric(service: &Service, name: &str) -> f64 {
    let (status, text) = service.operations("metrics");
    assert_eq!(status, 200, "{text}");
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// The serial number of the certificate that a service presents.
fn presented(service: &Service) -> String {
    let address = service.https.to_string();
    let shown = run(Command::new("sh").args([
        "-c",
        "openssl s_client -connect \"$0\" </dev/null 2>/dev/null | openssl x509 -noout -serial",
        &address,
    ]));
    shown.success().stdout
}

fn shown(fleet: &Fleet, which: &str) -> serde_json::Value {
    fleet.ca_daemon(&["show", which, "--json"]).success().json()
}

fn renew(client: &Client, arguments: &[&str]) -> Output {
    run(client.command().args(["renew", "--json"]).args(arguments))
}

#[test]
fn a_service_renews_itself_when_that_is_ordered_and_nobody_notices() {
    let mut fleet = Fleet::new();
    let _ = fleet.start_service("service0", &[]);
    fleet.wait_connected(1);
    let client = fleet.enroll("client_1");
    let url = fleet.service(0).url();
    let load = client.keep_asking(&url);
    let before = presented(fleet.service(0));

    let ordered = fleet.ca_daemon(&["renew", "--name", "service*", "--json"]).success().json();
    assert_eq!((&ordered["certificates"], &ordered["names"]), (&1.into(), &"service*".into()), "{ordered}");
    wait_until("the service has renewed", || {
        let renewals = fleet.ca_daemon(&["renewals", "--json"]).success().json();
        (renewals[0]["replaced"] == 1 && renewals[0]["waiting"] == 0).then_some(())
    });
    let service = fleet.service(0);
    wait_until("it presents the new certificate", || (presented(service) != before).then_some(()));
    assert!(metric(service, "api_server_renewals_total") >= 1.0);

    // There is one instance, under the new certificate, and it confirms.
    wait_until("it is on the feed with the new certificate", || {
        let parties = fleet.ca_daemon(&["relying-parties", "--json"]).success().json();
        let all = parties.as_array().unwrap();
        let serial = before.trim().trim_start_matches("serial=").to_ascii_lowercase();
        let is_new = all.len() == 1 && all[0]["connected"] == true && all[0]["serial"] != serial.as_str();
        (is_new && all[0]["crlNumber"].is_number()).then_some(())
    });
    let other = fleet.enroll("client_2");
    let revoked = fleet.ca_daemon(&["revoke", "client_2", "--wait", "1m", "--json"]).success().json();
    assert_eq!(revoked["relyingParties"].as_array().unwrap().len(), 1, "{revoked}");
    assert_eq!(other.request(1, &url).json()["failures"][0]["alert"], "certificate_revoked");
    assert!(!load.log().contains("failed"), "{}", load.log());
    drop(load);

    // The next run takes its place as any run does.
    fleet.restart_service(0, &[]);
    fleet.wait_connected(1);
    assert_eq!(client.request(3, &url).success().json()["answered"], 3);
}

/// A service whose first certificate the operator has issued, for half a minute, and which nobody restarts.
#[test]
fn certificates_of_half_a_minute_live_on_under_load() {
    let mut fleet = Fleet::new();
    let directory = fleet.directory().join("service0");
    fs::create_dir(&directory).unwrap();
    let address = fleet.address().to_string();
    let (cert, key) = (directory.join("server.crt"), directory.join("server.key"));
    let files = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let issue = ["issue", "--name", "service0", "--duration", "30s", &address, "localhost"];
    let _ = fleet.ca_daemon(&[&issue[..], &files].concat()).success();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::copy(fleet.ca_directory().join("root.crt"), directory.join("ca.crt")).unwrap();
    fs::write(directory.join("ca.url"), fleet.ca_url()).unwrap();

    let _ = fleet.start_service("service0", &[]);
    let client = fleet.enroll("client_1");
    let url = fleet.service(0).url();
    let load = client.keep_asking(&url);
    wait_until("it has renewed once", || (metric(fleet.service(0), "api_server_renewals_total") >= 1.0).then_some(()));
    // The authority is away for a part of the next certificate's life.
    fleet.stop_ca();
    assert_eq!(client.request(10, &url).success().json()["answered"], 10);
    fleet.start_ca();
    wait_until("it has renewed three times", || {
        (metric(fleet.service(0), "api_server_renewals_total") >= 3.0).then_some(())
    });
    assert_eq!(client.request(10, &url).success().json()["answered"], 10);
    assert!(!load.log().contains("failed"), "{}", load.log());
    let left = fs::read_dir(&directory)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".server."));
    assert_eq!(left.count(), 1, "earlier keys are gone");
}

#[test]
fn a_client_renews_when_it_is_time_and_a_revocation_takes_the_line_along() {
    let mut fleet = Fleet::new();
    let _ = fleet.start_service("service0", &[]);
    let url = fleet.service(0).url();
    let client = fleet.enroll("client_1");
    let early = renew(&client, &[]).success().json();
    assert_eq!((&early["renewed"], &early["name"]), (&false.into(), &"client_1".into()), "{early}");
    let first = early["serial"].as_str().unwrap().to_owned();
    let key = fs::read(client.file("client.key")).unwrap();

    let renewed = renew(&client, &["--force"]).success().json();
    let second = renewed["serial"].as_str().unwrap().to_owned();
    assert!(renewed["renewed"] == true && second != first, "{renewed}");
    assert_ne!(fs::read(client.file("client.key")).unwrap(), key, "another key");
    assert_eq!(client.request(3, &url).success().json()["answered"], 3);
    let [old, new] = [&first, &second].map(|serial| shown(&fleet, serial)[0].clone());
    assert_eq!((&old["successors"][0], &new["predecessor"]), (&second.clone().into(), &first.clone().into()));

    let dry = fleet.ca_daemon(&["revoke", &first, "--dry-run", "--json"]).success();
    assert!(dry.stderr.contains("--only-this") && dry.json()["wouldRevoke"].as_array().unwrap().len() == 2, "{dry:?}");
    let revoked = fleet.ca_daemon(&["revoke", &first, "--wait", "1m", "--json"]).success().json();
    assert_eq!(revoked["certificates"].as_array().unwrap().len(), 2, "{revoked}");
    assert_eq!(client.request(1, &url).json()["failures"][0]["alert"], "certificate_revoked");
    let denied = renew(&client, &["--force"]);
    assert!(denied.code() == 4 && denied.stderr.contains("was revoked"), "{denied:?}");
}

#[test]
fn only_this_leaves_the_rest_of_the_line() {
    let mut fleet = Fleet::new();
    let _ = fleet.start_service("service0", &[]);
    let url = fleet.service(0).url();
    let client = fleet.enroll("client_1");
    let first = renew(&client, &[]).success().json()["serial"].as_str().unwrap().to_owned();
    let _ = renew(&client, &["--force"]).success();
    let revoked = fleet.ca_daemon(&["revoke", &first, "--only-this", "--wait", "1m", "--json"]).success().json();
    assert_eq!(revoked["certificates"].as_array().unwrap().len(), 1, "{revoked}");
    assert_eq!(client.request(3, &url).success().json()["answered"], 3);
}

/// The authority waits for no service whose certificate is revoked. One that gets another certificate serves again only
/// when it is waited for again.
#[test]
fn a_service_that_continues_with_another_certificate_is_waited_for_before_it_serves() {
    let mut fleet = Fleet::new();
    // Nothing but the feed brings it a CRL in time.
    let _ = fleet.start_service("service0", &["--crl-refresh", "1h"]);
    fleet.wait_connected(1);
    let (url, client) = (fleet.service(0).url(), fleet.enroll("client_1"));
    assert_eq!(client.request(1, &url).success().json()["answered"], 1);
    let serial = presented(fleet.service(0)).trim().trim_start_matches("serial=").to_owned();
    let _ = fleet.ca_daemon(&["revoke", "--serial", &serial, "--no-wait"]).success();
    wait_until("it admits nobody", || (fleet.service(0).readiness().0 == 503).then_some(()));

    // What its log advises.
    let address = fleet.address().to_string();
    let enroll = ["enroll", "--server", "--name", "service0", "--host", &address, "--host", "localhost", "--force"];
    let _ = run(fleet.command("api-client").args(enroll).args(["--dir", "service0"])).success();
    fleet.service(0).wait_ready();
    let revoked = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m", "--json"]).success().json();
    let parties = revoked["relyingParties"].as_array().unwrap();
    let is_new = |party: &serde_json::Value| party["serial"] != serial.to_ascii_lowercase().as_str();
    assert!(parties.iter().any(is_new), "{revoked}");
    assert_eq!(client.request(1, &url).json()["failures"][0]["alert"], "certificate_revoked");
}
