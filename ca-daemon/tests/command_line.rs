//! The program as a person runs it: what `revoke` prints, and its exit code.

#![expect(clippy::unwrap_used, reason = "a test whose surroundings cannot be built has failed")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

fn ca_daemon(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ca-daemon"));
    command.arg("--dir").arg(directory.join("ca")).args(arguments).current_dir(directory).env_remove("CA_DIR");
    command
}

#[track_caller]
fn run(directory: &Path, arguments: &[&str], code: i32, says: &[&str]) -> Output {
    let output = ca_daemon(directory, arguments).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    for part in says {
        assert!(text.contains(part), "{arguments:?}: {part:?} is not in {text}");
    }
    output
}

/// A daemon that ends with the test.
struct Daemon(Child);

impl Daemon {
    fn start(directory: &Path) -> Self {
        let any = "127.0.0.1:0";
        let arguments = ["serve", "--listen", any, "--http-listen", any, "--ops-listen", any];
        let mut child = ca_daemon(directory, &arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.contains("ready"), "{ready}");
        Self(child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn founded() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    run(directory.path(), &["init"], 0, &[]);
    for name in ["client_1", "client_2", "client_3", "client_4"] {
        let files = [format!("{name}.crt"), format!("{name}.key")];
        let arguments = ["issue", "--client", "--name", name, "--cert", &files[0], "--key", &files[1]];
        run(directory.path(), &arguments, 0, &[]);
    }
    directory
}

#[test]
fn a_command_leaves_the_whole_database_in_its_file() {
    let directory = founded();
    run(directory.path(), &["revoke", "client_1"], 5, &[]);
    let left = |name: &str| directory.path().join("ca").join(name).exists();
    assert!(left("ca.db") && !left("ca.db-wal"), "who copies ca.db has all of it");
}

#[test]
fn revoke_reports_that_no_instance_could_be_notified() {
    let directory = founded();
    let directory = directory.path();
    run(directory, &["revoke", "client_1", "--dry-run"], 0, &["client_1", "nothing was revoked; 1 would be"]);
    run(directory, &["revoke", "nobody"], 3, &["nobody"]);
    run(directory, &["revoke"], 2, &[]);
    run(directory, &["revoke", "client_1", "--wait", "soon"], 2, &[]);
    run(
        directory,
        &["revoke", "client_1"],
        5,
        &["revoked client_1 (serial ", "in CRL number ", "no ca-daemon serves this authority", "at its start"],
    );
    run(directory, &["revoke", "client_1"], 5, &["was already revoked"]);
    run(directory, &["revoke", "client_2", "--no-wait"], 0, &["in CRL number "]);
    run(directory, &["relying-parties"], 0, &["no relying party is registered"]);
    run(directory, &["relying-parties", "forget", "service0"], 3, &["service0"]);
    let json = run(directory, &["revoke", "client_3", "--json"], 5, &[]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(report["crlNumber"].is_i64(), "{report}");
    assert_eq!(report["published"], false);
    assert_eq!(report["relyingParties"], serde_json::json!([]));
}

#[test]
fn revoke_takes_several_arguments_and_ends_when_every_instance_enforces_it() {
    let directory = founded();
    let directory = directory.path();
    let daemon = Daemon::start(directory);
    run(
        directory,
        &["revoke", "client_1", "client_2", "--cert", "client_3.crt"],
        0,
        &[
            "revoked client_1",
            "revoked client_2",
            "revoked client_3",
            "in CRL number ",
            "no relying party is registered",
        ],
    );
    run(directory, &["revoke", "--issued-after", "2020-01-01", "--issued-before", "2020-01-02"], 3, &["no valid"]);
    run(directory, &["revoke", "client_4", "--issued-before", "10h"], 3, &["no valid"]);
    run(directory, &["revoke", "--token", "00000000000a"], 3, &["there is no token"]);
    let any = "127.0.0.1:0";
    let second = ["serve", "--listen", any, "--http-listen", any, "--ops-listen", any];
    run(directory, &second, 1, &["another ca-daemon already serves"]);
    // Killed, it leaves its socket behind.
    drop(daemon);
    assert!(directory.join("ca/daemon.sock").exists());
    run(directory, &["revoke", "client_4"], 5, &["no ca-daemon serves this authority"]);
    let _daemon = Daemon::start(directory);
    run(directory, &["revoke", "client_4"], 0, &["was already revoked"]);
}

/// A revocation is durable even if the daemon's socket is another kind of file.
#[test]
fn an_unreachable_daemon_does_not_prevent_a_revocation() {
    let directory = founded();
    let directory = directory.path();
    let _daemon = Daemon::start(directory);
    let socket = directory.join("ca/daemon.sock");
    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink(&socket, &socket).unwrap();
    run(directory, &["revoke", "client_1"], 5, &["revoked client_1 (serial ", "the daemon cannot be reached: "]);
    run(directory, &["revoke", "client_2", "--no-wait"], 0, &["revoked client_2 (serial ", "cannot be reached: "]);
    run(directory, &["revoke", "client_1", "client_2"], 5, &["was already revoked"]);
}
