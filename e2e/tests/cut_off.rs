//! A service whose packets are lost, while no socket is closed: what `revoke` says of it, and how it catches up.

use e2e::{Fleet, Network, run_in, wait_until};

#[test]
fn a_service_that_is_cut_off_is_named_as_exposed_and_catches_up_when_packets_arrive_again() {
    let Some(network) = Network::new() else { return };
    let mut fleet = Fleet::at(network.here, &[]);
    let near = fleet.start_service("service0", &["--crl-refresh", "60s"]).url();
    let service = fleet.launch_service_in(&network, "service1", &["--crl-refresh", "60s"]);
    service.wait_ready();
    let far = service.url();
    fleet.wait_connected(2);
    let (first, second) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let _ = first.request(1, &far).success();

    network.cut();
    let report = fleet.ca_daemon(&["revoke", "client_1", "--wait", "5s", "--json"]);
    assert_eq!(report.code(), 5, "{report:?}");
    let report = report.json();
    assert_eq!(report["relyingParties"][0]["enforced"], true, "{report}");
    assert_eq!(report["relyingParties"][1]["enforced"], false, "{report}");
    assert!(report["relyingParties"][1]["admitsUntil"].is_string(), "until when it is exposed: {report}");
    assert_eq!(first.request(1, &near).json()["failures"][0]["alert"], "certificate_revoked");
    // That is the truth: whoever reaches the service is still let in by it.
    let mut command = first.command();
    command.args(["request", "--json", "--url", &far]);
    let _ = run_in(&network, &command).success();

    // By now each side takes the other for gone.
    wait_until("the service notices the silence", || service.process.log().contains("no feed").then_some(()));
    let said = fleet.ca_daemon(&["revoke", "client_2", "--wait", "5s"]);
    assert_eq!(said.code(), 5, "{said:?}");
    let line = said.stdout.lines().find(|line| line.contains("service1")).unwrap_or_default();
    assert!(line.contains("not confirmed: last seen") && line.contains("refuses everyone after"), "{said:?}");

    network.heal();
    for client in [&first, &second] {
        wait_until("the service catches up", || {
            let refused = client.request(1, &far).json();
            (refused["failures"][0]["alert"] == "certificate_revoked").then_some(())
        });
    }
    wait_until("the authority hears of it", || {
        let again = fleet.ca_daemon(&["revoke", "client_1", "client_2", "--wait", "1s"]);
        (again.code() == 0).then_some(())
    });
}
