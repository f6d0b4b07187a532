//! What people read, as snapshots: the help of each command, the tables, and the errors of the commonest mistakes.
//!
//! After a change of words: `INSTA_UPDATE=always cargo test -p e2e --test words`, and read the difference.

use std::{fmt::Write as _, process::Command as Process};

use clap::{Command, CommandFactory as _};
use e2e::{Fleet, Output, binary, run, wait_until};
use insta::{Settings, assert_snapshot};

/// Replaces what is another each time by something of the same width.
fn settings() -> Settings {
    let mut settings = Settings::clone_current();
    settings.set_omit_expression(true);
    settings.set_prepend_module_to_snapshot(false);
    for (changing, fixed) in [
        (r"-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----", "(PEM)"),
        (r"\b[0-9a-f]{32}\b", "5f0c000000000000000000000000003a"),
        (r"(?:[0-9A-F]{2}:){31}[0-9A-F]{2}", "(SHA-256)"),
        (r"\b[0-9]{10}\b", "1795510800"),
        (r"\b[0-9a-f]{12}\b", "b845e7c80666"),
        (r"\b[0-9a-f]{8}\b", "906c453a"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "2026-11-24 09:00:00Z"),
        (r"\d{4}-\d\d-\d\d", "2026-11-24"),
        (r" +\d+ ms( {5,})", "              7 ms$1"),
        (r"answered in [0-9.]+ (?:[uµ]s|ms|s)", "answered in 1.49 ms"),
        (r"last seen \d+ s ago", "last seen 12 s ago"),
        (r"127\.0\.0\.1:[3-6]\d{4}", "127.0.0.1:50000"),
    ] {
        settings.add_filter(changing, fixed);
    }
    settings
}

/// What people see of a command that was typed.
fn transcript(typed: &str, output: &Output) -> String {
    let mut text = format!("$ {typed}\n{}{}", output.stdout, output.stderr);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if output.code() != 0 {
        let _ = writeln!(text, "(exit code {})", output.code());
    }
    text
}

/// Types a line in the fleet's directory.
fn typed(fleet: &Fleet, line: &str) -> String {
    let mut words = line.split(' ');
    let mut command = fleet.command(words.next().expect("a program"));
    let text = transcript(line, &run(command.args(words).env_remove("COLUMNS")));
    let text = text.replace(fleet.directory().to_str().expect("test directories are UTF-8"), "DIR");
    // Whoever confirms first is printed first.
    let mut lines: Vec<_> = text.lines().collect();
    lines
        .chunk_by_mut(|one, other| one.starts_with("  service") && other.starts_with("  service"))
        .for_each(<[_]>::sort);
    lines.join("\n").replace(&fleet.address().to_string(), "127.1.2.3") + "\n"
}

fn commands(typed: &str, command: &Command) -> Vec<String> {
    let beneath =
        command.get_subcommands().flat_map(|command| commands(&format!("{typed} {}", command.get_name()), command));
    [typed.to_owned()].into_iter().chain(beneath).collect()
}

#[test]
fn help() {
    for program in
        [ca_daemon::cli::command(), api_server::config::Arguments::command(), api_client::cli::Arguments::command()]
    {
        for typed in commands(program.get_name(), &program) {
            let mut words = typed.split(' ');
            let mut command = Process::new(binary(words.next().expect("a program")));
            for variable in ["CA_DIR", "CA_TOKEN", "COLUMNS"] {
                command.env_remove(variable);
            }
            let output = run(command.args(words).arg("--help")).success();
            settings().bind(|| assert_snapshot!(format!("help {typed}").replace(' ', "-"), output.stdout));
        }
    }
}

#[test]
fn tables() {
    let mut fleet = Fleet::new();
    let service = fleet.start_service("service0", &[]).url();
    fleet.start_service("service1", &[]);
    fleet.wait_connected(2);
    let client = fleet.enroll("client_1");
    let _ = fleet.enroll("client_2");
    let connection = client.keep_asking(&service);
    wait_until("the dry run finds the connection", || {
        let asked = fleet.ca_daemon(&["revoke", "client_1", "--dry-run"]).success();
        asked.stdout.contains("connected to service0 (1)").then_some(())
    });
    wait_until("the relying party has reported the connection", || {
        let parties = fleet.ca_daemon(&["relying-parties", "--json"]).success().json();
        (parties[0]["openConnections"] == 1).then_some(())
    });
    let mut said = String::new();
    for line in [
        "ca-daemon list",
        "ca-daemon show client_1",
        "ca-daemon relying-parties",
        "ca-daemon token list",
        "ca-daemon revoke client_1 --dry-run --wait 1m",
        "ca-daemon revoke client_1 --reason key-compromise --wait 1m",
        "ca-daemon revoke client_1 --wait 1m",
        "ca-daemon list --status revoked",
        "ca-daemon revoke --issuing --dry-run",
    ] {
        said = said + &typed(&fleet, line) + "\n";
    }
    drop(connection);
    settings().bind(|| assert_snapshot!("tables", said));
}

#[test]
fn errors() {
    let mut fleet = Fleet::new();
    let (address, service) = {
        let service = fleet.start_service("service0", &[]);
        (service.https, service.url())
    };
    fleet.wait_connected(1);
    let client = fleet.enroll("client_1");
    let _ = fleet.enroll("client_2");
    let narrow = fleet.ca_daemon(&["token", "create", "--name", "db", "--out", "narrow.token"]).success();
    assert!(narrow.stdout.contains("narrow.token"));
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    assert_eq!(client.request(1, &service).code(), 3);
    let mut said = String::new();
    for line in [
        "ca-daemon revoke",
        "ca-daemon revoke client_2 --reason stolen",
        "ca-daemon revoke client_2 --wait soon",
        "ca-daemon revoke nobody",
        "ca-daemon show nobody",
        "ca-daemon init",
        "ca-daemon list --dir elsewhere",
        "ca-daemon serve --dir elsewhere",
        "ca-daemon revok client_2",
        "ca-daemon token create --server",
        "ca-daemon token create --ttl 24",
        "ca-daemon issue --client",
        "ca-daemon relying-parties forget nobody",
        "ca-daemon relying-parties forget service0",
        "ca-daemon revoke --issuing",
        "api-client enroll",
        "api-client enroll --name client_2 --dir client_2",
        "api-client enroll --name client_3 --dir client_3 --ca-dir elsewhere",
        "api-client enroll --name client_3 --dir client_3 --token catoken_x",
        "api-client enroll --name client_3 --dir client_3 --token-file narrow.token",
        "api-client request --dir client_3",
        "api-client request --dir client_2 --url https://127.0.0.1:1/hello",
        "api-client request --dir client_2 --url http://127.0.0.1/hello",
        "api-client status --dir client_3",
        "api-server --name service9 --ca-dir elsewhere",
        "api-server --on-stale-crl admit",
        "api-server healthcheck --ops-listen 127.0.0.1:1",
    ] {
        said = said + &typed(&fleet, line) + "\n";
    }
    let service = service.replace(&fleet.address().to_string(), "127.1.2.3");
    let refused = typed(&fleet, &format!("api-client request --dir client_1 --url https://{address}/hello"));
    said += &refused.replace(&service, "https://SERVICE/hello");
    settings().bind(|| assert_snapshot!("errors", said));
}
