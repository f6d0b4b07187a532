//! Clients that we did not write: curl and openssl.

use std::{fs, process::Command};

use e2e::{Client, Fleet, binary, run, wait_until};

fn curl(client: &Client, url: &str, arguments: &[&str]) -> e2e::Output {
    run(Command::new("curl")
        .current_dir(&client.directory)
        .args(["-sS", "--max-time", "60", "--cert", "client.crt", "--key", "client.key", "--cacert", "ca.crt"])
        .args(arguments)
        .arg(url))
}

#[test]
fn curl_is_answered_over_http_2_and_http_1_and_refused_once_revoked() {
    let mut fleet = Fleet::new();
    let url = fleet.start_service("service0", &[]).url();
    let client = fleet.enroll("client_1");

    assert_eq!(curl(&client, &url, &["--http2"]).success().json()["protocol"], "HTTP/2.0");
    assert_eq!(curl(&client, &url, &["--http1.1"]).success().json()["protocol"], "HTTP/1.1");
    let healthy = curl(&client, &url.replace("/hello", "/healthy"), &[]).success();
    assert_eq!(healthy.json()["status"], "healthy");
    let missing = curl(&client, &url.replace("/hello", "/nothing"), &["-i"]).success();
    assert!(missing.stdout.contains("404") && missing.stdout.contains("application/problem+json"), "{missing:?}");

    let nobody = run(Command::new("curl").current_dir(&client.directory).args(["-sS", "--cacert", "ca.crt", &url]));
    assert!(nobody.stderr.contains("certificate required"), "{nobody:?}");

    let _ =
        fleet.ca_daemon(&["revoke", "--cert", client.file("client.crt").to_str().unwrap(), "--wait", "1m"]).success();
    wait_until("curl is refused", || {
        let output = curl(&client, &url, &[]);
        output.stderr.contains("certificate revoked").then_some(())
    });
}

#[test]
fn openssl_accepts_chains_and_crls_and_refuses_what_is_revoked() {
    let mut fleet = Fleet::new();
    let service = fleet.start_service("service0", &[]);
    let (url, address) = (service.url(), service.https.to_string());
    let client = fleet.enroll("client_1");

    let connect = run(Command::new("openssl").current_dir(&client.directory).args([
        "s_client",
        "-connect",
        &address,
        "-CAfile",
        "ca.crt",
        "-cert",
        "client.crt",
        "-key",
        "client.key",
        "-cert_chain",
        "client.crt",
        "-verify_return_error",
        "-alpn",
        "h2",
        "-brief",
    ]));
    assert!(connect.stderr.contains("Protocol version: TLSv1.3"), "{connect:?}");
    assert!(connect.stderr.contains("Verification: OK"), "{connect:?}");

    let crls = || {
        let mut pem = String::new();
        for name in ["root", "issuing"] {
            let der = client.file(&format!("{name}.crl"));
            let url = format!("{}/crl/{name}.crl", fleet.crl_url());
            let _ = run(Command::new("curl").args(["-sSf", "-o"]).arg(&der).arg(url)).success();
            let _ = run(Command::new("openssl")
                .args(["crl", "-inform", "DER", "-noout", "-verify", "-CAfile"])
                .arg(fleet.ca_directory().join(format!("{name}.crt")))
                .arg("-in")
                .arg(&der))
            .success();
            pem += &run(Command::new("openssl").args(["crl", "-inform", "DER", "-in"]).arg(&der)).success().stdout;
        }
        std::fs::write(client.file("crls.pem"), pem).unwrap();
        run(Command::new("openssl").current_dir(&client.directory).args([
            "verify",
            "-x509_strict",
            "-purpose",
            "sslclient",
            "-crl_check_all",
            "-CAfile",
            "ca.crt",
            "-CRLfile",
            "crls.pem",
            "-untrusted",
            "client.crt",
            "client.crt",
        ]))
    };
    let accepted = crls().success();
    assert!(accepted.stdout.contains("OK"), "{accepted:?}");
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    let refused = crls();
    assert!(refused.stderr.contains("certificate revoked"), "{refused:?}");
    wait_until("the service refuses it too", || (client.request(1, &url).code() == 3).then_some(()));
}

#[test]
fn openssl_refuses_what_is_revoked_in_the_delta_only() {
    let fleet = Fleet::new();
    let client = fleet.enroll("client_1");
    let fetch = |name: &str| {
        let der = client.file(&format!("{name}.crl"));
        let url = format!("{}/crl/{name}.crl", fleet.crl_url());
        let _ = run(Command::new("curl").args(["-sSf", "-o"]).arg(&der).arg(url)).success();
        run(Command::new("openssl").args(["crl", "-inform", "DER", "-in"]).arg(&der)).success().stdout
    };
    // The complete list of before, as for whoever has not fetched it since; the delta is what it is now.
    let complete = fetch("root") + &fetch("issuing");
    let verify = |delta: &str, deltas: &[&str]| {
        std::fs::write(client.file("crls.pem"), complete.clone() + delta).unwrap();
        let arguments = ["verify", "-x509_strict", "-purpose", "sslclient", "-crl_check_all", "-CAfile", "ca.crt"];
        let files = ["-CRLfile", "crls.pem", "-untrusted", "client.crt", "client.crt"];
        run(Command::new("openssl").current_dir(&client.directory).args(arguments).args(deltas).args(files))
    };
    let accepted = verify(&fetch("issuing-delta"), &["-use_deltas", "-extended_crl"]).success();
    assert!(accepted.stdout.contains("OK"), "{accepted:?}");
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--reason", "key-compromise", "--wait", "1m"]).success();
    let refused = verify(&fetch("issuing-delta"), &["-use_deltas", "-extended_crl"]);
    assert!(refused.stderr.contains("certificate revoked"), "{refused:?}");
    // It is the delta that says so: without it, the complete list of before knows nothing of the revocation.
    let ignored = verify("", &[]).success();
    assert!(ignored.stdout.contains("OK"), "{ignored:?}");
}

#[test]
fn public_files_are_served_with_conditional_requests() {
    let fleet = Fleet::new();
    let get = |path: &str, arguments: &[&str]| {
        let url = format!("{}{path}", fleet.crl_url());
        run(Command::new("curl").args(["-sS", "-D", "-", "-o", "/dev/null"]).args(arguments).arg(url)).success().stdout
    };
    for (path, media_type) in [
        ("/crl/root.crl", "application/pkix-crl"),
        ("/crl/issuing.crl", "application/pkix-crl"),
        ("/crl/servers.crl", "application/pkix-crl"),
        ("/ca/root.crt", "application/pkix-cert"),
        ("/ca/issuing.crt", "application/pkix-cert"),
    ] {
        let headers = get(path, &[]);
        assert!(headers.contains("200 OK") && headers.contains(media_type), "{path}: {headers}");
        let header = |name: &str| {
            let fields = headers.lines().filter_map(|line| line.split_once(": "));
            let mut values =
                fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
            values.next().unwrap_or_else(|| panic!("{path} has {name}: {headers}")).to_owned()
        };
        assert!(!header("cache-control").is_empty());
        let same = get(path, &["-H", &format!("If-None-Match: {}", header("etag"))]);
        assert!(same.contains("304"), "{path}: {same}");
        let since = get(path, &["-H", &format!("If-Modified-Since: {}", header("last-modified"))]);
        assert!(since.contains("304"), "{path}: {since}");
        assert!(get(path, &["-I"]).contains("200"), "HEAD {path}");
    }
    let etag =
        |path: &str| get(path, &[]).lines().find(|line| line.to_lowercase().starts_with("etag")).map(str::to_owned);
    let before = etag("/crl/issuing.crl");
    let _ = fleet.enroll("client_1");
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    assert_ne!(etag("/crl/issuing.crl"), before, "the daemon notices at once what another process published");
    for path in ["/healthz", "/readyz"] {
        assert!(get(path, &[]).contains("200"), "{path}");
    }
}

#[test]
fn the_documented_way_to_enroll_without_our_client_can_be_followed() {
    let fleet = Fleet::new();
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md")).unwrap();
    let mut blocks = document.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let script = blocks.find(|block| block.contains("/v1/enroll")).expect("it is in a block of its own");
    let script = script.replace("https://localhost:8440", &fleet.ca_url());
    let programs = binary("ca-daemon").parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &script]).current_dir(fleet.directory());
    let _ = run(bash.env("PATH", path).env_remove("CA_DIR")).success();
    let verify = |arguments: &[&str]| {
        let mut openssl = Command::new("openssl");
        openssl
            .current_dir(fleet.directory())
            .args(["verify", "-x509_strict", "-CAfile", "ca/root.crt"])
            .args(arguments);
        let _ = run(&mut openssl).success();
    };
    verify(&["-purpose", "sslclient", "-untrusted", "client.crt", "client.crt"]);

    // And what other servers present.
    let enroll =
        |hosts: &[&str]| run(fleet.command("api-client").args(["enroll", "--server", "--dir", "db"]).args(hosts));
    let db = enroll(&["--host", "db.fleet", "--host", "::ffff:10.0.0.1"]).success();
    assert!(db.stdout.contains("enrolled db.fleet"), "{db:?}");
    for name in [["-verify_hostname", "db.fleet"], ["-verify_ip", "10.0.0.1"]] {
        verify(&[&["-purpose", "sslserver", "-untrusted", "db/server.crt"], &name[..], &["db/server.crt"]].concat());
    }
    let again = enroll(&["--host", "other.fleet"]);
    assert_eq!(again.code(), 4, "{again:?}");
    assert!(again.stderr.contains("db.fleet") && again.stderr.contains("--force"), "{again:?}");
}
