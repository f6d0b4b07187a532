//! The authority's database is an older copy, restored while services enforce what came after it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{Client, Fleet, Replay, run, wait_until};

fn alert(client: &Client, url: &str) -> Option<String> {
    client.request(1, url).json()["failures"][0]["alert"].as_str().map(str::to_owned)
}

fn copy(fleet: &Fleet, to: &Path) {
    let backup = format!(".backup {}", to.display());
    let _ = run(Command::new("sqlite3").arg(fleet.ca_directory().join("ca.db")).arg(backup)).success();
}

/// The daemon is down meanwhile.
fn restore(fleet: &mut Fleet, from: &Path) {
    fleet.ca().kill();
    for name in ["ca.db-wal", "ca.db-shm"] {
        let _ = fs::remove_file(fleet.ca_directory().join(name));
    }
    fs::copy(from, fleet.ca_directory().join("ca.db")).expect("the copy can be put in place");
}

/// What the service keeps beside each other: its CRLs, what it knows of them, and who it is.
fn kept(fleet: &Fleet) -> Vec<PathBuf> {
    let files = fs::read_dir(fleet.directory().join("service0/crl")).expect("the service keeps its CRLs there");
    files.flatten().map(|file| file.path()).collect()
}

/// The newest CRL number of the issuing CA, complete or delta.
fn number(fleet: &Fleet) -> i64 {
    let listed = fleet.ca_daemon(&["crl", "--json"]).success().json();
    listed["number"].as_i64().unwrap_or_else(|| panic!("{listed}"))
}

#[test]
fn a_restored_authority_takes_back_what_it_forgot_and_no_revoked_client_is_let_in_again() {
    let mut fleet = Fleet::new();
    let url = fleet.start_service("service0", &["--crl-refresh", "200ms"]).url();
    fleet.wait_connected(1);
    let (known, bystander) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let backup = fleet.directory().join("backup.db");
    copy(&fleet, &backup);

    // None of this is in the copy: a revocation, a certificate, and the revocation of that.
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    let stranger = fleet.enroll("client_3");
    let _ = fleet.ca_daemon(&["revoke", "client_3", "--reason", "key-compromise", "--wait", "1m"]).success();
    let before = number(&fleet);

    restore(&mut fleet, &backup);
    fleet.start_ca();
    // It notices at the first contact, says so, and has back what it forgot.
    let said = wait_until("the authority takes back what it forgot", || {
        let log = fleet.ca().log();
        log.contains("has taken back revocations").then_some(log)
    });
    assert!(said.contains("this database is an older copy") && said.contains("crl --import"), "{said}");
    wait_until("the service follows again", || {
        let parties = fleet.ca_daemon(&["relying-parties", "--json"]).success().json();
        (parties[0]["lag"] == 0 && parties[0]["crlNumber"].as_i64() > Some(before)).then_some(())
    });
    assert!(number(&fleet) > before, "nothing as low is published again");
    let shown = fleet.ca_daemon(&["show", "client_1", "--json"]).success().stdout;
    assert!(shown.contains("revoked"), "{shown}");
    let ready = run(Command::new("curl").args(["-sS", &format!("{}/readyz", fleet.ca_operations_url())])).success();
    assert_eq!(ready.stdout, "ready\n");

    // Also in the next complete list, which a service loads that has nothing else.
    assert_eq!(alert(&known, &url).as_deref(), Some("certificate_revoked"));
    // What says whose place it takes stays: else the run before it would be expected, which has vanished.
    for file in kept(&fleet).into_iter().filter(|file| !file.ends_with("instance")) {
        fs::remove_file(file).expect("it is the service's");
    }
    fleet.restart_service(0, &[]);
    for revoked in [&known, &stranger] {
        assert_eq!(alert(revoked, &url).as_deref(), Some("certificate_revoked"));
    }
    let _ = bystander.request(1, &url).success();
    let _ = fleet.ca_daemon(&["revoke", "client_2", "--wait", "1m"]).success();
    assert_eq!(alert(&bystander, &url).as_deref(), Some("certificate_revoked"));
}

#[test]
fn what_was_forgotten_is_taken_back_from_the_files_that_a_service_keeps() {
    let mut fleet = Fleet::new();
    fleet.start_service("service0", &[]);
    fleet.wait_connected(1);
    let client = fleet.enroll("client_1");
    let backup = fleet.directory().join("backup.db");
    copy(&fleet, &backup);
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    // All that is left of it: the service is gone as well.
    let is_crl = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "crl");
    let files: Vec<_> = kept(&fleet).into_iter().filter(is_crl).collect();
    fleet.service(0).process.kill();
    restore(&mut fleet, &backup);

    let arguments: Vec<_> =
        ["crl", "--import"].into_iter().chain(files.iter().filter_map(|file| file.to_str())).collect();
    let said = fleet.ca_daemon(&arguments).success();
    assert!(
        said.stdout.contains("1 revocations taken back") && said.stdout.contains("root CRL number 1: known"),
        "{said:?}"
    );
    let forged = fleet.directory().join("forged.crl");
    fs::write(&forged, b"no CRL").expect("the test's directory can be written");
    assert_eq!(fleet.ca_daemon(&["crl", "--import", forged.to_str().unwrap_or_default()]).code(), 4);

    fleet.start_ca();
    fleet.restart_service(0, &[]);
    let url = fleet.service(0).url();
    assert_eq!(alert(&client, &url).as_deref(), Some("certificate_revoked"));
}

/// The answer's status and text.
fn readiness(fleet: &Fleet) -> (String, String) {
    let arguments = ["-sS", "-w", "%{stderr}%{http_code}", &format!("{}/readyz", fleet.ca_operations_url())];
    let answer = run(Command::new("curl").args(arguments)).success();
    (answer.stderr, answer.stdout)
}

#[test]
fn a_copy_from_before_any_service_was_there_publishes_nothing_until_one_hands_over() {
    let mut fleet = Fleet::new();
    let client = fleet.enroll("client_1");
    let backup = fleet.directory().join("backup.db");
    copy(&fleet, &backup);
    fleet.start_service("service0", &["--crl-refresh", "200ms"]);
    fleet.wait_connected(1);
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    let before = number(&fleet);

    fleet.service(0).process.kill();
    restore(&mut fleet, &backup);
    fleet.start_ca();
    // By itself, out of the mark beside the database: nobody was heard yet.
    let (status, said) = readiness(&fleet);
    assert!(status == "503" && said.contains("ca.mark") && said.contains("crl --import"), "{status}: {said}");
    fleet.restart_service(0, &["--crl-refresh", "200ms"]);
    let url = fleet.service(0).url();
    wait_until("the authority has back what it forgot", || (readiness(&fleet).0 == "200").then_some(()));
    assert_eq!(alert(&client, &url).as_deref(), Some("certificate_revoked"));
    assert!(number(&fleet) > before);
}

#[test]
fn an_operator_can_go_on_without_what_a_restore_has_lost_and_revoke_what_is_not_known_any_more() {
    let mut fleet = Fleet::new();
    let backup = fleet.directory().join("backup.db");
    copy(&fleet, &backup);
    let (lost, stranger) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let serial = |fleet: &Fleet, name: &str| {
        let shown = fleet.ca_daemon(&["show", name, "--json"]).success().json();
        shown[0]["serial"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned()
    };
    let serials = [serial(&fleet, "client_1"), serial(&fleet, "client_2")];
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--no-wait"]).success();
    restore(&mut fleet, &backup);
    fleet.start_ca();
    assert_eq!(readiness(&fleet).0, "503");

    let certificate = lost.file("client.crt");
    let by_file = ["revoke", "--no-wait", "--cert", certificate.to_str().unwrap_or_default()];
    let said = fleet.ca_daemon(&by_file).success();
    assert!(said.stdout.contains("revoked client_1"), "{said:?}");
    assert!(said.stderr.contains("this database is an older copy") && said.stderr.contains("--resign"), "{said:?}");
    assert_eq!(readiness(&fleet).0, "503", "one revocation says nothing of others");
    let by_number = ["revoke", "--no-wait", "--unknown", "--serial", &serials[1]];
    let said = fleet.ca_daemon(&by_number).success().stdout;
    assert!(said.contains("not known here otherwise"), "{said}");
    for serial in &serials {
        let shown = fleet.ca_daemon(&["show", serial]).success().stdout;
        assert!(shown.contains("revoked at") && shown.contains("not known here otherwise"), "{shown}");
    }
    let listed = fleet.ca_daemon(&["list", "--status", "revoked", "--json"]).success().json();
    let unknown = listed.as_array().into_iter().flatten().filter(|one| one["notKnownHereOtherwise"] == true).count();
    assert_eq!(unknown, 2, "{listed}");

    let _ = fleet.ca_daemon(&["crl", "--resign", "--out", "resigned.crl"]).success();
    wait_until("the authority goes on", || (readiness(&fleet).0 == "200").then_some(()));
    let url = fleet.start_service("service0", &[]).url();
    for client in [&lost, &stranger] {
        assert_eq!(alert(client, &url).as_deref(), Some("certificate_revoked"));
    }
}

#[test]
fn an_authority_whose_files_are_taken_from_beneath_it_acknowledges_nothing_any_more() {
    let mut fleet = Fleet::new();
    let _ = fleet.enroll("client_1");
    fs::remove_file(fleet.ca_directory().join("ca.db-wal")).expect("the daemon has it open");
    let said = wait_until("the daemon notices", || {
        let (status, said) = readiness(&fleet);
        (status == "503").then_some(said)
    });
    assert!(said.contains("was removed or replaced while it was in use"), "{said}");
    assert_ne!(run(fleet.command("api-client").args(["enroll", "--name", "client_2", "--dir", "client_2"])).code(), 0);
    let complaints = fleet.ca().log().matches("was removed or replaced").count();
    assert_eq!(complaints, 1, "{}", fleet.ca().log());
    // It is still there to say so.
    assert_eq!(
        run(Command::new("curl").args(["-sS", &format!("{}/healthz", fleet.crl_url())])).success().stdout,
        "ok\n"
    );
    fleet.ca().kill();
    fleet.start_ca();
    let _ = fleet.enroll("client_3");
}

/// The copy is from before any service was on the feed, so the authority waits for nobody; and the service, which is on neither the feed
/// nor its connection, hears of the new list only where everybody does.
#[test]
fn a_service_that_is_off_the_feed_keeps_what_the_restored_authority_forgot_and_hands_it_over() {
    let mut fleet = Fleet::new();
    let backup = fleet.directory().join("backup.db");
    let (client, bystander) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    copy(&fleet, &backup);
    let url = fleet.start_service("service0", &["--crl-refresh", "200ms"]).url();
    fleet.wait_connected(1);
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    assert_eq!(alert(&client, &url).as_deref(), Some("certificate_revoked"));
    let before = number(&fleet);

    // While the daemon is down, the restored database says a higher number, without the revocation.
    restore(&mut fleet, &backup);
    wait_until("a higher number is given", || {
        let _ = fleet.ca_daemon(&["crl", "--resign"]).success();
        (number(&fleet) > before).then_some(())
    });
    let delta = fleet.directory().join("delta.crl");
    let query = format!("SELECT writefile('{}', der) FROM deltas", delta.display());
    let _ = run(Command::new("sqlite3").arg(fleet.ca_directory().join("ca.db")).arg(query)).success();
    let complete = fleet.directory().join("complete.crl");
    let _ = fleet.ca_daemon(&["crl", "--out", complete.to_str().unwrap_or_default()]).success();
    let published = [("/crl/issuing.crl", complete), ("/crl/issuing-delta.crl", delta)];
    let published = published.map(|(path, file)| (path.to_owned(), fs::read(file).expect("it was written")));
    let replay = Replay::start(SocketAddr::from((fleet.address(), 8480)), published.into());
    wait_until("the service refuses the list that lacks the revocation", || {
        fleet.service(0).process.log().contains("lacks revocations").then_some(())
    });
    assert_eq!(alert(&client, &url).as_deref(), Some("certificate_revoked"));
    drop(replay);

    fleet.start_ca();
    wait_until("the authority takes back what it forgot", || {
        let shown = fleet.ca_daemon(&["show", "client_1", "--json"]).success().stdout;
        shown.contains("revoked").then_some(())
    });
    wait_until("the service follows again", || {
        let parties = fleet.ca_daemon(&["relying-parties", "--json"]).success().json();
        (parties[0]["lag"] == 0 && parties[0]["crlNumber"].as_i64() > Some(before)).then_some(())
    });
    fleet.service(0).wait_ready();
    assert_eq!(alert(&client, &url).as_deref(), Some("certificate_revoked"));
    let _ = bystander.request(1, &url).success();
}
