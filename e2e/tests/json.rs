//! Compares the tables of docs/json.md with what the programs print with `--json`, in both directions: what is printed
//! is documented, and what is documented was printed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    thread,
};

use e2e::{Fleet, Output, Process, binary, run, wait_until};
use serde_json::{Value, json};

/// What has names as its keys, and not fields.
const MAPS: [&str; 2] = ["replicas", "wouldRevoke[].connected"];

/// What was seen of a field, in all outputs of one command.
#[derive(Debug, Default)]
struct Seen {
    types: BTreeSet<&'static str>,
    count: usize,
}

/// The fields of one command, and how many objects there were at each place.
#[derive(Debug, Default)]
struct Fields {
    seen: BTreeMap<String, Seen>,
    objects: BTreeMap<String, usize>,
}

impl Fields {
    fn add(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(object) => {
                *self.objects.entry(path.to_owned()).or_default() += 1;
                for (name, value) in object {
                    let name = if MAPS.contains(&path) { "*" } else { name };
                    let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                    let seen = self.seen.entry(path.clone()).or_default();
                    seen.count += 1;
                    seen.types.insert(type_of(value));
                    self.add(&path, value);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.add(&format!("{path}[]"), value)),
            _ => {}
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The place of the object that has this field.
fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or(if path.starts_with("[]") { "[]" } else { "" }, |(parent, _)| parent)
}

/// What was printed, by the heading in json.md.
#[derive(Debug, Default)]
struct Printed(BTreeMap<&'static str, Fields>);

impl Printed {
    fn add(&mut self, heading: &'static str, value: &Value) {
        self.0.entry(heading).or_default().add("", value);
    }

    /// What a command that succeeded, or ended with 5, has on standard output.
    fn output(&mut self, heading: &'static str, output: &Output) -> Value {
        assert!([0, 5].contains(&output.code()), "{output:?}");
        let value = output.json();
        self.add(heading, &value);
        value
    }

    /// What a command that failed has in the last line on standard error.
    fn error(&mut self, output: &Output, code: i32) {
        assert_eq!(output.code(), code, "{output:?}");
        let line = output.stderr.lines().last().expect("it says why");
        self.add("Errors", &serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {output:?}")));
    }
}

/// A row of a table: the types, and whether the field is always there.
type Documented = BTreeMap<String, (BTreeSet<String>, bool)>;

/// The tables of json.md by their headings.
fn documented() -> BTreeMap<String, Documented> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md")).expect("it is there");
    let mut tables = BTreeMap::new();
    let mut heading = "";
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title.trim();
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if let ["", field, types, always, _, ""] = cells[..]
            && let Some(field) = field.strip_prefix('`').and_then(|field| field.strip_suffix('`'))
        {
            let types = types.split(" or ").map(str::to_owned).collect();
            let table: &mut Documented = tables.entry(heading.replace('`', "")).or_default();
            assert!(table.insert(field.to_owned(), (types, always == "yes")).is_none(), "{heading}: {field} twice");
        }
    }
    tables
}

struct Ways<'a> {
    fleet: &'a Fleet,
    printed: Printed,
}

impl Ways<'_> {
    fn ca(&mut self, heading: &'static str, arguments: &[&str]) -> Value {
        let output = self.fleet.ca_daemon(&[arguments, &["--json"]].concat());
        self.printed.output(heading, &output)
    }

    fn client(&mut self, heading: &'static str, arguments: &[&str]) -> Value {
        let output = run(self.fleet.command("api-client").args(arguments).arg("--json"));
        self.printed.output(heading, &output)
    }

    /// Another authority that is started by this command and gets ready.
    fn ready(&mut self, heading: &'static str, command: &str, directory: &str) {
        let process = Process::start(binary("ca-daemon"), &self.fleet.directory().join("other.log"), |started| {
            let free = "127.0.0.1:0";
            let listen = ["--listen", free, "--http-listen", free, "--ops-listen", free];
            started.current_dir(self.fleet.directory()).args([command, "--dir", directory, "--json"]).args(listen);
        });
        self.printed.add(heading, &serde_json::from_str(&process.line()).expect("a line of JSON"));
    }
}

/// A certificate for a key that there is already, with a token: with curl, as anybody might.
fn enroll_key(fleet: &Fleet, name: &str) {
    let created = fleet.ca_daemon(&["token", "create", "--name", name, "--json"]).success().json();
    let bearer = format!("authorization: Bearer {}", created["token"].as_str().expect("a token"));
    let subject = format!("/CN={name}");
    let mut openssl = Command::new("openssl");
    let csr = openssl.current_dir(fleet.directory()).args(["req", "-new", "-key", "shared.key", "-subj", &subject]);
    let body = json!({"profile": "client", "csr": run(csr).success().stdout}).to_string();
    let url = format!("{}/v1/enroll", fleet.ca_url());
    let mut curl = Command::new("curl");
    curl.current_dir(fleet.directory()).args(["-sSf", "--cacert", "ca/root.crt", "-H", &bearer]);
    let _ = run(curl.args(["-H", "content-type: application/json", "-d", &body, &url])).success();
}

/// A relying party that says what it likes.
struct Liar<'a> {
    fleet: &'a Fleet,
    url: String,
    feed: Process,
}

impl<'a> Liar<'a> {
    const IDENTITY: [&'static str; 6] = [
        "--cert",
        "liar/server.crt",
        "--key",
        "liar/server.key",
        "-H",
        "instance: EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE",
    ];

    fn start(fleet: &'a Fleet) -> Self {
        let feed = Process::start("curl", &fleet.directory().join("feed.log"), |command| {
            command.current_dir(fleet.directory()).args(["-sSN", "--cacert", "ca/root.crt"]);
            command.args(Self::IDENTITY).arg(format!("{}/v1/feed", fleet.ca_url()));
        });
        let event: Value = serde_json::from_str(&feed.line()).expect("a line of JSON");
        let mut urls = event["crls"].as_object().into_iter().flat_map(|crls| crls.keys());
        let url = urls.find(|url| url.contains("issuing")).expect("it is announced").clone();
        Self { fleet, url, feed }
    }

    /// Answers the roll call that the next dry run has, as one that names too few.
    fn answer_roll_call(&self) {
        let id = loop {
            let event: Value = serde_json::from_str(&self.feed.line()).expect("a line of JSON");
            if let Some(id) = event["rollCall"].as_u64() {
                break id;
            }
        };
        self.post("roll-call", &json!({"id": id, "connections": {}, "openConnections": 3, "omitted": 3}));
    }

    fn confirm(&self, number: i64) {
        let until = "2126-11-24T09:00:00Z";
        let body = json!({"crls": {&self.url: number}, "admitsUntil": until, "ended": 0, "openConnections": 0});
        self.post("confirm", &body);
    }

    fn post(&self, what: &str, body: &Value) {
        let mut curl = Command::new("curl");
        curl.current_dir(self.fleet.directory()).args(["-sS", "--cacert", "ca/root.crt"]).args(Self::IDENTITY);
        curl.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
        let _ = run(curl.arg(format!("{}/v1/feed/{what}", self.fleet.ca_url()))).success();
    }
}

#[test]
fn every_field_is_documented_and_every_documented_field_is_printed() {
    let mut fleet = Fleet::new();
    let service = fleet.start_service("service0", &[]).url();
    fleet.wait_connected(1);
    let fleet = &fleet;
    let mut ways = Ways { fleet, printed: Printed::default() };

    // Authorities of their own.
    let _ = ways.ca("ca-daemon init", &["init", "--dir", "other"]);
    ways.ready("ca-daemon serve, ca-daemon start", "serve", "other");
    ways.ready("ca-daemon serve, ca-daemon start", "start", "third");

    // Clients.
    let _ = ways.client("api-client enroll", &["enroll", "--name", "client_1", "--dir", "client_1"]);
    let _ = ways.client("api-client enroll", &["enroll", "--server", "--host", "db.fleet", "--dir", "db"]);
    let _ = ways.client("api-client status", &["status", "--dir", "client_1"]);
    let request = ["request", "--dir", "client_1", "--url", &service, "--timeout", "1m"];
    let _ = ways.client("api-client request", &request);

    // Tokens.
    let made = ways.ca("ca-daemon token create", &["token", "create", "--name", "client_2"]);
    let token = made["token"].as_str().unwrap();
    let other = ways.ca("ca-daemon token create", &["token", "create", "--server", "--name", "x", "--out", "token_x"]);
    let _ = ways.client("api-client enroll", &["enroll", "--name", "client_2", "--dir", "client_2", "--token", token]);
    let _ = ways.ca("ca-daemon token list", &["token", "list"]);
    let _ = ways.ca("ca-daemon token revoke", &["token", "revoke", other["id"].as_str().unwrap()]);

    // Certificates and lists.
    let _ = ways.ca("ca-daemon issue", &["issue", "web.fleet"]);
    let _ = ways.client("api-client renew", &["renew", "--dir", "client_2"]);
    let _ = ways.client("api-client renew", &["renew", "--dir", "client_2", "--force"]);
    let _ = ways.ca("ca-daemon show", &["show", "client_2"]);
    let _ = ways.ca("ca-daemon show", &["show", "client_1"]);
    let _ = ways.ca("ca-daemon renew", &["renew", "--all"]);
    let _ = ways.ca("ca-daemon renewals", &["renewals"]);
    let _ = ways.ca("ca-daemon crl", &["crl"]);
    let _ = ways.ca("ca-daemon crl", &["crl", "--out", "issuing.crl"]);
    let _ = ways.ca("ca-daemon crl --import", &["crl", "--import", "issuing.crl"]);

    // Revocations. The token of client_2 is used up, the one of client_3 is not.
    let dry = ["revoke", "client_1", "--dry-run", "--wait", "1m"];
    let held = e2e::Client { directory: fleet.directory().join("client_1") }.keep_asking(&service);
    wait_until("the dry run finds the connection", || {
        let asked = ways.ca("ca-daemon revoke --dry-run", &dry);
        asked["wouldRevoke"][0]["connected"]["service0"].is_number().then_some(())
    });
    let made = ways.ca("ca-daemon token create", &["token", "create", "--uses", "2"]);
    let token = made["token"].as_str().unwrap();
    let _ = ways.client("api-client enroll", &["enroll", "--name", "client_3", "--dir", "client_3", "--token", token]);
    let revoke = "ca-daemon revoke";
    let _ = ways.ca(revoke, &["revoke", "client_1", "--wait", "1m"]);
    drop(held);
    let _ = ways.ca(revoke, &["revoke", "client_3", "--with-token", "--wait", "1m"]);
    let again = [&dry[..], &["client_2"]].concat();
    let _ = ways.ca("ca-daemon revoke --dry-run", &again);
    let mut genpkey = Command::new("openssl");
    genpkey.current_dir(fleet.directory()).args(["genpkey", "-algorithm", "ED25519", "-out", "shared.key"]);
    let _ = run(&mut genpkey).success();
    for name in ["client_4", "client_5"] {
        enroll_key(fleet, name);
    }
    let _ = ways.ca(revoke, &["revoke", "client_4", "--reason", "key-compromise", "--wait", "1m"]);
    let _ = ways.ca(revoke, &["revoke", "--serial", "5f0c3a", "--unknown", "--wait", "1m"]);
    let _ = ways.ca("ca-daemon show", &["show", "5f0c3a"]);

    // A relying party that is behind, and one that claims what was never issued; neither answers a roll call.
    let _ = ways.client("api-client enroll", &["enroll", "--server", "--host", "liar.fleet", "--dir", "liar"]);
    let number = ways.ca("ca-daemon crl", &["crl"])["number"].as_i64().unwrap();
    let liar = Liar::start(fleet);
    liar.confirm(number);
    let answered = thread::scope(|scope| {
        let asked = ["revoke", "client_2", "--dry-run", "--wait", "1m", "--json"];
        let asking = scope.spawn(move || fleet.ca_daemon(&asked));
        liar.answer_roll_call();
        asking.join().expect("it ends")
    });
    let _ = ways.printed.output("ca-daemon revoke --dry-run", &answered);
    let _ = ways.ca("ca-daemon revoke --dry-run", &["revoke", "client_2", "--dry-run", "--wait", "1ms"]);
    let _ = ways.ca(revoke, &["revoke", "client_2", "--wait", "1ms"]);
    liar.confirm(number + 1_000_000);
    let _ = ways.ca(revoke, &["revoke", "client_2", "--wait", "1ms"]);
    let _ = ways.ca("ca-daemon relying-parties", &["relying-parties"]);
    drop(liar.feed);
    let forgotten = wait_until("the relying party is disconnected", || {
        let output = fleet.ca_daemon(&["relying-parties", "forget", "liar.fleet", "--json"]);
        (output.code() == 0).then_some(output)
    });
    let _ = ways.printed.output("ca-daemon relying-parties forget", &forgotten);

    // A failed request, after which everything that was issued ends.
    let refused = run(fleet.command("api-client").args(request).arg("--json"));
    assert_eq!(refused.code(), 3, "{refused:?}");
    ways.printed.add("api-client request", &refused.json());
    let _ = ways.ca(revoke, &["revoke", "--issued-after", "1h", "--wait", "1ms"]);
    let _ = ways.ca("ca-daemon list", &["list"]);
    let _ = ways.client("api-client enroll", &["enroll", "--name", "client_6", "--dir", "client_6"]);
    let _ = ways.ca("ca-daemon revoke --issuing --dry-run", &["revoke", "--issuing", "--dry-run"]);
    let _ = ways.ca(revoke, &["revoke", "--issuing", "--yes", "--wait", "1ms"]);
    let _ = ways.ca("ca-daemon revoke --issuing --dry-run", &["revoke", "--issuing", "--dry-run"]);
    let _ = ways.ca("ca-daemon list", &["list"]);
    let _ = ways.ca("ca-daemon show", &["show", "client_6"]);

    // A service, as it starts.
    let issuing = Fleet::new();
    let starting = Process::start(binary("api-server"), &fleet.directory().join("service9.log"), |command| {
        let free = "127.0.0.1:0";
        command.current_dir(issuing.directory()).env_remove("CA_TOKEN").args(["--json", "--name", "service9"]);
        command.args(["--listen", free, "--ops-listen", free]);
    });
    ways.printed.add("api-server", &serde_json::from_str(&starting.line()).expect("a line of JSON"));

    // Errors of every program, found before and after the command line was parsed.
    ways.printed.error(&fleet.ca_daemon(&["show", "nobody", "--json"]), 3);
    ways.printed.error(&fleet.ca_daemon(&["nonsense", "--json"]), 2);
    ways.printed.error(&fleet.ca_daemon(&["healthcheck", "--http-listen", "127.0.0.1:1", "--json"]), 1);
    ways.printed.error(&run(fleet.command("api-client").args(["status", "--dir", "nowhere", "--json"])), 1);
    ways.printed.error(&run(fleet.command("api-client").args(["request", "-n", "0", "--json"])), 2);
    ways.printed.error(&run(fleet.command("api-server").args(["--name", "x", "--ca-dir", "nowhere", "--json"])), 1);
    ways.printed.error(&run(fleet.command("api-server").args(["--listen", "nowhere", "--json"])), 2);

    compare(&ways.printed, &documented());
}

fn compare(printed: &Printed, documented: &BTreeMap<String, Documented>) {
    let mut wrong = Vec::new();
    let (none, nothing) = (Documented::new(), Fields::default());
    let headings: BTreeSet<_> = printed.0.keys().copied().chain(documented.keys().map(String::as_str)).collect();
    for heading in headings {
        let table = documented.get(heading).unwrap_or(&none);
        let fields = printed.0.get(heading).unwrap_or(&nothing);
        for (path, seen) in &fields.seen {
            let is_always = seen.count == fields.objects.get(parent(path)).copied().unwrap_or(0);
            let row = format!("| `{path}` | {:?} | {} |", seen.types, if is_always { "yes" } else { "no" });
            match table.get(path) {
                None => wrong.push(format!("{heading}: not documented: {row}")),
                Some((types, always)) => {
                    if !seen.types.iter().all(|seen| types.contains(*seen)) || (*always && !is_always) {
                        wrong.push(format!("{heading}: documented otherwise: {row}"));
                    }
                }
            }
        }
        for path in table.keys().filter(|path| !fields.seen.contains_key(*path)) {
            wrong.push(format!("{heading}: documented, and never printed: `{path}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fields_are_told_apart_by_their_places() {
    let mut fields = Fields::default();
    fields.add("", &json!([{"a": 1, "b": {"c": null}}, {"a": "x"}]));
    let seen: Vec<_> = fields.seen.iter().map(|(path, seen)| (path.as_str(), seen.count, parent(path))).collect();
    assert_eq!(seen, [("[].a", 2, "[]"), ("[].b", 1, "[]"), ("[].b.c", 1, "[].b")]);
    assert_eq!(fields.objects["[]"], 2);
}
