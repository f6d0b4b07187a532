//! What becomes of the output of a command: it decides nothing where a revocation is recorded, and is an error elsewhere.

use std::{
    fs::File,
    io::{PipeReader, PipeWriter, Read as _, Write as _, pipe},
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
    let authority = format!("serve --listen {address}:8440 --http-listen {address}:8480 >&2");
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

    // A terminal that closes ends neither.
    for daemon in [&authority, &service] {
        daemon.signal(Signal::HUP);
    }
    assert_eq!(client.request(1, &url).json()["failures"][0]["alert"], "certificate_revoked");
    let _ = fleet.ca_daemon(&["healthcheck"]).success();
    // Whoever reads late finds what there was room for.
    let mut said = Vec::new();
    wait_until("the service says what the signal did", || {
        let mut some = [0; 65536];
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
