//! `revoke --dry-run` says who is connected where at this moment, and does not take silence for an answer.

use e2e::{Fleet, wait_until};
use rustix::process::Signal;

#[test]
fn a_dry_run_names_the_open_connections_and_changes_nothing() {
    let mut fleet = Fleet::new();
    let urls = ["service0", "service1"].map(|name| fleet.start_service(name, &["--crl-refresh", "60s"]).url());
    fleet.wait_connected(2);
    let (connected, idle) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let mut asking = connected.keep_asking(&urls[1]);

    let run = ["revoke", "client_1", "client_2", "--dry-run", "--wait", "1m"];
    let report = fleet.ca_daemon(&[&run[..], &["--json"]].concat()).success().json();
    let candidate = |name: &str| {
        let candidates = report["wouldRevoke"].as_array().into_iter().flatten();
        candidates.clone().find(|candidate| candidate["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
    };
    assert_eq!(candidate("client_1")["connected"], serde_json::json!({"service1": 1}), "{report}");
    assert_eq!(candidate("client_2")["connected"], serde_json::json!({}), "{report}");
    let party = |index: usize| &report["relyingParties"][index];
    assert_eq!((&party(0)["answered"], &party(0)["openConnections"]), (&true.into(), &0.into()), "{report}");
    assert_eq!((&party(1)["answered"], &party(1)["openConnections"]), (&true.into(), &1.into()), "{report}");

    let said = fleet.ca_daemon(&run).success().stdout;
    for text in ["nothing was revoked; 2 would be", "; connected to service1 (1)", "2 of 2 relying parties answered"] {
        assert!(said.contains(text), "{text:?} is not in {said}");
    }
    let line = said.lines().find(|line| line.contains("client_2")).unwrap_or_default();
    assert!(line.ends_with("; not connected"), "{said}");

    // It was asked and did not answer: that is not "not connected".
    fleet.service(1).process.signal(Signal::STOP);
    wait_until("the other one answers within the time that it is given", || {
        let said = fleet.ca_daemon(&["revoke", "client_1", "--dry-run", "--wait", "2s"]).success().stdout;
        assert!(said.contains("service1 did not answer"), "{said}");
        said.contains("1 of 2 relying parties answered").then_some(())
    });
    fleet.service(1).process.signal(Signal::CONT);

    // Without a daemon there is nobody to ask, and it says so.
    asking.kill();
    fleet.ca().kill();
    let said = fleet.ca_daemon(&run).success().stdout;
    assert!(said.contains("2 would be") && said.contains("nobody could be asked"), "{said}");
    // Programs are told of a failure in their own language, too.
    let failed = fleet.ca_daemon(&["revoke", "nobody", "--json"]);
    let problem: serde_json::Value = serde_json::from_str(failed.stderr.lines().last().unwrap_or_default()).unwrap();
    assert_eq!((&problem["type"], &problem["exitCode"]), (&"/problems/nothing-matches".into(), &3.into()), "{problem}");
    for (client, url) in [(&connected, &urls[0]), (&idle, &urls[1])] {
        let _ = client.request(1, url).success();
    }
}
