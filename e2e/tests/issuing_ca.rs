//! The root revokes the issuing CA: everything beneath it ends.

use std::{fs, process::Command};

use e2e::{Fleet, run, wait_until};

#[test]
fn a_revoked_issuing_ca_takes_every_open_connection_and_every_new_one_along() {
    let mut fleet = Fleet::new();
    let urls = ["service0", "service1"].map(|name| fleet.start_service(name, &["--crl-refresh", "60s"]).url());
    fleet.wait_connected(2);
    let (connected, other) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let _asking = connected.keep_asking(&urls[1]);
    let _ = other.request(1, &urls[0]).success();

    // The root's key lies elsewhere, as it should.
    let key = fleet.directory().join("root.key");
    fs::rename(fleet.ca_directory().join("root.key"), &key).expect("the key can be moved");
    let refused = fleet.ca_daemon(&["revoke", "--issuing"]);
    assert!(refused.code() == 4 && refused.stderr.contains("--root-key FILE"), "{refused:?}");
    let _ = other.request(1, &urls[0]).success();

    let key = key.to_str().expect("test directories are UTF-8");
    let revoke = ["revoke", "--issuing", "--root-key", key, "--reason", "ca-compromise", "--wait", "1m"];
    // Nobody sits at a terminal here, and nobody has said yes.
    let refused = fleet.ca_daemon(&revoke);
    assert!(refused.code() == 4 && refused.stderr.contains("2 client and 3 server certificates"), "{refused:?}");
    assert!(refused.stderr.contains("--yes"), "{refused:?}");
    let dry_run = fleet.ca_daemon(&["revoke", "--issuing", "--dry-run", "--json"]).success().json();
    let would = &dry_run["wouldRevokeIssuing"];
    assert_eq!((&would["validCertificates"]["client"], &would["relyingParties"]), (&2.into(), &2.into()), "{dry_run}");
    let _ = other.request(1, &urls[0]).success();

    let revoke = [&revoke[..], &["--yes"]].concat();
    let report = fleet.ca_daemon(&[&revoke[..], &["--json"]].concat()).success().json();
    assert_eq!(report["certificates"][0]["name"], "Fleet Issuing CA", "{report}");
    for (index, ended) in [(0, 0), (1, 1)] {
        let party = &report["relyingParties"][index];
        assert_eq!((&party["enforced"], &party["connectionsEnded"]), (&true.into(), &ended.into()), "{report}");
    }
    for client in [&connected, &other] {
        for url in &urls {
            // The service is revoked to the client as the client is to the service. On a busy machine a client may not have its list
            // of servers in time, and hears from the service that it is revoked itself.
            wait_until("the client knows that the service is revoked", || {
                let refused = client.request(1, url).json();
                assert_eq!(refused["answered"], 0, "{refused}");
                let kind = refused["failures"][0]["kind"].as_str().unwrap_or_default();
                kind.contains("the service is revoked").then_some(())
            });
        }
    }
    let again = fleet.ca_daemon(&revoke).success().stdout;
    assert!(again.contains("was already revoked") && again.contains("2 of 2 relying parties"), "{again}");

    // The authority says that it is over, and what to do: to whoever asks, and after a restart, too.
    let listed = fleet.ca_daemon(&["list"]).success();
    assert!(listed.stdout.contains("issuer revoked") && !listed.stdout.contains("valid  "), "{listed:?}");
    assert!(listed.stderr.contains("was revoked at ") && listed.stderr.contains("(ca-compromise)"), "{listed:?}");
    let shown = fleet.ca_daemon(&["show", "client_1"]).success().stdout;
    assert!(shown.contains("issuer revoked at ") && shown.contains("(ca-compromise)"), "{shown}");
    let next = "ca-daemon init --dir DIR";
    let refused = fleet.ca_daemon(&["issue", "--client", "--name", "client_3"]);
    assert!(refused.code() == 4 && refused.stderr.contains(next), "{refused:?}");
    let refused = fleet.ca_daemon(&["token", "create"]);
    assert!(refused.code() == 4 && refused.stderr.contains(next), "{refused:?}");
    for _ in 0..2 {
        let enroll = ["enroll", "--name", "client_3", "--dir", "client_3"];
        let refused = run(fleet.command("api-client").args(enroll));
        // The authority's own certificate is beneath that CA, so the token is not even sent.
        assert!(refused.code() == 1 && refused.stderr.contains("The token was not sent"), "{refused:?}");
        let ready = run(Command::new("curl").args([
            "-sS",
            "-w",
            "%{http_code}",
            &format!("{}/readyz", fleet.ca_operations_url()),
        ]));
        assert!(ready.stdout.ends_with("503") && ready.stdout.contains(next), "{ready:?}");
        fleet.ca().kill();
        fleet.start_ca();
    }
}
