//! Services that are slow, paused or killed, and an authority that is killed while it revokes: `revoke` tells the truth
//! meanwhile, and everybody catches up.

use e2e::{Client, Fleet, Process, Service, binary, wait_until};
use rustix::process::Signal;

/// A minute between polls: what arrives sooner has come by the feed.
const REFRESH: [&str; 2] = ["--crl-refresh", "60s"];

/// One service that stays well, and one that does not.
fn services(fleet: &mut Fleet) -> (String, Service) {
    let well = fleet.start_service("service0", &REFRESH).url();
    let ill = fleet.launch_service("service1", &REFRESH);
    ill.wait_ready();
    fleet.wait_connected(2);
    (well, ill)
}

fn is_refused(client: &Client, url: &str) -> bool {
    client.request(1, url).json()["failures"][0]["alert"] == "certificate_revoked"
}

fn refused_at_last(client: &Client, url: &str) {
    wait_until("the service catches up", || is_refused(client, url).then_some(()));
}

/// What `revoke` prints of service1, which does not confirm.
fn revoke_without_service1(fleet: &Fleet, name: &str) -> String {
    let said = fleet.revoke_but(&[name], &["service0"]);
    assert!(said.code() == 5 && said.stdout.contains("1 of 2 relying parties enforce it"), "{said:?}");
    let mut lines = said.stdout.lines().filter(|line| line.contains("service1")).map(str::to_owned);
    lines.next().unwrap_or_else(|| panic!("{said:?}"))
}

#[test]
fn a_slow_service_is_waited_for_and_confirms() {
    let mut fleet = Fleet::new();
    let (_, slow) = services(&mut fleet);
    let client = fleet.enroll("client_1");
    let url = slow.url();
    let report = slow.process.slowed(|| fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m", "--json"]));
    let report = report.success().json();
    assert_eq!(report["relyingParties"][1]["enforced"], true, "{report}");
    assert!(is_refused(&client, &url), "it has returned, so it is enforced");
}

#[test]
fn a_service_that_was_paused_for_long_is_taken_for_gone_and_catches_up() {
    let mut fleet = Fleet::new();
    let (well, paused) = services(&mut fleet);
    let (first, second) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    paused.process.signal(Signal::STOP);
    // Nobody can know yet that it is more than slow.
    let line = revoke_without_service1(&fleet, "client_1");
    assert!(line.contains("not confirmed: connected, and it enforces number"), "{line}");
    assert!(is_refused(&first, &well));
    // After some heartbeats it is known.
    let listed = || fleet.ca_daemon(&["relying-parties", "--json"]).success().json();
    wait_until("the authority takes it for gone", || listed()[1]["connectedSince"].is_null().then_some(()));
    let line = revoke_without_service1(&fleet, "client_2");
    assert!(line.contains("not confirmed: last seen") && line.contains("may admit until"), "{line}");

    paused.process.signal(Signal::CONT);
    for client in [&first, &second] {
        refused_at_last(client, &paused.url());
    }
    wait_until("it is back on the feed", || {
        (listed()[1]["connectedSince"].is_string() && listed()[1]["lag"] == 0).then_some(())
    });
}

#[test]
fn a_service_that_was_killed_is_named_and_enforces_everything_when_it_is_back() {
    let mut fleet = Fleet::new();
    let (well, mut killed) = services(&mut fleet);
    let (first, second) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let (url, operations) = (killed.url(), killed.operations.to_string());
    let https = killed.https.to_string();
    killed.process.kill();
    let listed = || fleet.ca_daemon(&["relying-parties", "--json"]).success().json();
    wait_until("the authority sees it go", || listed()[1]["connectedSince"].is_null().then_some(()));
    let line = revoke_without_service1(&fleet, "client_1");
    assert!(line.contains("not confirmed: last seen") && line.contains("may admit until"), "{line}");
    assert!(is_refused(&first, &well));

    let back =
        fleet.launch_service("service1", &[&REFRESH[..], &["--listen", &https, "--ops-listen", &operations]].concat());
    back.wait_ready();
    refused_at_last(&first, &url);
    fleet.wait_connected(2);
    let _ = fleet.ca_daemon(&["revoke", "client_2", "--wait", "1m"]).success();
    assert!(is_refused(&second, &url));
}

/// What nobody has said is not taken for a yes.
#[test]
fn an_authority_that_does_not_answer_confirms_nothing() {
    let mut fleet = Fleet::new();
    let url = fleet.start_service("service0", &REFRESH).url();
    fleet.wait_connected(1);
    let client = fleet.enroll("client_1");
    fleet.ca().signal(Signal::STOP);
    let said = fleet.ca_daemon(&["revoke", "client_1", "--json", "--wait", "100ms"]);
    fleet.ca().signal(Signal::CONT);
    assert_eq!(said.code(), 5, "{said:?}");
    refused_at_last(&client, &url);
}

/// Ctrl-C stops the waiting, and takes nothing back.
#[test]
fn whoever_stops_waiting_has_revoked_all_the_same() {
    let mut fleet = Fleet::new();
    let url = fleet.start_service("service0", &REFRESH).url();
    fleet.wait_connected(1);
    let client = fleet.enroll("client_1");
    fleet.service(0).process.signal(Signal::STOP);
    let mut revoke = Process::start(binary("ca-daemon"), &fleet.directory().join("revoke.log"), |command| {
        command.current_dir(fleet.directory()).env_remove("CA_DIR").args(["revoke", "client_1", "--wait", "1h"]);
    });
    let first = revoke.line();
    assert!(first.starts_with("revoked client_1 (serial "), "{first}");
    assert!(revoke.line().contains("enforced after"), "it waits");
    assert_eq!(revoke.end_with(Signal::INT).code(), Some(5), "{}", revoke.log());
    let line = revoke.line();
    assert!(line.contains("service0") && line.contains("not confirmed: "), "{line}");
    assert_eq!(revoke.line(), "0 of 1 relying parties enforce it");
    assert!(revoke.log().contains("stopped waiting; the certificates stay revoked"), "{}", revoke.log());
    fleet.service(0).process.signal(Signal::CONT);
    refused_at_last(&client, &url);
}

#[test]
fn an_authority_that_is_killed_while_it_revokes_loses_no_revocation() {
    const CLIENTS: usize = 12;
    let mut fleet = Fleet::new();
    let urls = ["service0", "service1"].map(|name| fleet.start_service(name, &REFRESH).url());
    fleet.wait_connected(2);
    let clients: Vec<_> = (0..CLIENTS).map(|index| fleet.enroll(&format!("client_{index}"))).collect();
    let bystander = fleet.enroll("bystander");
    let mut acknowledged = 0;
    for (index, client) in clients.iter().enumerate() {
        // It is killed while a command waits for it, and is back before the last one.
        let name = format!("client_{index}");
        let mut revoke = fleet.command("ca-daemon");
        revoke.args(["revoke", &name, "--wait", "1m"]).stdout(std::process::Stdio::null());
        let mut revoke = revoke.stderr(std::process::Stdio::null()).spawn().expect("the program is built");
        if index == CLIENTS / 3 {
            fleet.ca().kill();
        }
        if index == 2 * CLIENTS / 3 {
            fleet.start_ca();
        }
        let status = revoke.wait().expect("it is our child");
        assert!(matches!(status.code(), Some(0 | 5)), "recorded in any case: {status}");
        if status.success() {
            acknowledged += 1;
            assert!(urls.iter().all(|url| is_refused(client, url)), "{name} was acknowledged");
        }
    }
    assert!((CLIENTS / 3..CLIENTS).contains(&acknowledged), "{acknowledged} of {CLIENTS} acknowledged");
    for client in &clients {
        for url in &urls {
            refused_at_last(client, url);
        }
    }
    for url in &urls {
        let _ = bystander.request(1, url).success();
    }
}
