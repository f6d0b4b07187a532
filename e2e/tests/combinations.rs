//! Faults that come together. Whatever they are: where `revoke` says that a service enforces the revocation, the client gets no answer
//! there any more, and a service that may still answer is named.

use std::{process::Command, thread, time::Duration};

use e2e::{Client, Fleet, Network, Process, binary, run, run_in, wait_until};
use rustix::process::Signal;

/// A minute between polls: what arrives sooner has come by the feed.
const REFRESH: [&str; 2] = ["--crl-refresh", "60s"];

fn alert(client: &Client, url: &str) -> Option<String> {
    client.request(1, url).json()["failures"][0]["alert"].as_str().map(str::to_owned)
}

fn is_refused(client: &Client, url: &str) -> bool {
    alert(client, url).as_deref() == Some("certificate_revoked")
}

fn is_answered(client: &Client, url: &str) -> bool {
    client.request(1, url).code() == 0
}

/// Whether a client is answered that does not ask whether the service is revoked.
fn is_answered_unasked(client: &Client, url: &str) -> bool {
    let mut curl = Command::new("curl");
    for (option, file) in [("--cacert", "ca.crt"), ("--cert", "client.crt"), ("--key", "client.key")] {
        curl.arg(option).arg(client.file(file));
    }
    run(curl.args(["-sS", "--max-time", "60", url])).code() == 0
}

/// What `revoke` says of one relying party, which is more than one line where it is more than one instance.
fn rows<'a>(said: &'a str, name: &str) -> Vec<&'a str> {
    said.lines().filter(|line| line.contains(name)).collect()
}

fn has_opened_its_feed(log: &str, times: usize) -> bool {
    log.matches("feed open").count() >= times
}

/// The old instance is cut off from the authority and not from its clients; the new one has its name, and a certificate of its own; and
/// the authority that knows both is killed.
#[test]
fn a_replacement_does_not_confirm_for_the_one_that_is_cut_off_from_an_authority_that_was_killed() {
    let Some(network) = Network::new() else { return };
    let mut fleet = Fleet::at(network.here, &[]);
    let old = fleet.launch_service_in(&network, "service0", &REFRESH);
    old.wait_ready();
    fleet.wait_connected(1);
    let client = fleet.enroll("client_1");
    let _ = client.request(1, &old.url()).success();

    network.cut();
    let new = fleet.launch_service("service0", &[&REFRESH[..], &["--dir", "replacement"]].concat());
    new.wait_ready();
    wait_until("the new one is on the feed", || has_opened_its_feed(&new.process.log(), 2).then_some(()));
    fleet.ca().kill();
    fleet.start_ca();
    wait_until("the new one is on the feed again", || has_opened_its_feed(&new.process.log(), 3).then_some(()));
    let said = fleet.ca_daemon(&["revoke", "client_1", "--wait", "2s"]);
    assert_eq!(said.code(), 5, "{said:?}");
    assert!(said.stdout.contains("not confirmed"), "{said:?}");
    wait_until("the new one enforces it", || is_refused(&client, &new.url()).then_some(()));
    // That is the truth: whoever reaches the old one is still let in by it.
    let mut far = client.command();
    far.args(["request", "--json", "--timeout", "1m", "--url", &old.url()]);
    let _ = run_in(&network, &far).success();
    assert_eq!(fleet.ca_daemon(&["revoke", "client_1", "--wait", "1ms"]).code(), 5, "nothing has changed");

    network.heal();
    wait_until("both confirm", || {
        let said = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1s"]);
        (said.code() == 0).then_some(())
    });
    assert!(is_refused(&client, &old.url()) && is_refused(&client, &new.url()), "it was said, so it is enforced");
}

/// The one that comes back out of the same directory speaks for the one that was killed.
#[test]
fn a_service_that_is_killed_while_it_is_waited_for_confirms_when_it_is_back() {
    let mut fleet = Fleet::new();
    let well = fleet.start_service("service0", &REFRESH).url();
    let mut killed = fleet.launch_service("service1", &REFRESH);
    killed.wait_ready();
    fleet.wait_connected(2);
    let client = fleet.enroll("client_1");
    let (url, https, operations) = (killed.url(), killed.https.to_string(), killed.operations.to_string());

    killed.process.signal(Signal::STOP);
    let mut revoke = Process::start(binary("ca-daemon"), &fleet.directory().join("revoke.log"), |command| {
        command.current_dir(fleet.directory()).env_remove("CA_DIR").args(["revoke", "client_1", "--wait", "1h"]);
    });
    while !revoke.line().contains("service0") {}
    assert!(is_refused(&client, &well));
    killed.process.kill();
    let back =
        fleet.launch_service("service1", &[&REFRESH[..], &["--listen", &https, "--ops-listen", &operations]].concat());
    assert_eq!(revoke.wait().code(), Some(0), "{}", revoke.log());
    assert!(is_refused(&client, &url), "it was said, so it is enforced");
    back.wait_ready();
}

/// Who admits clients is known to the authority, also to one that is killed the moment after.
#[test]
fn a_service_that_has_just_come_is_not_forgotten_with_the_authority_that_is_killed() {
    let mut fleet = Fleet::new();
    let client = fleet.enroll("client_1");
    let service = fleet.launch_service("service0", &REFRESH);
    wait_until("it admits its first client", || is_answered(&client, &service.url()).then_some(()));
    fleet.ca().kill();
    service.process.signal(Signal::STOP);
    fleet.start_ca();
    let said = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1ms"]);
    assert!(said.code() == 5 && !rows(&said.stdout, "service0").is_empty(), "{said:?}");
    service.process.signal(Signal::CONT);
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    assert!(is_refused(&client, &service.url()), "it was said, so it is enforced");
}

#[test]
fn a_paused_service_is_named_by_an_authority_that_was_killed_meanwhile() {
    let mut fleet = Fleet::new();
    let well = fleet.start_service("service0", &REFRESH).url();
    let paused = fleet.launch_service("service1", &REFRESH);
    paused.wait_ready();
    fleet.wait_connected(2);
    let client = fleet.enroll("client_1");
    paused.process.signal(Signal::STOP);
    fleet.ca().kill();
    fleet.start_ca();
    let said = fleet.revoke_but(&["client_1"], &["service0"]);
    let named = rows(&said.stdout, "service1");
    assert!(named.iter().any(|row| row.contains("not confirmed")), "{said:?}");
    assert!(is_refused(&client, &well));
    paused.process.signal(Signal::CONT);
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    assert!(is_refused(&client, &paused.url()), "it was said, so it is enforced");
}

/// The backup knows no service, the service is late, and keeps the only list that has the revocation.
#[test]
fn a_restore_with_a_late_service_lets_nobody_in_again() {
    let mut fleet = Fleet::with_init(&["--crl-lifetime", "9s"]);
    let backup = fleet.directory().join("backup.db");
    let copy = format!(".backup {}", backup.display());
    let _ = run(Command::new("sqlite3").arg(fleet.ca_directory().join("ca.db")).arg(copy)).success();
    let url = fleet.start_service("service0", &[]).url();
    fleet.wait_connected(1);
    let (revoked, other) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();

    fleet.service(0).process.kill();
    fleet.ca().kill();
    for name in ["ca.db-wal", "ca.db-shm"] {
        let _ = std::fs::remove_file(fleet.ca_directory().join(name));
    }
    std::fs::copy(&backup, fleet.ca_directory().join("ca.db")).unwrap();
    fleet.start_ca();
    // A third of a CRL's life, after which the next one is due. More of it changes nothing.
    thread::sleep(Duration::from_secs(4));
    let (https, operations) = (fleet.service(0).https.to_string(), fleet.service(0).operations.to_string());
    let late = fleet.launch_service("service0", &["--listen", &https, "--ops-listen", &operations]);
    wait_until("it is ready again", || {
        assert!(
            !is_answered(&revoked, &url),
            "the revocation is forgotten; the authority's log:\n{}",
            fleet.ca().log()
        );
        (late.readiness().0 == 200).then_some(())
    });
    wait_until("the other one is let in", || is_answered(&other, &url).then_some(()));
    assert!(is_refused(&revoked, &url));
    wait_until("the authority lists it again", || {
        fleet.ca_daemon(&["list", "--json"]).success().stdout.contains("revoked").then_some(())
    });
}

#[test]
fn an_issuing_ca_is_revoked_though_a_service_is_slow() {
    let mut fleet = Fleet::new();
    let well = fleet.start_service("service0", &REFRESH).url();
    let slow = fleet.launch_service("service1", &REFRESH);
    slow.wait_ready();
    fleet.wait_connected(2);
    let clients = [fleet.enroll("client_1"), fleet.enroll("client_2")];
    assert!(is_answered_unasked(&clients[1], &slow.url()), "what is refused later is not refused yet");
    let _busy = clients[0].keep_asking(&slow.url());
    let order = ["revoke", "--issuing", "--yes", "--reason", "ca-compromise", "--wait", "1m", "--json"];
    let _ = slow.process.slowed(|| fleet.ca_daemon(&order)).success();
    for client in &clients {
        for url in [&well, &slow.url()] {
            assert!(!is_answered(client, url), "the services are revoked to clients that ask");
            assert!(!is_answered_unasked(client, url), "it was said, so it is enforced");
        }
    }
    assert_eq!(
        (fleet.service(0).readiness().0, slow.readiness().0),
        (503, 503),
        "whoever refuses everybody is not ready"
    );
    let issued = fleet.ca_daemon(&["issue", "--client", "--name", "client_3"]);
    assert_ne!(issued.code(), 0, "what this authority issues is good for nothing: {issued:?}");
}

/// Nobody is to talk to it any more, and it is to know that itself.
#[test]
fn a_paused_service_is_revoked_together_with_its_client() {
    let mut fleet = Fleet::new();
    let well = fleet.start_service("service0", &REFRESH).url();
    let paused = fleet.launch_service("service1", &REFRESH);
    paused.wait_ready();
    fleet.wait_connected(2);
    let (revoked, other) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let _busy = revoked.keep_asking(&paused.url());
    paused.process.signal(Signal::STOP);
    let said = fleet.ca_daemon(&["revoke", "client_1", "service1", "--wait", "2s"]);
    assert!(matches!(said.code(), 0 | 5), "{said:?}");
    assert!(rows(&said.stdout, "service1").iter().any(|row| row.contains("certificate is revoked")), "{said:?}");
    wait_until("service0 enforces it", || is_refused(&revoked, &well).then_some(()));

    paused.process.signal(Signal::CONT);
    wait_until("it stops serving", || {
        let (status, why) = paused.readiness();
        (status == 503 && why.contains("revoked")).then_some(())
    });
    for client in [&revoked, &other] {
        assert!(!is_answered(client, &paused.url()), "it serves nobody");
    }
    let _ = other.request(1, &well).success();
}
