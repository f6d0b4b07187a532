//! The main story: an authority, three services behind HAProxy, clients, and a revocation that is refused everywhere.

use e2e::{Fleet, run, wait_until};
use serde_json::Value;

/// The TLS alert (or, on a connection that is open already, the status) of the first failure in a summary.
fn first_failure(summary: &Value) -> (Option<&str>, Option<u64>) {
    let failure = &summary["failures"][0];
    (failure["alert"].as_str(), failure["status"].as_u64())
}

#[test]
fn a_fleet_serves_its_clients_and_refuses_the_one_that_is_revoked() {
    let mut fleet = Fleet::new();
    fleet.start_balanced_services();
    let (revoked, other) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let url = fleet.balancer_url();

    let summary = revoked.request(50, &url).success().json();
    assert_eq!(summary["answered"], 50);
    let replicas = summary["replicas"].as_object().unwrap();
    assert_eq!(replicas.keys().collect::<Vec<_>>(), ["service0", "service1", "service2"]);

    let answer = run(revoked.command().args(["request", "--timeout", "1m", "--url", &url])).success();
    let hello: Value = serde_json::from_str(answer.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(hello["protocol"], "HTTP/2.0");
    assert_eq!(hello["commonName"], "client_1");
    assert_eq!(hello["names"][0], format!("spiffe://{}/client/client_1", fleet.address()));
    assert!(hello["clientAddress"].as_str().unwrap().starts_with("127."), "{hello}");
    let listed = fleet.ca_daemon(&["list", "--json", "--name", "client_1"]).success().json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed[0]["serial"], hello["serial"]);

    let said = fleet.ca_daemon(&["revoke", "client_1", "--reason", "key-compromise", "--wait", "1m"]).success();
    assert!(said.stdout.contains(hello["serial"].as_str().unwrap()), "{said:?}");

    // Six connections go round all three replicas twice; the services ask for the CRL every 200 ms.
    wait_until("every replica refuses the revoked client", || {
        (revoked.request(6, &url).json()["failed"] == 6).then_some(())
    });
    let refused = revoked.request(6, &url);
    assert_eq!(refused.code(), 3);
    assert_eq!(first_failure(&refused.json()), (Some("certificate_revoked"), None));
    for index in 0..3 {
        let line = wait_until("the refusal is logged", || {
            let log = fleet.service(index).process.log();
            log.lines().find(|line| line.contains("handshake refused") && line.contains("client_1")).map(str::to_owned)
        });
        assert!(line.contains("certificate is revoked") && line.contains("from="), "{line}");
    }

    assert_eq!(other.request(12, &url).success().json()["answered"], 12, "nobody else notices");
    let again = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    assert!(again.stdout.contains("already"), "revoking twice says so and is no error: {again:?}");
}
