//! A replica is killed while requests are under way.

use e2e::{Fleet, Process, binary, wait_until};
use serde_json::Value;

#[test]
fn a_killed_replica_costs_at_most_the_requests_in_flight_on_it() {
    let mut fleet = Fleet::new();
    fleet.start_balanced_services();
    let client = fleet.enroll("client_1");
    let url = fleet.balancer_url();

    let requests = Process::start(binary("api-client"), &fleet.directory().join("request.log"), |command| {
        command.current_dir(&client.directory).args(["request", "-n", "3000", "-c", "6", "--url", &url]);
    });
    // Every answer is a line; after the first hundred, 2,900 requests are still to come.
    let mut lines: Vec<_> = (0..100).map(|_| requests.line()).collect();
    fleet.service(1).process.kill();
    while !lines.last().unwrap().starts_with("answered by") {
        lines.push(requests.line());
    }
    let answers = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).count();
    // Two of the six connections ended at the killed replica, each with one request in flight. While the kernel takes the
    // process down, its socket still accepts connections that nobody will serve; a client may meet it once more.
    assert!(answers >= 2_994, "{answers} of 3000 requests were answered: {:?}", &lines[lines.len() - 3..]);

    wait_until("the balancer has noticed", || {
        let log = fleet.balancer().log();
        log.contains("service1 is DOWN").then_some(())
    });
    let summary = client.request(60, &url).success().json();
    let replicas: Vec<_> = summary["replicas"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(replicas, ["service0", "service2"]);

    fleet.restart_service(1, &["--proxy-protocol-from", "127.0.0.0/8"]);
    wait_until("the replica is used again", || {
        let summary = client.request(6, &url).success().json();
        (summary["replicas"].as_object().unwrap().len() == 3).then_some(())
    });
}
