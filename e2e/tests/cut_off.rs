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
    let said = fleet.revoke_but(&["client_1"], &["service0"]);
    assert!(said.stdout.contains("1 of 2 relying parties enforce it"), "{said:?}");
    let line = said.stdout.lines().find(|line| line.contains("service1")).unwrap_or_default();
    assert!(line.contains("not confirmed: ") && line.contains("may admit until"), "{said:?}");
    let report = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1ms", "--json"]);
    assert_eq!(report.code(), 5, "{report:?}");
    let report = report.json();
    assert_eq!(report["relyingParties"][0]["enforced"], true, "{report}");
    assert_eq!(report["relyingParties"][1]["enforced"], false, "{report}");
    assert!(report["relyingParties"][1]["admitsUntil"].is_string(), "until when it is exposed: {report}");
    assert_eq!(first.request(1, &near).json()["failures"][0]["alert"], "certificate_revoked");
    // That is the truth: whoever reaches the service is still let in by it.
    let mut command = first.command();
    command.args(["request", "--json", "--timeout", "1m", "--url", &far]);
    let _ = run_in(&network, &command).success();

    // Each side comes to take the other for gone.
    wait_until("the service notices the silence", || service.process.log().contains("no feed").then_some(()));
    wait_until("the authority notices the silence", || {
        let said = fleet.ca_daemon(&["revoke", "client_2", "--wait", "1s"]);
        assert_eq!(said.code(), 5, "{said:?}");
        let line = said.stdout.lines().find(|line| line.contains("service1")).unwrap_or_default();
        assert!(line.contains("not confirmed: ") && line.contains("may admit until"), "{said:?}");
        line.contains("last seen").then_some(())
    });

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

/// A poll that hangs where packets are lost must not keep the next one from finding that they arrive again.
#[test]
fn a_service_notices_the_cut_while_it_lasts_and_is_back_by_its_polls_and_on_the_feed() {
    let Some(network) = Network::new() else { return };
    let fleet = Fleet::at(network.here, &[]);
    let service = fleet.launch_service_in(&network, "service0", &["--crl-refresh", "1s"]);
    service.wait_ready();
    fleet.wait_connected(1);
    let client = fleet.enroll("client_1");
    let log = || service.process.log();
    let counted = |text: &str| log().matches(text).count();
    let outages = counted("no CRL can be fetched");

    network.cut();
    // Every list's keeper gives up what hangs, and so does the feed; nothing has ended by itself.
    wait_until("its polls fail", || (counted("no CRL can be fetched") == outages + 2).then_some(()));
    wait_until("its feed fails", || log().contains("no feed").then_some(()));
    let said = fleet.ca_daemon(&["revoke", "client_1", "--no-wait"]).success();
    assert!(said.stdout.contains("revoked client_1"), "{said:?}");
    assert_eq!(counted("feed open"), 1);

    network.heal();
    wait_until("its polls arrive", || (counted("CRLs can be fetched again") >= 2).then_some(()));
    wait_until("its feed is open", || (counted("feed open") == 2).then_some(()));
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    assert_eq!(client.request(1, &service.url()).json()["failures"][0]["alert"], "certificate_revoked");
}
