//! Programs that somebody else starts and stops: a service manager that waits for word of them and hands them secrets, a container
//! engine that starts them with one command, a balancer that has to notice before they go.

#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail like the test itself")]

use std::{fs, os::unix::fs::PermissionsExt as _, os::unix::net::UnixDatagram, path::Path, time::Duration};

use e2e::{Fleet, Process, binary, run, wait_until};
use rustix::process::Signal;

/// The socket on which a service manager would hear.
fn service_manager(directory: &Path) -> (UnixDatagram, String) {
    let path = directory.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    (socket, path.to_str().unwrap().to_owned())
}

fn heard(socket: &UnixDatagram) -> String {
    let mut message = [0; 64];
    let length = socket.recv(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

#[test]
fn a_service_takes_its_token_from_the_service_manager_and_says_how_it_is_doing() {
    let fleet = Fleet::new();
    let (socket, path) = service_manager(fleet.directory());
    let credentials = fleet.directory().join("credentials");
    let token = credentials.join("token");
    let token = token.to_str().unwrap();
    fs::create_dir(&credentials).unwrap();
    let grant = ["token", "create", "--server", "--name", "service0", "--host", "localhost", "--out", token];
    let _ = fleet.ca_daemon(&grant).success();
    // As systemd leaves it: an access control list lets the service's user in, and shows as a permission of the group.
    fs::set_permissions(token, fs::Permissions::from_mode(0o440)).unwrap();
    let listen = format!("{}:0", fleet.address());
    let arguments = ["--host", "localhost", "--token-file", token, "--listen", &listen, "--ops-listen", &listen];

    let refused = run(fleet.command("api-server").args(arguments));
    assert!(refused.code() == 1 && refused.stderr.contains("can be read by others"), "{refused:?}");

    let mut service = Process::start(binary("api-server"), &fleet.directory().join("service0.log"), |command| {
        command.current_dir(fleet.directory()).args(arguments);
        command.env_remove("CA_TOKEN").env("CREDENTIALS_DIRECTORY", &credentials).env("NOTIFY_SOCKET", &path);
    });
    assert_eq!(heard(&socket), "READY=1");
    assert!(service.line().contains("listening"));
    assert!(service.stop().success());
    assert_eq!(heard(&socket), "STOPPING=1");
}

#[test]
fn an_authority_is_started_with_one_command_and_founded_once() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, path) = service_manager(directory.path());
    let token = directory.path().join("service0.token");
    let start = |log: &str| {
        Process::start(binary("ca-daemon"), &directory.path().join(log), |command| {
            command.current_dir(directory.path()).env_remove("CA_DIR").env("NOTIFY_SOCKET", &path).args([
                "start",
                "--listen",
                "127.0.0.1:0",
                "--http-listen",
                "127.0.0.1:0",
                "--ops-listen",
                "127.0.0.1:0",
                "--server-url",
                "https://ca:8440",
                "--server-token",
                "service0=service0.token",
            ]);
        })
    };
    let read = |file: &str| fs::read_to_string(directory.path().join(file)).unwrap();
    let mut first = start("first.log");
    assert_eq!(heard(&socket), "READY=1");
    let http = first.line().split_once("http://").and_then(|(_, rest)| Some(rest.split_once(' ')?.0.to_owned()));
    let healthcheck = |address: &str| {
        run(std::process::Command::new(binary("ca-daemon")).args(["healthcheck", "--http-listen", address]))
    };
    let http = http.unwrap();
    assert_eq!(healthcheck(&http).code(), 0);
    let (root, handed_out) = (read("ca/root.crt"), read("service0.token"));
    assert!(first.stop().success());
    assert_eq!(heard(&socket), "STOPPING=1");
    assert_eq!(healthcheck(&http).code(), 1);
    assert!(first.log().contains("authority founded"));

    let mut second = start("second.log");
    assert_eq!(heard(&socket), "READY=1");
    assert_eq!((read("ca/root.crt"), read("service0.token")), (root, handed_out));
    assert!(!second.log().contains("authority founded"));
    assert!(second.stop().success());

    // Its directory is lost, and the service's token is not.
    fs::remove_dir_all(directory.path().join("ca")).unwrap();
    let third = start("third.log");
    wait_until("it is not founded again", || third.log().contains("restore the authority from a backup").then_some(()));
    assert!(token.exists() && !directory.path().join("ca/root.crt").exists());
}

#[test]
fn a_service_that_shuts_down_says_so_first_and_goes_on_until_the_balancer_has_noticed() {
    let mut fleet = Fleet::new();
    let url = fleet.start_service("service0", &["--drain-delay", "15s"]).url();
    let client = fleet.enroll("client_1");
    fleet.wait_connected(1);
    fleet.service(0).process.signal(Signal::TERM);
    wait_until("it says that it is not ready", || {
        let (status, why) = fleet.service(0).readiness();
        (status == 503 && why.contains("shutting down")).then_some(())
    });
    // Who was sent here a moment ago is still answered.
    assert_eq!(client.request(1, &url).success().json()["answered"], 1);
    assert!(fleet.service(0).process.stop().success());
    let log = fleet.service(0).process.log();
    assert!(log.contains("feed open") && !log.contains("no feed"), "nobody but it has ended anything: {log}");
}
