//! Every part is restarted, killed or missing for a while; the rest goes on.

use e2e::{Fleet, run, wait_until};

#[test]
fn services_serve_and_cold_start_while_the_authority_is_down() {
    let mut fleet = Fleet::new();
    let url = fleet.start_service("service0", &[]).url();
    let (client, revoked) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let _ = fleet.ca_daemon(&["revoke", "client_2", "--wait", "1m"]).success();
    wait_until("client_2 is refused", || (revoked.request(1, &url).code() == 3).then_some(()));

    fleet.ca().kill();
    assert_eq!(client.request(3, &url).success().json()["answered"], 3);

    // The last good CRLs are on the service's disk: it knows again who is revoked, without anybody to ask.
    fleet.restart_service(0, &[]);
    assert_eq!(client.request(3, &url).success().json()["answered"], 3);
    let refused = revoked.request(1, &url).json();
    assert_eq!(refused["failures"][0]["alert"], "certificate_revoked");

    // A revocation that is recorded while the daemon is down is published when it is back.
    let alone = fleet.ca_daemon(&["revoke", "client_1"]);
    assert_eq!(alone.code(), 5, "recorded, and not published to anybody: {alone:?}");
    fleet.start_ca();
    wait_until("client_1 is refused", || {
        let summary = client.request(1, &url).json();
        (summary["failures"][0]["alert"] == "certificate_revoked").then_some(())
    });
}

#[test]
fn a_service_without_a_crl_refuses_everybody_and_is_not_ready() {
    let mut fleet = Fleet::new();
    fleet.start_service("service0", &[]);
    let client = fleet.enroll("client_1");
    fleet.service(0).process.stop();
    fleet.ca().kill();
    std::fs::remove_dir_all(fleet.directory().join("service0/crl")).unwrap();

    let service = fleet.launch_service("service0", &[]);
    let (status, why) = service.readiness();
    assert_eq!(status, 503);
    assert!(why.contains("has not registered this relying party yet"), "it said goodbye: {why}");
    let refused = client.request(1, &service.url()).json();
    assert_eq!(refused["failures"][0]["alert"], "access_denied");

    fleet.start_ca();
    service.wait_ready();
    let _ = client.request(1, &service.url()).success();
}

#[test]
fn a_stale_crl_refuses_everybody_until_the_authority_is_back() {
    let mut fleet = Fleet::with_init(&["--crl-lifetime", "10s"]);
    let service = fleet.start_service("service0", &[]).url();
    let client = fleet.enroll("client_1");
    let _ = client.request(1, &service).success();
    // Re-signed by timer at a third of its life, so that it never gets stale while the authority runs.
    let number = |fleet: &mut Fleet| {
        let metrics = fleet.service(0).operations("metrics").1;
        let line = metrics.lines().find(|line| line.starts_with("api_server_crl_number") && line.contains("Issuing"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).expect("the CRL number is a metric")
    };
    let before = number(&mut fleet);
    // Numbers follow the clock: twelve more is later than the first one lived.
    wait_until("the CRL is signed again though nothing changed", || (number(&mut fleet) >= before + 12).then_some(()));
    let _ = client.request(1, &service).success();

    fleet.ca().kill();
    wait_until("the service is not ready", || {
        let (status, why) = fleet.service(0).readiness();
        (status == 503 && why.contains("stale")).then_some(())
    });
    // To the client, nothing is known of the service either.
    let unknown = client.request(1, &service);
    assert!(unknown.code() == 1 && unknown.stderr.contains("--on-missing-crl"), "{unknown:?}");
    let accept = ["request", "--json", "--on-missing-crl", "accept", "--url", &service];
    let refused = run(client.command().args(accept)).json();
    assert_eq!(refused["failures"][0]["alert"], "access_denied");

    fleet.start_ca();
    fleet.service(0).wait_ready();
    let _ = client.request(1, &service).success();
}

#[test]
fn every_part_can_be_stopped_and_started_again() {
    let mut fleet = Fleet::new();
    fleet.start_balanced_services();
    let client = fleet.enroll("client_1");
    let url = fleet.balancer_url();
    let serial = |fleet: &Fleet| fleet.ca_daemon(&["list", "--json", "--name", "service0"]).success().json();
    let before = serial(&fleet);

    assert!(fleet.ca().stop().success(), "the authority drains and ends with 0");
    fleet.start_ca();
    for index in 0..3 {
        assert!(fleet.service(index).process.stop().success(), "a service drains and ends with 0");
        fleet.restart_service(index, &["--proxy-protocol-from", "127.0.0.0/8"]);
    }
    fleet.balancer().stop();
    fleet.start_balancer();

    wait_until("all replicas answer again", || {
        let summary = client.request(12, &url).json();
        (summary["replicas"].as_object().unwrap().len() == 3).then_some(())
    });
    assert_eq!(serial(&fleet), before, "a restarted service uses what is on disk and does not enroll again");
    let status = run(client.command().arg("status")).success();
    assert!(status.stdout.contains("client_1"), "{status:?}");
}
