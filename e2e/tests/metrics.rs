//! What is measured: in the form that Prometheus reads, and true.

use std::{
    fs,
    process::{Command, Stdio},
};

use e2e::{Fleet, run, wait_until};

/// `promtool check metrics`, which reads standard input.
fn check(fleet: &Fleet, metrics: &str) {
    let file = fleet.directory().join("metrics");
    fs::write(&file, metrics).expect("the file can be written");
    let mut command = Command::new("promtool");
    command
        .args(["check", "metrics"])
        .stdin(fs::File::open(&file).expect("it was just written"))
        .stdout(Stdio::piped());
    let output = command.output().expect("promtool runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{metrics}");
}

/// The value of a sample whose name and labels begin like this.
fn text<'a>(metrics: &'a str, sample: &str) -> &'a str {
    let line = metrics.lines().find(|line| line.starts_with(sample)).unwrap_or_else(|| panic!("{sample}: {metrics}"));
    line.rsplit_once(' ').expect("a value").1
}

fn value(metrics: &str, sample: &str) -> f64 {
    text(metrics, sample).parse().expect("a number")
}

#[test]
fn metrics_are_what_prometheus_reads_and_say_what_happens() {
    let mut fleet = Fleet::new();
    let url = fleet.start_service("service0", &[]).url();
    fleet.wait_connected(1);
    let client = fleet.enroll("client_1");
    let _connection = client.keep_asking(&url);
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();

    let authority = fleet.ca_operations("metrics").1;
    check(&fleet, &authority);
    assert!(value(&authority, "ca_confirmation_seconds_count") >= 1.0);
    assert!(value(&authority, "ca_confirmation_seconds_sum") < 60.0);
    assert_eq!(text(&authority, "ca_relying_party_connected_instances{relying_party=\"service0\"}"), "1");
    let seen = value(&authority, "ca_relying_party_last_seen_seconds{relying_party=\"service0\"}");
    let started = value(&authority, "process_start_time_seconds");
    assert!(seen >= started - 1.0, "{seen} {started}");
    for certificate in ["root", "issuing", "own"] {
        let sample = format!("ca_certificate_not_after_seconds{{certificate=\"{certificate}\"}}");
        assert!(value(&authority, &sample) > started, "{certificate}");
    }
    assert_eq!(text(&authority, "ca_database_writes_failed_total"), "0");
    let version = run(fleet.command("ca-daemon").arg("--version")).success().stdout;
    let version = version.trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(text(&authority, &format!("ca_build_info{{version=\"{version}\"}}")), "1");

    let service = fleet.service(0).operations("metrics").1;
    check(&fleet, &service);
    assert_eq!(text(&service, "api_server_feed_connected"), "1");
    assert_eq!(text(&service, "api_server_connections_ended_total{reason=\"revoked\"}"), "1");
    assert!(value(&service, "api_server_certificate_not_after_seconds{certificate=\"own\"}") > started);
    assert!(value(&service, "process_resident_memory_bytes") > 1_000_000.0);

    fleet.ca().kill();
    wait_until("the service counts that nothing can be fetched", || {
        let service = fleet.service(0).operations("metrics").1;
        (value(&service, "api_server_crl_fetches_failed_total") >= 1.0
            && text(&service, "api_server_feed_connected") == "0")
            .then_some(())
    });
}
