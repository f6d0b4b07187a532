//! What becomes of the output of a command: it decides nothing where a revocation is recorded, and is an error elsewhere.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _, pipe},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use e2e::{Fleet, Output, Process, binary, run, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn with_output(fleet: &Fleet, arguments: &[&str], stdout: impl Into<Stdio>) -> Output {
    ended(start(fleet, arguments, stdout))
}

fn start(fleet: &Fleet, arguments: &[&str], stdout: impl Into<Stdio>) -> Child {
    let mut command = fleet.command("ca-daemon");
    command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    command.spawn().expect("it is built")
}

fn ended(mut child: Child) -> Output {
    let mut stderr = String::new();
    child.stderr.take().expect("it is a pipe").read_to_string(&mut stderr).expect("it writes text");
    Output { status: child.wait().expect("it is our child"), stdout: String::new(), stderr }
}

/// A pipe that nobody reads any more.
fn closed() -> PipeWriter {
    pipe().expect("a pipe can be made").1
}

fn full_device() -> File {
    File::options().write(true).open("/dev/full").expect("Linux has it")
}

/// A pipe that has no room left, and that nobody reads for as long as the other end is kept.
fn unread() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().expect("a pipe can be made");
    let filling = writer.try_clone().expect("it can be shared");
    let flags = rustix::fs::fcntl_getfl(&filling).expect("it has flags");
    rustix::fs::fcntl_setfl(&filling, flags | rustix::fs::OFlags::NONBLOCK).expect("they can be set");
    while rustix::io::write(&filling, &[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&filling, flags).expect("they can be set");
    (reader, writer)
}

/// A stopped terminal, a stuck pipe: neither strangers, whose every failure is logged, nor signals find anybody who waits for it.
#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let mut fleet = Fleet::new();
    fleet.ca().stop();
    let address = fleet.address();
    let start = |program: &str, arguments: &str| {
        let (nobody, log) = unread();
        let mut command = Command::new("sh");
        command.current_dir(fleet.directory()).env_remove("CA_TOKEN").env_remove("CA_DIR");
        command.arg("-c").arg(format!("exec {} {arguments}", binary(program).display()));
        (Process::launch(command, &fleet.directory().join("log"), |command| _ = command.stderr(log)), nobody)
    };
    let authority =
        format!("serve --listen {address}:8440 --http-listen {address}:8480 --ops-listen {address}:8481 >&2");
    let (mut authority, _nobody) = start("ca-daemon", &authority);
    wait_until("the authority listens", || TcpStream::connect((address, 8440)).ok());
    let service = format!("--json --host {address} --listen {address}:0 --ops-listen {address}:0");
    let (mut service, mut late) = start("api-server", &service);
    let listening: Value = serde_json::from_str(&service.line()).unwrap();
    let https = listening["https"].as_str().unwrap();
    fleet.wait_connected(1);
    let client = fleet.enroll("client_1");
    for _ in 0..200 {
        for target in [https, &format!("{address}:8440")] {
            TcpStream::connect(target).unwrap().write_all(b"no handshake at all").unwrap();
        }
    }
    let url = format!("https://{https}/hello");
    assert_eq!(client.request(3, &url).success().json()["answered"], 3);
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    assert_eq!(client.request(1, &url).json()["failures"][0]["alert"], "certificate_revoked");

    // Ctrl-C ends the requests of a client, and not what they came to.
    let other = fleet.enroll("client_2");
    let mut asking = other.command();
    asking.args(["request", "-n", "100000000", "-c", "1", "--timeout", "1m", "--url", &url]);
    let mut asking = asking.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(asking.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.next().unwrap().contains("client_2"));
    kill_process(Pid::from_child(&asking), Signal::INT).unwrap();
    let rest: Vec<_> = said.collect();
    assert!(rest.iter().any(|line| line == "stopped before everything was sent"), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("requests answered in")), "{rest:?}");
    assert_eq!(asking.wait().unwrap().code(), Some(130));

    // A terminal that closes ends neither.
    for daemon in [&authority, &service] {
        daemon.signal(Signal::HUP);
    }
    assert_eq!(client.request(1, &url).json()["failures"][0]["alert"], "certificate_revoked");
    let _ = fleet.ca_daemon(&["healthcheck"]).success();
    // Whoever reads late finds what there was room for.
    let mut said = Vec::new();
    wait_until("the service says what the signal did", || {
        let mut some = vec![0; 65536];
        let read = late.read(&mut some).unwrap();
        said.extend_from_slice(&some[..read]);
        String::from_utf8_lossy(&said).contains("SIGHUP changes nothing").then_some(())
    });
    assert!(String::from_utf8_lossy(&said).contains("handshake refused"), "a refused handshake is a line in the log");
    assert!(service.stop().success() && authority.stop().success());
}

const STANDS: &str = "the revocation stands, recorded in CRL number ";

#[test]
fn what_becomes_of_the_output_of_revoke_decides_nothing() {
    let mut fleet = Fleet::new();
    for name in ["service0", "service1"] {
        let _ = fleet.start_service(name, &["--crl-refresh", "60s"]);
    }
    fleet.wait_connected(2);
    for name in ["client_1", "client_2", "client_3", "client_4", "client_5", "client_6"] {
        let issue =
            ["issue", "--client", "--name", name, "--cert", &format!("{name}.crt"), "--key", &format!("{name}.key")];
        let _ = fleet.ca_daemon(&issue).success();
    }

    // One relying party does not confirm: that is the exit code, and not that nobody reads.
    fleet.service(1).process.signal(Signal::STOP);
    let said = with_output(&fleet, &["revoke", "client_1", "--wait", "1s"], closed());
    assert_eq!(said.code(), 5, "{said:?}");
    assert!(said.stderr.contains("1 of 2 relying parties") && !said.stderr.contains(STANDS), "{said:?}");
    for arguments in [&["revoke", "client_2", "--wait", "1s"][..], &["revoke", "client_3", "--wait", "1s", "--json"]] {
        let said = with_output(&fleet, arguments, full_device());
        assert_eq!(said.code(), 5, "{said:?}");
        assert!(said.stderr.contains(STANDS) && said.stderr.contains("1 of 2 relying parties"), "{said:?}");
    }
    // That a reader which takes nothing is given up is a unit test's: it takes half a minute.
    let (_nobody, writer) = unread();
    let mut revoke = start(&fleet, &["revoke", "client_4", "--wait", "1s"], writer);
    wait_until("it is recorded, and enforced by whoever is well", || {
        let listed = fleet.ca_daemon(&["list", "--status", "revoked", "--json"]).success().json();
        let parties = fleet.ca_daemon(&["relying-parties", "--json"]).success().json();
        let is_well = |party: &Value| party["name"] == "service0" && party["lag"] == 0;
        let enforced = parties.as_array().is_some_and(|parties| parties.iter().any(is_well));
        (listed.as_array().map(Vec::len) == Some(4) && enforced).then_some(())
    });
    wait_until("Ctrl-C ends it, the second if the first has ended the waiting", || {
        let pid = i32::try_from(revoke.id()).expect("it is a process id");
        kill_process(Pid::from_raw(pid).expect("it is not 0"), Signal::INT).expect("it is our child");
        revoke.try_wait().expect("it is our child")
    });
    let said = ended(revoke);
    assert!(said.code() == 5 && said.stderr.contains("relying parties did not confirm"), "{said:?}");

    fleet.service(1).process.signal(Signal::CONT);
    let _ = fleet.ca_daemon(&["revoke", "client_4", "--wait", "1m"]).success();
    let said = with_output(&fleet, &["revoke", "client_5", "--wait", "1m"], closed());
    assert!(said.code() == 0 && said.stderr.is_empty(), "{said:?}");
    let said = with_output(&fleet, &["revoke", "client_6", "--wait", "1m"], full_device());
    assert!(said.code() == 0 && said.stderr.contains(STANDS), "{said:?}");
    let listed = fleet.ca_daemon(&["list", "--status", "revoked", "--json"]).success().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(6), "{listed}");
}

/// What stands where a command is to write is not replaced, and `-` is standard output.
#[test]
fn what_a_person_names_is_written_to() {
    let fleet = Fleet::new();
    let file = |name: &str| fleet.directory().join(name);
    std::os::unix::fs::symlink("list", file("link")).unwrap();
    let _ = fleet.ca_daemon(&["crl", "--pem", "--out", "link"]).success();
    let list = fs::read(file("list")).unwrap();
    assert!(file("link").is_symlink() && list.starts_with(b"-----BEGIN X509 CRL"));
    assert_eq!(fleet.ca_daemon(&["crl", "--pem", "--out", "-"]).success().stdout.as_bytes(), list);
    let _ = run(std::process::Command::new("mkfifo").arg(file("pipe"))).success();
    let pipe = file("pipe");
    let reader = std::thread::spawn(move || fs::read(pipe).unwrap());
    let _ = fleet.ca_daemon(&["crl", "--pem", "--out", "pipe"]).success();
    assert_eq!(reader.join().unwrap(), list);
    assert_eq!(fleet.ca_daemon(&["crl", "--out", "."]).code(), 1);

    let issued = fleet.ca_daemon(&["issue", "web.example", "--duration", "9000", "--cert", "-"]).success();
    assert!(
        issued.stdout.starts_with("-----BEGIN CERTIFICATE-----") && issued.stdout.ends_with("-----\n"),
        "{issued:?}"
    );
    assert!(
        issued.stderr.contains("certificate to web.example") && issued.stderr.contains("not for 9000 d"),
        "{issued:?}"
    );
    let both = fleet.ca_daemon(&["issue", "--client", "--name", "both", "--cert", "-", "--key", "-"]).success();
    let labels: Vec<_> = both.stdout.lines().filter(|line| line.starts_with("-----BEGIN ")).collect();
    let expected = ["-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----"];
    assert!(labels == expected && both.stderr.contains("certificate to both"), "{both:?}");
    assert_eq!(fleet.ca_daemon(&["issue", "--cert", "one", "--key", "one"]).code(), 2);
    std::os::unix::fs::symlink("server.key", file("key")).unwrap();
    let twice = fleet.ca_daemon(&["issue", "--key", "key", "--cert", "other.crt"]);
    assert!(twice.code() == 4 && twice.stderr.contains("key exists"), "{twice:?}");
    let shown = fleet.ca_daemon(&["show", "web.example"]).success();
    assert!(shown.stdout.contains("My Organization"), "{shown:?}");
    let nameless = fleet.ca_daemon(&["issue", "--client", "--json"]);
    assert_eq!(
        problem(&nameless, "/problems/usage", 2)["detail"].as_str().map(|text| text.contains("--name")),
        Some(true)
    );

    let token = fleet.ca_daemon(&["token", "create", "--out", "-"]).success();
    assert!(token.stdout.starts_with("catoken_"), "{token:?}");
    for long in ["3654d", "9999999h"] {
        let refused = fleet.ca_daemon(&["token", "create", "--ttl", long]);
        assert!(refused.code() == 2 && refused.stderr.contains("ten years"), "{refused:?}");
    }
    let tables = ["list", "relying-parties"].map(|command| fleet.ca_daemon(&[command]).success().stdout);
    for line in tables.iter().flat_map(|table| table.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }

    let _ = fleet.ca_daemon(&["revoke", "web.example", "--reason", "superseded"]).success();
    let again = fleet.ca_daemon(&["revoke", "web.example", "--dry-run"]).success().stdout;
    assert!(again.contains("was already revoked at") && again.contains("0 would be, 1 already is"), "{again}");

    // A terminal is none for DER, by whichever name.
    for out in ["-", "/dev/tty"] {
        let program = binary("ca-daemon");
        let line = format!("{} crl --out {out}", program.display());
        let said = run(Command::new("script").current_dir(fleet.directory()).args(["-qec", &line, "/dev/null"]));
        assert!(said.code() == 4 && said.stdout.contains("DER does not belong on a terminal"), "{said:?}");
    }
}

/// What a command prints on a terminal of 80 columns.
#[track_caller]
fn on_a_terminal(fleet: &Fleet, arguments: &str) -> String {
    let line = format!("stty cols 80 rows 24 && exec {} {arguments}", binary("ca-daemon").display());
    let said = run(Command::new("script")
        .current_dir(fleet.directory())
        .env_remove("CA_DIR")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null()));
    said.stdout.replace("\r\n", "\n")
}

#[test]
fn everything_fits_a_terminal_of_80_columns_and_is_one_line_in_a_pipe() {
    let mut fleet = Fleet::new();
    let service = format!("{}.fleet.example", "service-with-a-long-name-".repeat(2));
    let client = format!("{}.fleet.example", "client-with-a-long-name-".repeat(2));
    for name in [&service[..], "service1"] {
        fleet.start_service(name, &[]).wait_ready();
    }
    fleet.wait_connected(2);
    let _ = fleet.enroll(&client);
    for index in 0..2 {
        fleet.service(index).process.kill();
    }
    wait_until("the services that were killed are not connected", || {
        let parties = fleet.ca_daemon(&["relying-parties", "--json"]).success().json();
        let parties = parties.as_array().expect("it is a list");
        (parties.len() == 2 && parties.iter().all(|party| party["connected"] == false)).then_some(())
    });

    let piped = fleet.ca_daemon(&["list"]).success().stdout;
    for name in [&service, &client] {
        assert!(piped.lines().any(|line| line.ends_with(&format!("  {name}"))), "{piped}");
    }
    let dry_run = format!("revoke {client} --dry-run");
    let revoke = format!("revoke {client} --wait 10ms");
    for (arguments, expected) in [
        ("list", &client[..]),
        ("relying-parties", "service1"),
        ("token list", "usable"),
        (&dry_run, "would be"),
        (&revoke, "not confirmed: last seen"),
    ] {
        let printed = on_a_terminal(&fleet, arguments);
        assert!(printed.contains(expected), "{arguments}:\n{printed}");
        for line in printed.lines() {
            assert!(line.chars().count() <= 80, "{arguments}: {line:?} is too long in:\n{printed}");
        }
    }
    let piped = fleet.ca_daemon(&["revoke", &client, "--wait", "10ms"]);
    let unconfirmed: Vec<_> = piped.stdout.lines().filter(|line| line.contains("not confirmed: ")).collect();
    assert!(unconfirmed.len() == 2 && unconfirmed.iter().all(|line| line.contains("nextUpdate")), "{piped:?}");
}

/// The problem document that is the last line on standard error.
#[track_caller]
fn problem(output: &Output, kind: &str, code: i32) -> Value {
    assert_eq!(output.code(), code, "{output:?}");
    let line = output.stderr.lines().last().unwrap_or_default();
    let problem: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!((&problem["type"], &problem["exitCode"]), (&kind.into(), &code.into()));
    assert!(problem["detail"].is_string(), "{problem}");
    problem
}

#[test]
fn every_error_is_a_document_for_programs() {
    let directory = tempfile::tempdir().unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(binary(program));
        command.current_dir(directory.path()).env_remove("CA_TOKEN").env_remove("CA_DIR").args(arguments);
        run(&mut command)
    };
    for (program, arguments, kind, code) in [
        ("ca-daemon", &["--json", "nonsense"][..], "/problems/usage", 2),
        ("ca-daemon", &["init", "--crl-lifetime", "24", "--json"], "/problems/usage", 2),
        ("ca-daemon", &["list", "--json"], "/problems/failed", 1),
        ("ca-daemon", &["serve", "--json"], "/problems/failed", 1),
        ("api-client", &["enroll", "--json"], "/problems/usage", 2),
        ("api-client", &["--json", "request"], "/problems/failed", 1),
        ("api-server", &["--json", "--listen", "nowhere"], "/problems/usage", 2),
        ("api-server", &["--json", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"], "/problems/failed", 1),
    ] {
        problem(&run(program, arguments), kind, code);
    }
    let help = run("ca-daemon", &["--json", "--help"]).success();
    assert!(help.stdout.contains("Usage:"), "help is no error: {help:?}");
    let unit = run("ca-daemon", &["init", "--crl-lifetime", "24"]);
    assert!(unit.stderr.contains("24 needs a unit: 24h for hours, 24d for days"), "{unit:?}");
    // What looks like a URI to SQLite is a path, as to everybody else.
    let _ = run("ca-daemon", &["init", "--dir", "file:ca"]).success();
    let _ = run("ca-daemon", &["list", "--dir", "file:ca"]).success();
    assert!(directory.path().join("file:ca/ca.db").exists());
}

/// What bash itself makes of the scripts.
#[test]
fn words_are_completed_behind_the_first() {
    let script = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        complete=$(complete -p "$1"); function=${complete#*-F }
        ${function%% *} "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        echo "${COMPREPLY[@]}""#;
    let directory = tempfile::tempdir().unwrap();
    for (line, expected) in [
        ("ca-daemon rev", "revoke"),
        ("ca-daemon revoke --with", "--with-token"),
        ("ca-daemon revoke client_1 --reason key", "key-compromise"),
        ("ca-daemon --dir x relying-parties forget --inst", "--instance"),
        ("ca-daemon token cre", "create"),
        ("api-client request --on", "--on-missing-crl"),
        ("api-server --drain", "--drain-delay"),
        ("api-server healthcheck --ops", "--ops-listen"),
    ] {
        let words: Vec<_> = line.split(' ').collect();
        let file = directory.path().join(words[0]);
        fs::write(&file, run(Command::new(binary(words[0])).args(["completions", "bash"])).success().stdout).unwrap();
        let completed = run(Command::new("bash").args(["-c", script, "bash"]).arg(&file).args(&words)).success();
        assert_eq!(completed.stdout.trim(), expected, "{line}");
    }
}

#[test]
fn every_other_command_is_quiet_about_a_closed_pipe_and_fails_with_a_full_device() {
    let fleet = Fleet::new();
    let _ = fleet.ca_daemon(&["issue", "--client", "--name", "client_1"]).success();
    for arguments in [&["list"][..], &["list", "--json"], &["show", "client_1"], &["revoke", "client_1", "--dry-run"]] {
        let said = with_output(&fleet, arguments, closed());
        assert!(said.code() == 0 && said.stderr.is_empty(), "{arguments:?}: {said:?}");
        let said = with_output(&fleet, arguments, full_device());
        assert_eq!(said.code(), 1, "{arguments:?}: {said:?}");
        assert!(said.stderr.contains("standard output could not be written"), "{arguments:?}: {said:?}");
    }
    // A stream that is closed altogether is as good as one that nobody reads.
    for (index, closed) in [">&-", "2>&-", ">&- 2>&-"].into_iter().enumerate() {
        let name = format!("closed_{index}");
        let file = |suffix| format!("{name}.{suffix}");
        let issue = ["issue", "--client", "--name", &name, "--cert", &file("crt"), "--key", &file("key")];
        let _ = fleet.ca_daemon(&issue).success();
        let mut shell = fleet.command("ca-daemon");
        let program = shell.get_program().to_owned();
        shell = std::process::Command::new("sh");
        shell.current_dir(fleet.directory()).arg("-c").arg(format!("\"$0\" revoke {name} {closed}")).arg(program);
        assert_eq!(run(&mut shell).code(), 0, "{closed}");
    }
}
