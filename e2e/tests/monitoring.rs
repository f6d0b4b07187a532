//! Runs the alerting rules and the dashboard of packaging/ in a real Prometheus that scrapes real programs, and
//! compares docs/monitoring.md with both.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{Fleet, Process, run, wait_until};
use serde_json::Value;

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A Prometheus that scrapes a fleet.
struct Prometheus {
    url: String,
    process: Process,
}

impl Prometheus {
    fn start(fleet: &Fleet, services: &[String]) -> Self {
        let directory = fleet.directory().join("prometheus");
        fs::create_dir(&directory).expect("it is new");
        let authority = fleet.ca_operations_url().replace("http://", "");
        let configuration = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{}]\n\
             scrape_configs:\n\
             - {{job_name: ca-daemon, static_configs: [{{targets: ['{authority}']}}]}}\n\
             - {{job_name: api-server, static_configs: [{{targets: {services:?}}}]}}\n",
            file("packaging/prometheus/rules.yml").canonicalize().expect("it is there").display()
        );
        fs::write(directory.join("prometheus.yml"), configuration).expect("it can be written");
        // Not 9090: the distribution's own may listen there, on every address.
        let listen = format!("{}:8490", fleet.address());
        let process = Process::start("prometheus", &fleet.directory().join("prometheus.log"), |command| {
            command.current_dir(&directory).arg(format!("--web.listen-address={listen}"));
            command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        });
        let prometheus = Self { url: format!("http://{listen}/api/v1"), process };
        wait_until("both programs are scraped", || {
            let up = prometheus.ask("query", &["query=sum(up)"])?["result"][0]["value"][1].as_str()?.parse::<usize>();
            (up == Ok(services.len() + 1)).then_some(())
        });
        prometheus
    }

    /// What a path of its API answers; none while it does not.
    fn ask(&self, path: &str, parameters: &[&str]) -> Option<Value> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-G", "--max-time", "60"]);
        for parameter in parameters {
            curl.args(["--data-urlencode", parameter]);
        }
        let output = run(curl.arg(format!("{}/{path}", self.url)));
        let answer: Value = serde_json::from_str(&output.stdout).ok()?;
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}\n{}", self.process.log());
        Some(answer["data"].clone())
    }

    fn query(&self, expression: &str) -> Option<Value> {
        self.ask("query", &[&format!("query={expression}")])
    }

    /// The names of everything that was scraped.
    fn metrics(&self) -> BTreeSet<String> {
        let names = self.ask("label/__name__/values", &[]).expect("it answers");
        names.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }
}

/// The metrics that an expression names: what is ours, what every process has, and `up`.
fn named(expression: &str) -> BTreeSet<&str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let outside_of_strings = expression.split('"').step_by(2);
    let words = outside_of_strings.flat_map(|text| text.split(|character| !is_part(character)));
    let is_metric =
        |word: &&str| *word == "up" || ["ca_", "api_server_", "process_"].iter().any(|prefix| word.starts_with(prefix));
    words.filter(is_metric).collect()
}

/// What the panels of the dashboard ask, by title.
fn dashboard() -> Vec<(String, String)> {
    let text = fs::read_to_string(file("packaging/grafana/dashboard.json")).expect("it is there");
    let dashboard: Value = serde_json::from_str(&text).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (panel["title"].as_str(), target["expr"].as_str()))
    });
    // Grafana puts in four times the interval of scrapes, at least.
    let expression = |text: &str| text.replace("$__rate_interval", "1m");
    targets
        .map(|(title, text)| (title.expect("a title").to_owned(), expression(text.expect("an expression"))))
        .collect()
}

#[test]
fn every_alert_fires_for_what_it_is_about_and_is_silent_otherwise() {
    let promtool = |arguments: &[&str]| {
        run(Command::new("promtool").current_dir(file("packaging/prometheus")).args(arguments)).success()
    };
    let _ = promtool(&["check", "rules", "rules.yml"]);
    let _ = promtool(&["test", "rules", "rules_test.yml"]);
    let read = |path| fs::read_to_string(file(path)).expect("it is there");
    let (rules, tests, page) = (
        read("packaging/prometheus/rules.yml"),
        read("packaging/prometheus/rules_test.yml"),
        read("docs/monitoring.md"),
    );
    let alerts: BTreeSet<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let documented: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(documented, alerts, "docs/monitoring.md has a section for each alert");
    for alert in alerts {
        assert!(rules.contains(&format!("runbook: docs/monitoring.md#{}\n", alert.to_lowercase())), "{alert}");
        for test in ["fires", "is silent"] {
            assert!(tests.contains(&format!("name: {alert} {test}\n")), "{alert} {test}");
        }
    }
}

#[test]
fn every_expression_of_rules_and_dashboard_is_answered_by_prometheus() {
    let mut fleet = Fleet::new();
    let url = fleet.start_service("service0", &[]).url();
    let operations = fleet.service(0).operations.to_string();
    fleet.wait_connected(1);
    let [revoked, client] = ["client_1", "client_2"].map(|name| fleet.enroll(name));
    let connection = revoked.keep_asking(&url);
    let busy = client.keep_asking(&url);
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    drop(connection);
    assert_eq!(revoked.request(1, &url).code(), 3, "it is refused");
    let denied = run(fleet.command("api-client").args([
        "enroll",
        "--name",
        "x",
        "--dir",
        "x",
        "--token",
        &unknown_token(&fleet),
    ]));
    assert_eq!(denied.code(), 4, "{denied:?}");
    let prometheus = Prometheus::start(&fleet, &[operations]);

    // What counts events has nothing to say before there were some between two scrapes.
    let panels = dashboard();
    assert!(panels.len() > 20);
    for (title, expression) in &panels {
        wait_until(&format!("{title} has something to show: {expression}"), || {
            let answer = prometheus.query(expression)?;
            answer["result"].as_array().is_some_and(|series| !series.is_empty()).then_some(())
        });
    }
    let rules = wait_until("the rules were evaluated", || {
        let rules = prometheus.ask("rules", &[])?;
        let rules: Vec<_> = rules["groups"]
            .as_array()?
            .iter()
            .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
            .collect();
        rules.iter().all(|rule| rule["health"] == "ok").then_some(rules)
    });
    assert!(rules.len() > 10);
    let expressions = rules.iter().map(|rule| rule["query"].as_str().expect("an expression").to_owned());
    let scraped = prometheus.metrics();
    for expression in expressions.chain(panels.into_iter().map(|(_, expression)| expression)) {
        assert!(prometheus.query(&expression).is_some(), "{expression}");
        let names = named(&expression);
        assert!(!names.is_empty(), "{expression}");
        for name in names {
            assert!(scraped.contains(name), "{expression} names {name}, which was not scraped");
        }
    }
    let page = fs::read_to_string(file("docs/monitoring.md")).expect("it is there");
    for name in named(&page) {
        let is_scraped = scraped.contains(name) || scraped.contains(&format!("{name}_bucket"));
        assert!(is_scraped, "docs/monitoring.md names {name}, which was not scraped");
    }
    // Nothing is wrong with a fleet that works.
    let firing: Vec<_> = rules.iter().filter(|rule| rule["state"] == "firing").map(|rule| &rule["name"]).collect();
    assert!(firing.is_empty(), "{firing:?}");
    drop(busy);
}

/// A token of the right form that nobody has created.
fn unknown_token(fleet: &Fleet) -> String {
    use pki::token::{Secret, Token};
    let text = fs::read_to_string(fleet.ca_directory().join("bootstrap.token")).expect("init made it");
    let token: Token = text.parse().expect("a token");
    Token { secret: Secret::from_bytes([7; 32]), ..token }.encode().to_string()
}

#[test]
fn metrics_are_found_in_expressions() {
    let expression = r#"sum by (le) (rate(ca_x_bucket{route!="ca_y"}[1m])) > up / process_z"#;
    assert_eq!(named(expression).into_iter().collect::<Vec<_>>(), ["ca_x_bucket", "process_z", "up"]);
}
