//! Bad input: a clear error that says what, which and what next, and nothing lost or half-written.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::Instant,
};

use e2e::{Fleet, Output, PATIENCE, Process, binary, run, wait_until};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, prlimit};

/// Exactly one line of error that contains every one of these words.
#[track_caller]
fn says(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code(), code, "{output:#?}");
    for word in words {
        assert!(output.stderr.contains(word), "{word:?} is not in {output:#?}");
    }
    assert!(!output.stderr.contains("panicked"), "{output:#?}");
}

fn enroll(fleet: &Fleet, name: &str, arguments: &[&str]) -> Output {
    run(fleet.command("api-client").args(["enroll", "--name", name, "--dir", name]).args(arguments))
}

#[test]
fn tokens_that_do_not_fit_are_denied_and_say_why() {
    let fleet = Fleet::new();
    let token = |arguments: &[&str]| {
        let created = fleet.ca_daemon(&[&["token", "create", "--json"], arguments].concat()).success().json();
        (created["token"].as_str().unwrap().to_owned(), created["id"].as_str().unwrap().to_owned())
    };
    let with = |name: &str, token: &str| enroll(&fleet, name, &["--token", token]);

    says(&with("a", "hello"), 1, &["not an enrollment token", "catoken_"]);
    let (good, _) = token(&["--name", "web-*"]);
    says(&with("a", &good[..good.len() - 3]), 1, &["damaged", "copied whole"]);
    says(&with("db-1", &good), 4, &["db-1", "web-*"]);
    let _ = with("web-1", &good).success();
    says(&with("web-2", &good), 4, &["used"]);
    // The same key again gets the same certificate, as often as it asks; a fresh directory has another key.
    assert!(!fleet.directory().join("web-2/client.crt").exists());

    let (revoked, id) = token(&[]);
    let _ = fleet.ca_daemon(&["token", "revoke", &id]).success();
    says(&with("b", &revoked), 4, &["revoked"]);
    let (expired, _) = token(&["--ttl", "1s"]);
    wait_until("the token expires", || {
        let output = with("c", &expired);
        // It may be used before it expires; then another directory has to try.
        if output.code() == 0 {
            fs::remove_dir_all(fleet.directory().join("c")).unwrap();
        }
        (output.code() == 4 && (output.stderr.contains("expired") || output.stderr.contains("used"))).then_some(())
    });

    let (server, _) = token(&["--server", "--name", "*", "--host", "*.edge.fleet"]);
    says(&with("d", &server), 4, &["client", "server"]);
    let service = Process::start(binary("api-server"), &fleet.directory().join("bad.log"), |command| {
        let listen = format!("{}:0", fleet.address());
        command.current_dir(fleet.directory()).args(["--name", "bad", "--token", &server, "--host", "db.other"]);
        command.args(["--listen", &listen, "--ops-listen", &listen]);
    });
    wait_until("the service says why it may not have that host", || {
        let log = service.log();
        (log.contains("db.other") && log.contains("*.edge.fleet")).then_some(())
    });

    // A token of another authority: the first contact ends before anything is sent.
    let other = Fleet::new();
    let text = fs::read_to_string(other.ca_directory().join("bootstrap.token")).unwrap();
    let foreign: pki::token::Token = text.parse().unwrap();
    let here: pki::token::Token =
        fs::read_to_string(fleet.ca_directory().join("bootstrap.token")).unwrap().parse().unwrap();
    let mixed = pki::token::Token { url: here.url, ..foreign };
    says(&with("e", &mixed.encode()), 1, &["not the authority", "was not sent"]);
    assert!(!fleet.directory().join("e/client.crt").exists());
}

#[test]
fn names_that_are_not_allowed_never_reach_the_authority() {
    let fleet = Fleet::new();
    for name in ["", &"x".repeat(300), "a\nb", "*", "é", "mail@example.org"] {
        says(&enroll(&fleet, name, &[]), 2, &["name"]);
        says(&fleet.ca_daemon(&["issue", "--client", "--name", name]), 2, &["name"]);
    }
    for host in ["a_b", "*.example", "1.2.3.400", "bücher.example"] {
        says(&fleet.ca_daemon(&["issue", host]), 2, &["host"]);
    }
    assert!(!fleet.directory().join("server.key").exists() && !fleet.directory().join("client.key").exists());
}

#[test]
fn requests_that_are_no_requests_get_problem_documents() {
    let fleet = Fleet::new();
    let token: pki::token::Token =
        fs::read_to_string(fleet.ca_directory().join("bootstrap.token")).unwrap().parse().unwrap();
    let bearer = format!("Authorization: Bearer {}", *token.secret.to_bearer());
    let exchange = |headers: &[&str], body: &Path| {
        let mut command = Command::new("curl");
        command.args(["-sS", "-w", "\n%{http_code} %{content_type}", "--max-time", "60", "--cacert"]);
        command.arg(fleet.ca_directory().join("root.crt"));
        for header in headers {
            command.args(["-H", header]);
        }
        command.arg("--data-binary").arg(format!("@{}", body.display())).arg(format!("{}/v1/enroll", fleet.ca_url()));
        run(&mut command)
    };
    let post = |headers: &[&str], body: &Path| exchange(headers, body).success().stdout;
    let json = "Content-Type: application/json";
    let file = |name: &str, contents: &[u8]| {
        let path = fleet.directory().join(name);
        fs::write(&path, contents).unwrap();
        path
    };
    let csr = |name: &str, arguments: &[&str]| {
        let key = fleet.directory().join(format!("{name}.key"));
        let pem = run(Command::new("openssl").args(["req", "-new", "-nodes", "-keyout"]).arg(key).args(arguments));
        let pem = pem.success().stdout;
        let body = serde_json::json!({ "profile": "client", "csr": pem }).to_string();
        file(&format!("{name}.json"), body.as_bytes())
    };
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=client_1"];
    let good = csr("good", &ec);

    let problem = |answer: &str, status: &str, words: &[&str]| {
        assert!(answer.contains(&format!("\n{status} application/problem+json")), "{answer}");
        for word in words {
            assert!(answer.contains(word), "{word:?} is not in {answer}");
        }
    };
    problem(&post(&[json], &good), "401", &["token"]);
    problem(&post(&[json, "Authorization: Bearer nonsense"], &good), "401", &["token"]);
    let unknown = format!("Authorization: Bearer {}", "A".repeat(43));
    problem(&post(&[json, &unknown], &good), "401", &["token"]);
    problem(&post(&[json, &bearer], &file("large", &vec![b'x'; 65 * 1024])), "413", &[]);
    // Of a megabyte the rest is not read; to a client that goes on sending, the stream is reset (RFC 9113 section 8.1),
    // which curl may notice before the answer (its exit code 92).
    let junk = exchange(&[json, &bearer], &file("junk", &vec![b'x'; 1024 * 1024]));
    assert!(junk.code() == 92 || junk.stdout.contains("\n413 application/problem+json"), "{junk:?}");
    problem(&post(&[json, &bearer], &file("not.json", b"{")), "400", &["JSON"]);
    let not_der = br#"{"profile":"client","csr":"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"}"#;
    let answer = post(&[json, &bearer], &file("not.der", not_der));
    problem(&answer, "422", &["PKCS #10"]);

    let rsa = csr("rsa", &["-newkey", "rsa:1024", "-subj", "/CN=client_1"]);
    problem(&post(&[json, &bearer], &rsa), "422", &["1024 bits", "2048"]);

    // It asks to be a CA and for other usages: ignored, not obeyed.
    let ca = csr(
        "ca",
        &[&ec[..], &["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign"]].concat(),
    );
    let answer = post(&[json, &bearer], &ca);
    assert!(answer.ends_with("200 application/json"), "{answer}");
    let body: serde_json::Value = serde_json::from_str(answer.rsplit_once('\n').unwrap().0).unwrap();
    let issued = file("issued.crt", body["chain"].as_str().unwrap().as_bytes());
    let text = run(Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(issued)).success().stdout;
    assert!(!text.contains("CA:TRUE") && !text.contains("Certificate Sign"), "{text}");
    assert!(text.contains("TLS Web Client Authentication"), "{text}");

    let nothing = run(Command::new("curl")
        .args(["-sS", "-w", "\n%{http_code} %{content_type}", "--cacert"])
        .arg(fleet.ca_directory().join("root.crt"))
        .arg(format!("{}/nothing", fleet.ca_url())));
    problem(&nothing.stdout, "404", &[]);
}

#[test]
fn a_database_that_cannot_be_used_is_said_to_be() {
    let mut fleet = Fleet::new();
    fleet.ca().stop();
    let database = fleet.ca_directory().join("ca.db");
    let kept = fs::read(&database).unwrap();

    says(&fleet.ca_daemon(&["list", "--dir", "nowhere"]), 1, &["nowhere", "ca-daemon init"]);
    says(&fleet.ca_daemon(&["init"]), 4, &["ca"]);
    assert_eq!(fs::read(&database).unwrap(), kept, "a refused init changes nothing");

    fs::write(&database, b"this is not a database, it is a text file of some length").unwrap();
    says(&fleet.ca_daemon(&["list"]), 1, &["ca.db", "not a"]);
    fs::write(&database, b"").unwrap();
    says(&fleet.ca_daemon(&["list"]), 1, &["holds no authority", "backup"]);
    fs::remove_file(&database).unwrap();
    says(&fleet.ca_daemon(&["list"]), 1, &["ca.db"]);
    assert!(!database.exists(), "only init makes a database");
    // A disk that fails: what cannot be looked at is not missing.
    std::os::unix::fs::symlink("ca.db", &database).unwrap();
    let failed = fleet.ca_daemon(&["list"]);
    says(&failed, 1, &["cannot be found out", "file system"]);
    assert!(!failed.stderr.contains("ca-daemon init"), "{failed:?}");
    fs::remove_file(&database).unwrap();
    fs::write(&database, &kept).unwrap();

    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99999999999999, 'from the future', 1, x'00', 0)";
    let _ = run(Command::new("sqlite3").arg(&database).arg(newer)).success();
    says(&fleet.ca_daemon(&["list"]), 1, &["newer"]);
    fs::write(&database, &kept).unwrap();
    let _ = fleet.ca_daemon(&["list"]).success();

    let key = fleet.ca_directory().join("issuing.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    says(&fleet.ca_daemon(&["list"]), 1, &["issuing.key", "chmod 600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let (issuing, root) = (fs::read(&key).unwrap(), fs::read(fleet.ca_directory().join("root.key")).unwrap());
    fs::write(&key, root).unwrap();
    says(&fleet.ca_daemon(&["issue", "--client", "--name", "client_1"]), 1, &["does not belong"]);
    fs::remove_file(&key).unwrap();
    says(&fleet.ca_daemon(&["issue", "--client", "--name", "client_1"]), 1, &["issuing.key"]);
    fs::write(&key, issuing).unwrap();
    fs::remove_file(fleet.ca_directory().join("issuing.crt")).unwrap();
    says(&fleet.ca_daemon(&["issue", "--client", "--name", "client_1"]), 1, &["issuing.crt", "backup"]);
}

#[test]
fn what_may_not_be_written_or_read_is_said_to_be() {
    let mut fleet = Fleet::new();
    fleet.ca().stop();
    let (directory, database) = (fleet.ca_directory(), fleet.ca_directory().join("ca.db"));
    let allow = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    // Permissions do not apply to root, unless it gives that up.
    let ca_daemon = |arguments: &[&str]| {
        if !geteuid().is_root() {
            return fleet.ca_daemon(arguments);
        }
        let mut command = Command::new("setpriv");
        command.current_dir(fleet.directory()).env_remove("CA_DIR").args(["--bounding-set=-all", "--inh-caps=-all"]);
        run(command.arg(binary("ca-daemon")).args(arguments))
    };
    let issue = ["issue", "--client", "--name", "client_1"];

    allow(&database, 0o400);
    let _ = ca_daemon(&["list"]).success();
    says(&ca_daemon(&issue), 1, &["the database is read-only"]);
    allow(&database, 0o600);
    // The files that SQLite made beside the database have its permissions of then.
    says(&ca_daemon(&issue), 1, &["the database is read-only", "ca.db-wal"]);
    for name in ["ca.db-wal", "ca.db-shm"] {
        fs::remove_file(directory.join(name)).unwrap();
    }
    if geteuid().is_root() {
        // As a daemon of another user leaves it.
        let lock = directory.join("daemon.lock");
        std::os::unix::fs::chown(&lock, Some(12_345), None).unwrap();
        says(&ca_daemon(&["serve"]), 1, &["daemon.lock belongs to another user", "remove the file"]);
        fs::remove_file(&lock).unwrap();
    }
    allow(&directory, 0o500);
    says(&ca_daemon(&issue), 1, &["the database is read-only"]);
    allow(&directory, 0);
    says(&ca_daemon(&issue), 1, &["cannot be looked into", "as the user"]);
    allow(&directory, 0o700);
    assert!(!fleet.directory().join("client.key").exists(), "nothing is left of what was refused");
    let _ = ca_daemon(&issue).success();
}

#[test]
fn a_full_disk_loses_nothing() {
    let mut fleet = Fleet::new();
    let _ = fleet.enroll("before");
    let address = fleet.address();
    fleet.ca().kill();

    // No file of this process may grow beyond 512 KiB: to SQLite that is a disk on which writes fail.
    let limited = format!(
        "trap '' XFSZ; ulimit -S -f 1024; exec {} serve --json --listen {address}:8440 --http-listen {address}:8480 \
         --ops-listen {address}:8481",
        binary("ca-daemon").display()
    );
    let mut daemon = Process::start("sh", &fleet.directory().join("limited.log"), |command| {
        command.current_dir(fleet.directory()).args(["-c", &limited]);
    });
    let _ = daemon.line();
    let mut enrolled = Vec::new();
    let refused = loop {
        let name = format!("client_{}", enrolled.len());
        let output = enroll(&fleet, &name, &[]);
        if output.code() != 0 {
            break output;
        }
        enrolled.push(name);
        assert!(enrolled.len() < 90, "the disk never got full");
    };
    says(&refused, 1, &["50"]);
    let ready = fleet.ca_operations("readyz");
    assert!(ready.0 == 503 && ready.1.contains("/problems/database-unwritable"), "{ready:?}");
    let metrics = fleet.ca_operations("metrics").1;
    let failed = metrics.lines().find_map(|line| line.strip_prefix("ca_database_writes_failed_total "));
    assert!(failed.is_some_and(|count| count != "0"), "{metrics}");
    // There is room again, and nobody has to restart anything.
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    prlimit(Some(daemon.pid()), Resource::Fsize, Rlimit { current: maximum, maximum }).unwrap();
    wait_until("the authority is ready by itself", || (fleet.ca_operations("readyz").0 == 200).then_some(()));
    let _ = fleet.enroll("meanwhile");
    enrolled.push("meanwhile".to_owned());
    daemon.kill();

    fleet.start_ca();
    let listed = fleet.ca_daemon(&["list", "--json"]).success().stdout;
    for name in enrolled.iter().map(String::as_str).chain(["before"]) {
        assert!(listed.contains(&format!("\"{name}\"")), "{name} holds a certificate and was lost");
    }
    let _ = fleet.enroll("after");
}

/// A log on a full disk is no reason to stop, and least of all not to revoke.
#[test]
fn what_cannot_be_logged_stops_nobody() {
    let mut fleet = Fleet::new();
    fleet.ca().stop();
    let address = fleet.address();
    let mute = |name: &str, arguments: &str| {
        let mut command = Command::new("sh");
        command.current_dir(fleet.directory()).env_remove("CA_TOKEN").env_remove("CA_DIR");
        command.arg("-c").arg(format!("exec {} {arguments} 2>/dev/full", binary(name).display()));
        command
    };
    let start = |command| Process::launch(command, &fleet.directory().join("log"), |_| {});
    let listen =
        format!("serve --listen {address}:8440 --http-listen {address}:8480 --ops-listen {address}:8481 >/dev/full");
    let _daemon = start(mute("ca-daemon", &listen));
    wait_until("the authority listens", || TcpStream::connect((address, 8440)).ok());
    let listen = format!("--json --host {address} --listen {address}:0 --ops-listen {address}:0");
    let service = start(mute("api-server", &listen));
    let listening: serde_json::Value = serde_json::from_str(&service.line()).unwrap();
    let url = format!("https://{}/hello", listening["https"].as_str().unwrap());
    let client = fleet.enroll("client_1");
    wait_until("the service answers", || (client.request(1, &url).code() == 0).then_some(()));
    fleet.wait_connected(1);

    // Two of one name: it has something to say before it revokes.
    let _ = fleet.ca_daemon(&["issue", "--client", "--name", "client_1"]).success();
    let _ = run(&mut mute("ca-daemon", "revoke client_1 --wait 1m")).success();
    assert_eq!(client.request(1, &url).json()["failures"][0]["alert"], "certificate_revoked");
    assert_eq!(run(&mut mute("ca-daemon", "revoke nobody")).code(), 3);
}

#[test]
fn a_port_in_use_is_named() {
    let mut fleet = Fleet::new();
    let second = fleet.ca_daemon(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
        "--ops-listen",
        "127.0.0.1:0",
    ]);
    assert!(second.code() != 0 && second.stderr.contains("daemon"), "one daemon for a directory: {second:?}");
    let client = fleet.enroll("client_1");
    fleet.ca().stop();
    let taken = TcpListener::bind((fleet.address(), 0)).unwrap().local_addr().unwrap();
    let listener = TcpListener::bind(taken).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let free = format!("{}:0", fleet.address());
    says(
        &fleet.ca_daemon(&["serve", "--listen", &address, "--http-listen", &free, "--ops-listen", &free]),
        1,
        &[&address, "in use"],
    );
    let server = run(fleet.command("api-server").args(["--listen", &address, "--ops-listen", &free]));
    says(&server, 1, &[&address, "in use"]);
    assert!(!fleet.directory().join("service0").exists(), "a port in use costs no enrollment");
    let refused = client.request(1, &format!("https://{free}/hello"));
    assert_eq!(refused.code(), 3);
}

#[test]
fn a_client_says_what_is_wrong_with_its_files() {
    let fleet = Fleet::new();
    let client = fleet.enroll("client_1");
    let request = || run(client.command().args(["request", "--timeout", "1m", "--url", &fleet.balancer_url()]));
    let again = enroll(&fleet, "client_1", &[]);
    says(&again, 4, &["already contains client_1", "--force"]);
    says(&enroll(&fleet, "client_1", &["--org", "Others"]), 4, &["already contains client_1", "--org says, Others"]);

    let (key, chain) = (client.file("client.key"), client.file("client.crt"));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    says(&request(), 1, &["client.key", "chmod 600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let other = fleet.enroll("client_2");
    let kept = fs::read(&key).unwrap();
    fs::write(&key, fs::read(other.file("client.key")).unwrap()).unwrap();
    says(&request(), 1, &["does not belong"]);
    fs::remove_file(&key).unwrap();
    says(&request(), 1, &["client.key does not exist"]);
    fs::write(&key, kept).unwrap();
    fs::write(&chain, "nothing").unwrap();
    says(&request(), 1, &["client.crt", "CERTIFICATE"]);
    let _ = enroll(&fleet, "client_1", &["--force"]).success();
    assert_eq!(request().code(), 3, "the files are fine again; there is no service");
}

/// How files came to be there is not always up to whoever reads them.
#[test]
fn files_are_judged_by_what_can_be_done_about_them() {
    let fleet = Fleet::new();
    let client = fleet.enroll("client_1");
    let status = || run(client.command().args(["status"]));
    let key = client.file("client.key");
    let allow = |mode: u32| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    let left = client.file(".client.key.0123456789abcdef.tmp");
    fs::write(&left, "half a key").unwrap();
    says(&enroll(&fleet, "client_1", &[]), 4, &["already contains client_1"]);
    assert!(!left.exists(), "what a killed enrollment left goes");

    // The advice is given for secrets only, and as something to type.
    let notes = fleet.directory().join("notes");
    fs::write(&notes, "no token").unwrap();
    let mistaken = enroll(&fleet, "client_2", &["--token-file", "notes"]);
    says(&mistaken, 1, &["notes: ", "not an enrollment token"]);
    assert!(!mistaken.stderr.contains("chmod"), "{mistaken:?}");
    allow(0o640);
    says(&status(), 1, &["chmod 600 ./client.key"]);
    if geteuid().is_root() {
        // As Kubernetes mounts a secret with fsGroup ...
        std::os::unix::fs::chown(&key, Some(12_345), Some(0)).unwrap();
        allow(0o440);
        says(&status(), 0, &["a secret that others can read"]);
        allow(0o444);
        let refused = status();
        says(&refused, 1, &["belongs to another user"]);
        assert!(!refused.stderr.contains("chmod"), "{refused:?}");
        // ... and with whatever mode, on a mount that nobody can change.
        let read_only = "mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\" && exec \"$0\" status";
        let mut shell = Command::new("unshare");
        shell.current_dir(&client.directory).args(["--mount", "sh", "-c", read_only]).arg(binary("api-client"));
        says(&run(&mut shell), 0, &["a secret that others can read"]);
        std::os::unix::fs::chown(&key, Some(0), Some(0)).unwrap();
    }
    allow(0o600);
    fs::remove_file(client.file("client.crt")).unwrap();
    std::os::unix::fs::symlink("client.crt", client.file("client.crt")).unwrap();
    let failed = status();
    says(&failed, 1, &["client.crt cannot be looked at"]);
    assert!(!failed.stderr.contains("enroll"), "{failed:?}");

    // One directory is one service, with or without a feed.
    let mut service = fleet.launch_service("service0", &[]);
    assert!(service.process.stop().success());
    fs::remove_file(fleet.directory().join("service0/ca.url")).unwrap();
    let _first = fleet.launch_service("service0", &[]);
    let free = format!("{}:0", fleet.address());
    let second = run(fleet.command("api-server").args(["--json", "--listen", &free, "--ops-listen", &free]));
    says(&second, 1, &["another process uses service0/crl", "/problems/failed"]);
}

#[test]
fn slow_and_silent_connections_are_cut_and_nobody_else_notices() {
    let mut fleet = Fleet::new();
    let service = fleet.start_service("service0", &[]);
    let (url, address) = (service.url(), service.https);
    let client = fleet.enroll("client_1");
    let began = Instant::now();
    let mut connections = Vec::new();
    for target in [address.to_string(), format!("{}:8440", fleet.address()), format!("{}:8480", fleet.address())] {
        for said in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"GET /readyz HT"] {
            let mut stream = TcpStream::connect(&target).unwrap();
            stream.write_all(said).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            connections.push((target.clone(), stream));
        }
    }
    assert_eq!(client.request(20, &url).success().json()["answered"], 20);
    let _ = fleet.enroll("client_2");
    for (target, mut stream) in connections {
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let timed_out = ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "{target} kept a silent connection for {:?}", began.elapsed());
    }
    let header = format!("X-Padding: {}", "x".repeat(100_000));
    let greedy = run(Command::new("curl").current_dir(&client.directory).args([
        "-sS",
        "--http1.1",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--cert",
        "client.crt",
        "--key",
        "client.key",
        "--cacert",
        "ca.crt",
        "-H",
        &header,
        &url,
    ]));
    assert!(greedy.stdout == "431" || greedy.code() != 0, "{greedy:?}");
    assert_eq!(client.request(3, &url).success().json()["answered"], 3);
}
