//! A server that is revoked: clients find that out by themselves, whatever the server knows of it.

#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail like the test itself")]

use std::{fs, process::Command};

use e2e::{Client, Fleet, Output, Process, binary, run, wait_until};

fn request(client: &Client, url: &str, arguments: &[&str]) -> Output {
    run(client
        .command()
        .args(["request", "--json", "--timeout", "1m", "-n", "3", "-c", "1", "--url", url])
        .args(arguments))
}

/// The same, with what the authority has to say now: on a busy machine it may not have said it within the second for which a client waits.
fn request_with_news(client: &Client, url: &str, arguments: &[&str]) -> Output {
    wait_until("the authority answers the client in time", || {
        let asked = request(client, url, arguments);
        (!asked.stderr.contains("CRLs of an earlier run are used")).then_some(asked)
    })
}

#[track_caller]
fn assert_revoked(refused: &Output) {
    let report = refused.json();
    let failure = &report["failures"][0];
    assert_eq!((refused.code(), &report["failed"]), (3, &3.into()), "{report}");
    assert!(failure["kind"].as_str().unwrap().contains("the service is revoked"), "{report}");
    assert!(failure["first"].as_str().unwrap().contains("is revoked"), "{report}");
}

#[test]
fn clients_talk_to_no_revoked_service_though_it_does_not_know() {
    let mut fleet = Fleet::new();
    let _ = fleet.start_service("service1", &[]);
    // From now on it hears of nothing: no feed, no poll.
    fs::remove_file(fleet.directory().join("service1/ca.url")).unwrap();
    fleet.restart_service(0, &["--crl-refresh", "1h"]);
    let deaf = fleet.service(0).url();
    let other = fleet.start_service("service0", &[]).url();
    let client = fleet.enroll("client_1");
    let open = Process::start(binary("api-client"), &fleet.directory().join("open.log"), |command| {
        command.current_dir(&client.directory).env_remove("CA_TOKEN");
        let arguments = ["request", "--timeout", "1m", "-n", "100000000", "-c", "1", "--crl-refresh", "200ms"];
        command.args(arguments).args(["--url", &deaf]);
    });
    let _ = open.line();
    let _ = request(&client, &deaf, &[]).success();

    let _ = fleet.ca_daemon(&["revoke", "service1", "--reason", "key-compromise", "--no-wait"]).success();
    assert_revoked(&request_with_news(&client, &deaf, &[]));
    assert_revoked(&request_with_news(&client, &deaf, &["--on-missing-crl", "accept"]));
    wait_until("the open connection ends, and the next one is refused", || {
        open.line().contains("the service is revoked").then_some(())
    });
    let _ = request(&client, &other, &[]).success();

    // What was found out is kept: the authority may be down.
    fleet.ca().kill();
    let refused = request(&client, &deaf, &[]);
    assert_revoked(&refused);
    assert!(refused.stderr.contains("CRLs of an earlier run are used"), "{refused:?}");
    let _ = request(&client, &other, &[]).success();
    // Nothing is kept and nobody to be asked: nothing is sent, and what to do is said.
    fs::remove_dir_all(client.file("crl")).unwrap();
    let unknown = request(&client, &other, &[]);
    assert_eq!(unknown.code(), 1, "{unknown:?}");
    assert!(unknown.stderr.contains("nothing is sent") && unknown.stderr.contains("--on-missing-crl"), "{unknown:?}");
    let _ = request(&client, &other, &["--on-missing-crl", "accept"]).success();
}

/// Whoever has stolen a service's key is nobody to talk to once the certificate is revoked.
#[test]
fn a_stolen_key_is_worth_nothing_after_the_revocation() {
    let mut fleet = Fleet::new();
    let stolen = fleet.start_service("service0", &[]).https;
    fleet.service(0).process.kill();
    let client = fleet.enroll("client_1");
    let directory = fleet.directory().join("service0");
    let accept = stolen.to_string();
    let _thief = Process::start("openssl", &fleet.directory().join("thief.log"), |command| {
        let identity = ["-cert", "server.crt", "-cert_chain", "server.crt", "-key", "server.key"];
        command.current_dir(&directory).args(["s_server", "-www", "-accept", &accept]).args(identity);
    });
    let url = format!("https://{stolen}/hello");
    wait_until("the thief answers", || (request(&client, &url, &[]).code() == 0).then_some(()));
    let _ = fleet.ca_daemon(&["revoke", "service0", "--reason", "key-compromise", "--no-wait"]).success();
    assert_revoked(&request_with_news(&client, &url, &[]));
}

#[test]
fn openssl_judges_a_service_by_the_list_that_covers_servers() {
    let mut fleet = Fleet::new();
    let _ = fleet.start_service("service0", &[]);
    let directory = fleet.directory().to_owned();
    let verify = || {
        let mut pem = String::new();
        for name in ["root", "servers"] {
            let der = directory.join(format!("{name}.crl"));
            let url = format!("{}/crl/{name}.crl", fleet.crl_url());
            let _ = run(Command::new("curl").args(["-sSf", "-o"]).arg(&der).arg(url)).success();
            pem += &run(Command::new("openssl").args(["crl", "-inform", "DER", "-in"]).arg(&der)).success().stdout;
        }
        fs::write(directory.join("crls.pem"), pem).unwrap();
        let judge = ["verify", "-x509_strict", "-crl_check_all", "-extended_crl", "-purpose", "sslserver"];
        let lists = ["-CAfile", "service0/ca.crt", "-CRLfile", "crls.pem"];
        let chain = ["-untrusted", "service0/server.crt", "service0/server.crt"];
        run(Command::new("openssl").current_dir(&directory).args(judge).args(lists).args(chain))
    };
    let accepted = verify().success();
    assert!(accepted.stdout.contains("OK"), "{accepted:?}");
    let _ = fleet.ca_daemon(&["revoke", "service0", "--no-wait"]).success();
    let refused = verify();
    assert!(refused.stderr.contains("certificate revoked"), "{refused:?}");
}
