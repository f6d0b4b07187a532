//! The root revokes the issuing CA: everything beneath it ends.

use std::fs;

use e2e::Fleet;

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
    let report = fleet.ca_daemon(&[&revoke[..], &["--json"]].concat()).success().json();
    assert_eq!(report["certificates"][0]["name"], "Fleet Issuing CA", "{report}");
    for (index, ended) in [(0, 0), (1, 1)] {
        let party = &report["relyingParties"][index];
        assert_eq!((&party["enforced"], &party["connectionsEnded"]), (&true.into(), &ended.into()), "{report}");
    }
    for client in [&connected, &other] {
        for url in &urls {
            let refused = client.request(1, url).json();
            assert_eq!(refused["failures"][0]["alert"], "certificate_revoked", "{refused}");
        }
    }
    let again = fleet.ca_daemon(&revoke).success().stdout;
    assert!(again.contains("was already revoked") && again.contains("2 of 2 relying parties"), "{again}");
}
