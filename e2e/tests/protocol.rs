//! What docs/protocol.md and docs/openapi.json promise to those who write a relying party in another language.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use e2e::{Client, Fleet, Output, Process, run, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A program of the virtualenv that `scripts/setup-linter.sh` makes.
fn tool(name: &str) -> PathBuf {
    let path = file("target/linter/bin").join(name);
    assert!(path.exists(), "{} is missing; run: scripts/setup-linter.sh", path.display());
    path
}

fn document() -> Value {
    serde_json::from_str(&fs::read_to_string(file("docs/openapi.json")).expect("it is there")).expect("it is JSON")
}

/// A relying party that was written from docs/protocol.md, in Python.
struct Foreign {
    process: Process,
    url: String,
}

impl Foreign {
    fn start(fleet: &Fleet) -> Self {
        let token = fs::File::open(fleet.ca_directory().join("bootstrap.token")).expect("init made it");
        let process = Process::start(tool("python"), &fleet.directory().join("python0.log"), |command| {
            command
                .arg(file("e2e/fixtures/relying_party.py"))
                .args([
                    fleet.directory().join("python0").to_str().expect("test directories are UTF-8"),
                    "python0",
                    &fleet.address().to_string(),
                    "0",
                ])
                .stdin(Stdio::from(token));
        });
        let listening: Value = serde_json::from_str(&process.line()).expect("a line of JSON");
        let url = format!("https://{}/", listening["https"].as_str().expect("an address"));
        Self { process, url }
    }

    fn ask(&self, client: &Client) -> Output {
        run(curl(client).arg(&self.url))
    }
}

fn curl(client: &Client) -> Command {
    let mut command = Command::new("curl");
    command.current_dir(&client.directory).args([
        "-sS",
        "--http1.1",
        "--max-time",
        "60",
        "--cert",
        "client.crt",
        "--key",
        "client.key",
        "--cacert",
        "ca.crt",
    ]);
    command
}

#[test]
fn a_relying_party_written_from_the_protocol_alone_is_counted_by_revoke() {
    let mut fleet = Fleet::new();
    let mut foreign = Foreign::start(&fleet);
    fleet.wait_connected(1);
    let names = ["client_1", "client_2", "client_3", "client_4"];
    let clients @ [first, second, third, fourth] = &names.map(|name| fleet.enroll(name));
    for client in clients {
        assert_eq!(foreign.ask(client).success().stdout, "hello\n");
    }

    // A connection that is open is reported to the operator, and cut by the revocation.
    let held = Process::start("curl", &fleet.directory().join("held.log"), |command| {
        *command = curl(first);
        command.args(["--rate", "1/s"]).arg(format!("{}?[1-3600]", foreign.url));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    });
    assert_eq!(held.line(), "hello");
    wait_until("the dry run reports the connection", || {
        let asked = fleet.ca_daemon(&["revoke", "client_1", "--dry-run"]).success();
        asked.stdout.contains("connected to python0 (1)").then_some(())
    });
    let revoked = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m", "--json"]).success().json();
    let party = &revoked["relyingParties"][0];
    assert_eq!((&party["name"], &party["enforced"]), (&json!("python0"), &json!(true)), "{revoked:#}");
    assert_eq!(party["connectionsEnded"], 1, "{revoked:#}");
    assert_eq!(foreign.ask(first).code(), 56, "the connection is reset");
    assert_eq!(foreign.ask(second).success().stdout, "hello\n");

    // The next list comes as a delta; and both are named in the table for people.
    let said = fleet.ca_daemon(&["revoke", "client_2", "--wait", "1m"]).success();
    assert!(said.stdout.contains("python0") && said.stdout.contains("1 of 1 relying parties enforce it"), "{said:?}");
    assert_eq!(foreign.ask(second).code(), 56);

    // The authority is restarted: the feed opens again, and what is revoked now is confirmed.
    fleet.stop_ca();
    fleet.start_ca();
    fleet.wait_connected(1);
    assert_eq!(foreign.ask(third).success().stdout, "hello\n");
    let _ = fleet.ca_daemon(&["revoke", "client_3", "--wait", "1m"]).success();
    assert_eq!(foreign.ask(third).code(), 56);

    // The authority's database is replaced by an older copy: it gets the list back that revokes client_4.
    // It ends properly, so that the file has everything.
    fleet.ca().stop();
    let database = fleet.ca_directory().join("ca.db");
    let copy = fs::read(&database).expect("it is there");
    fleet.start_ca();
    fleet.wait_connected(1);
    let _ = fleet.ca_daemon(&["revoke", "client_4", "--wait", "1m"]).success();
    fleet.ca().stop();
    fs::write(&database, copy).expect("it can be written");
    fleet.start_ca();
    wait_until("what was forgotten is revoked again", || {
        let listed = fleet.ca_daemon(&["list", "--status", "revoked", "--name", "client_4"]).success();
        listed.stdout.contains("client_4").then_some(())
    });
    assert_eq!(foreign.ask(fourth).code(), 56);

    // Killed, it is expected until its next run proves to be its successor. A goodbye ends that.
    foreign.process.kill();
    let mut successor = Foreign::start(&fleet);
    fleet.wait_connected(1);
    assert!(successor.process.end_with(Signal::TERM).success());
    let listed = fleet.ca_daemon(&["relying-parties", "--json"]).success().json();
    assert_eq!(listed, json!([]));
}

#[test]
fn the_openapi_document_is_valid_and_served() {
    let checked = run(Command::new(tool("openapi-spec-validator")).arg(file("docs/openapi.json")));
    assert!(checked.status.success(), "{checked:?}");
    let fleet = Fleet::new();
    let client = fleet.enroll("client_1");
    for url in [fleet.ca_url(), fleet.crl_url()] {
        let served = run(curl(&client).arg(format!("{url}/openapi.json"))).success();
        assert_eq!(served.json(), document());
    }
}

#[test]
fn the_table_of_problem_types_has_those_of_the_document() {
    let text = fs::read_to_string(file("docs/protocol.md")).unwrap();
    let table = text.split("## Problem types").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    let listed: BTreeSet<_> =
        rows.flat_map(|row| row.split('`').skip(1).step_by(2)).map(|kind| format!("/problems/{kind}")).collect();
    let document = document();
    let types = document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"].as_array().unwrap();
    assert_eq!(listed, types.iter().map(|kind| kind.as_str().unwrap().to_owned()).collect());
}

/// Asks the fleet, and holds each answer against the document.
struct Asked<'a> {
    fleet: &'a Fleet,
    document: Value,
    seen: BTreeSet<(String, String, u16)>,
}

impl Asked<'_> {
    /// The status of the answer. Asserts that it is documented for this path and method, and that a problem is of a
    /// documented type.
    fn status(&mut self, server: &str, method: &str, path: &str, arguments: &[&str]) -> u16 {
        let port = server.rsplit_once(':').expect("a port").1;
        let scheme = server.split_once(':').expect("a scheme").0;
        let url = format!("{scheme}://{}:{port}{path}", self.fleet.address());
        let directory = self.fleet.directory();
        let mut curl = Command::new("curl");
        // An answer without an end is over as soon as nothing more of it is wanted.
        curl.current_dir(directory).args(["-sS", "-N", "--max-time", "60", "--cacert", "ca/root.crt", "-X", method]);
        curl.args(["-D", "head", "-o", "body"]).args(arguments).arg(&url);
        let answered = run(&mut curl);
        let head = fs::read_to_string(directory.join("head")).unwrap_or_default();
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("{method} {url} is not answered: {answered:?}"));
        let operation = &self.document["paths"][path][method.to_lowercase()];
        let documented = operation["responses"].get(status.to_string());
        let body = fs::read_to_string(directory.join("body")).unwrap_or_default();
        assert!(documented.is_some(), "{method} {path} answers {status}, which is not documented: {body}");
        if status >= 400 {
            let problem: Value = serde_json::from_str(&body).expect("a problem document");
            let types = &self.document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
            assert!(
                types.as_array().is_some_and(|types| types.contains(&problem["type"])),
                "{problem} is of a type that is not documented"
            );
        }
        self.seen.insert((method.to_owned(), path.to_owned(), status));
        status
    }
}

const HTTPS: &str = "https://localhost:8440";
const JSON: &str = "content-type: application/json";

#[test]
fn every_route_answers_as_the_document_says() {
    let fleet = Fleet::new();
    let server = run(fleet.command("api-client").args(["enroll", "--server", "--host", "db.fleet", "--dir", "db"]));
    let _ = server.success();
    let _ = fleet.enroll("client_1");
    let mut asked = Asked { fleet: &fleet, document: document(), seen: BTreeSet::new() };

    // Every path on every listener that has it, without anything that it may want.
    for (path, item) in document()["paths"].as_object().unwrap() {
        let methods: Vec<_> = ["get", "post"].into_iter().filter(|method| item.get(method).is_some()).collect();
        for (server, method) in item["servers"].as_array().unwrap().iter().zip(std::iter::repeat(methods)) {
            for method in method {
                let status = asked.status(server["url"].as_str().unwrap(), &method.to_uppercase(), path, &[]);
                assert_ne!(status, 404, "{path} is not served by {server}");
            }
        }
    }

    // Enrollment.
    let token = fs::read_to_string(fleet.ca_directory().join("bootstrap.token")).unwrap();
    let token = format!("authorization: Bearer {}", token.trim());
    let enroll = |asked: &mut Asked<'_>, arguments: &[&str]| asked.status(HTTPS, "POST", "/v1/enroll", arguments);
    let unknown = format!("authorization: Bearer {}", "A".repeat(43));
    assert_eq!(enroll(&mut asked, &["-H", &unknown, "-H", JSON, "-d", "{}"]), 401);
    assert_eq!(enroll(&mut asked, &["-H", &token, "-H", JSON, "-d", "{}"]), 400);
    assert_eq!(enroll(&mut asked, &["-H", &token, "-H", "content-type: text/plain", "-d", "{}"]), 415);
    let csr = r#"{"profile": "client", "csr": "no request"}"#;
    assert_eq!(enroll(&mut asked, &["-H", &token, "-H", JSON, "-d", csr]), 422);
    fs::write(fleet.directory().join("large"), " ".repeat(64 * 1024 + 1)).unwrap();
    assert_eq!(enroll(&mut asked, &["-H", &token, "-H", JSON, "--data-binary", "@large"]), 413);
    let narrow = fleet.ca_daemon(&["token", "create", "--name", "client_2", "--json"]).success().json();
    let narrow = format!("authorization: Bearer {}", narrow["token"].as_str().expect("the token"));
    let new = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "new.key"];
    let mut openssl = Command::new("openssl");
    let csr = run(openssl.current_dir(fleet.directory()).args(new).args(["-subj", "/CN=client_9"])).success().stdout;
    let csr = json!({"profile": "client", "csr": csr}).to_string();
    assert_eq!(enroll(&mut asked, &["-H", &narrow, "-H", JSON, "-d", &csr]), 403);
    assert_eq!(enroll(&mut asked, &["-H", &token, "-H", JSON, "-d", &csr]), 200);

    // The feed, as a client and as a relying party.
    let secret = format!("instance: {}", "E".repeat(43));
    let client = ["--cert", "client_1/client.crt", "--key", "client_1/client.key", "-H", &secret, "-H", JSON];
    let party = ["--cert", "db/server.crt", "--key", "db/server.key", "-H", JSON];
    let named = [&party[..], &["-H", &secret]].concat();
    let with = |more: &[&'static str]| [&named[..], more].concat();
    assert_eq!(asked.status(HTTPS, "GET", "/v1/feed", &client), 403);
    assert_eq!(asked.status(HTTPS, "GET", "/v1/feed", &party), 400);
    assert_eq!(asked.status(HTTPS, "GET", "/v1/feed", &with(&["-H", "instance-predecessors: no secret"])), 400);
    let nothing = r#"{"crls": {}, "admitsUntil": null, "ended": 0, "openConnections": 0}"#;
    assert_eq!(asked.status(HTTPS, "POST", "/v1/feed/confirm", &with(&["-d", nothing])), 403);
    let open = Process::start("curl", &fleet.directory().join("feed.log"), |command| {
        command.current_dir(fleet.directory()).args(["-sS", "-N", "-D", "/dev/stderr", "--cacert", "ca/root.crt"]);
        command.args(&named).arg(format!("{}/v1/feed", fleet.ca_url()));
    });
    let event: Value = serde_json::from_str(&open.line()).expect("a line is JSON");
    let (url, lists) = event["crls"].as_object().unwrap().iter().find(|(url, _)| url.contains("issuing")).unwrap();
    let number = lists["number"].as_u64().unwrap();
    let confirmation = |number: u64| {
        json!({"crls": {url: number}, "admitsUntil": "2026-11-24T09:00:00Z", "ended": 0, "openConnections": 0})
            .to_string()
    };
    let mut post = |path: &str, media: &str, body: &str| {
        let media = format!("content-type: {media}");
        let arguments = ["--cert", "db/server.crt", "--key", "db/server.key", "-H", &secret, "-H", &media];
        asked.status(HTTPS, "POST", path, &[&arguments[..], &["--data-binary", body]].concat())
    };
    let media = "application/json";
    assert_eq!(post("/v1/feed/confirm", media, &confirmation(number)), 204);
    assert_eq!(post("/v1/feed/confirm", media, "{"), 400);
    assert_eq!(post("/v1/feed/confirm", media, "@large"), 413);
    assert_eq!(post("/v1/feed/confirm", "text/plain", "{}"), 415);
    assert_eq!(post("/v1/feed/crls", "application/x-pem-file", "nothing"), 403);
    assert_eq!(post("/v1/feed/confirm", media, &confirmation(number + 1_000_000)), 409);
    assert_eq!(post("/v1/feed/crls", "application/x-pem-file", "nothing"), 422);
    assert_eq!(post("/v1/feed/known", media, &json!({"crls": {url: [number]}}).to_string()), 200);
    assert_eq!(post("/v1/feed/known", media, "{}"), 400);
    let answer = json!({"id": 1, "connections": {}, "openConnections": 0, "omitted": 0}).to_string();
    assert_eq!(post("/v1/feed/roll-call", media, &answer), 204);
    assert_eq!(post("/v1/feed/roll-call", media, "{}"), 400);
    assert_eq!(post("/v1/feed/goodbye", media, ""), 204);
    assert_eq!(post("/v1/feed/goodbye", media, ""), 403);

    // What did not change.
    let head = |asked: &mut Asked<'_>| {
        assert_eq!(asked.status(HTTPS, "GET", "/crl/issuing.crl", &[]), 200);
        let head = fs::read_to_string(fleet.directory().join("head")).unwrap();
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let tag = fields.find(|(name, _)| name.eq_ignore_ascii_case("etag")).expect("an entity tag").1;
        format!("if-none-match: {tag}")
    };
    let tag = head(&mut asked);
    assert_eq!(asked.status(HTTPS, "GET", "/crl/issuing.crl", &["-H", &tag]), 304);

    // Problems of each of these kinds were seen, and every path was asked for.
    let statuses: BTreeSet<_> = asked.seen.iter().map(|(.., status)| *status).collect();
    assert_eq!(statuses, BTreeSet::from([200, 204, 304, 400, 401, 403, 409, 413, 415, 422]));
    let paths: BTreeSet<_> = asked.seen.iter().map(|(_, path, _)| path.as_str()).collect();
    assert_eq!(paths.len(), asked.document["paths"].as_object().unwrap().len());
}
