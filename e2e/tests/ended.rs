//! What is revoked stays so: a key does not come back, nor a token, and what is named is what is revoked.

use std::{fs, process::Command};

use e2e::{Fleet, Output, run};

fn enroll(fleet: &Fleet, name: &str, token: &str, arguments: &[&str]) -> Output {
    let arguments = [&["enroll", "--name", name, "--dir", name, "--token", token], arguments].concat();
    run(fleet.command("api-client").args(arguments))
}

fn token(fleet: &Fleet, uses: &str) -> (String, String) {
    let created = fleet.ca_daemon(&["token", "create", "--client", "--uses", uses, "--json"]).success().json();
    let field = |name: &str| created[name].as_str().unwrap_or_else(|| panic!("{created}")).to_owned();
    (field("token"), field("id"))
}

#[test]
fn a_key_that_was_revoked_for_compromise_does_not_come_back_and_nobody_is_stuck_with_it() {
    let fleet = Fleet::new();
    let (token, id) = token(&fleet, "5");
    let _ = enroll(&fleet, "dave", &token, &[]).success();
    // The same key has another name as well.
    let file_of = |name: &str, file: &str| fleet.directory().join(name).join(file);
    fs::create_dir(fleet.directory().join("dave2")).expect("it can be made");
    fs::copy(file_of("dave", "client.key"), file_of("dave2", "client.key.pending")).expect("it can be copied");
    let _ = enroll(&fleet, "dave2", &token, &[]).success();
    let said = fleet.ca_daemon(&["revoke", "dave", "--reason", "key-compromise", "--json", "--no-wait"]).success();
    assert_eq!(said.json()["usableTokens"], serde_json::json!([id]), "{said:?}");
    assert_eq!(said.json()["sameKey"][0]["name"], "dave2", "{said:?}");
    assert!(said.stderr.contains("3 of 5 uses left") && said.stderr.contains("--with-token"), "{said:?}");

    // As an enrollment leaves it that was cut off: its key is tried again.
    let file = |name: &str| file_of("dave", name);
    let old_key = fs::read(file("client.key")).expect("it was enrolled");
    fs::rename(file("client.key"), file("client.key.pending")).expect("it can be renamed");
    fs::remove_file(file("client.crt")).expect("it can be removed");
    let refused = enroll(&fleet, "dave", &token, &[]);
    assert_eq!(refused.code(), 4, "{refused:?}");
    assert!(refused.stderr.contains("revoked for compromise") && refused.stderr.contains("--force"), "{refused:?}");
    assert!(!file("client.key.pending").exists(), "it is of no use any more");
    let _ = enroll(&fleet, "dave", &token, &[]).success();
    assert_ne!(fs::read(file("client.key")).expect("it was enrolled"), old_key);

    // What was revoked for another reason, and turns out to be worse.
    let _ = fleet.ca_daemon(&["revoke", "dave", "--reason", "superseded", "--no-wait"]).success();
    let serial = fleet.ca_daemon(&["list", "--status", "revoked", "--json"]).success().json()[1]["serial"].clone();
    let serial = serial.as_str().expect("two are revoked");
    let worse = ["revoke", serial, "--reason", "key-compromise", "--with-token", "--no-wait"];
    let said = fleet.ca_daemon(&worse).success();
    assert!(said.stdout.contains("(superseded); that reason stays in the CRL, and its key is never"), "{said:?}");
    assert!(said.stdout.contains(&format!("revoked token {id}")) && said.stderr.is_empty(), "{said:?}");
    let refused = enroll(&fleet, "erin", &token, &[]);
    assert!(refused.code() == 4 && refused.stderr.contains("the token was revoked"), "{refused:?}");
}

#[test]
fn what_is_named_is_what_is_revoked() {
    let fleet = Fleet::new();
    let issue = |name: &str| {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        let issue = ["issue", "--client", "--name", name, "--cert", &certificate, "--key", &key, "--json"];
        let issued = fleet.ca_daemon(&issue).success().json();
        issued["serial"].as_str().unwrap_or_else(|| panic!("{issued}")).to_owned()
    };
    let status = |serial: &str| {
        let listed = fleet.ca_daemon(&["list", "--json"]).success().json();
        let all = listed.as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|certificate| certificate["serial"] == serial);
        found.unwrap_or_else(|| panic!("{serial} is not in {listed}"))["status"].clone()
    };
    let revoke = |arguments: &[&str]| fleet.ca_daemon(&[&["revoke", "--no-wait"], arguments].concat());

    // Somebody enrolls under the name that is another certificate's serial number.
    let victim = issue("victim");
    let namesake = issue(&victim);
    let refused = revoke(&[&victim]);
    assert!(
        refused.code() == 4 && refused.stderr.contains(&namesake) && refused.stderr.contains("--name"),
        "{refused:?}"
    );
    assert_eq!((status(&victim), status(&namesake)), ("valid".into(), "valid".into()));
    let _ = revoke(&["--name", &victim]).success();
    assert_eq!((status(&victim), status(&namesake)), ("valid".into(), "revoked".into()));
    let _ = revoke(&["--serial", &victim]).success();
    assert_eq!(status(&victim), "revoked");

    // Each of these files has the issuing CA's certificate after the client's.
    let (first, second) = (issue("first"), issue("second"));
    let read = |name: &str| fs::read_to_string(fleet.directory().join(name)).expect("it was issued");
    let both = fleet.directory().join("both.crt");
    fs::write(&both, read("first.crt") + &read("second.crt")).expect("it can be written");
    let said = revoke(&["--cert", "both.crt"]).success().stdout;
    assert!(said.contains("revoked first") && said.contains("revoked second"), "{said}");
    assert_eq!((status(&first), status(&second)), ("revoked".into(), "revoked".into()));
    let refused = revoke(&["--cert", "ca/issuing.crt"]);
    assert!(refused.code() == 4 && refused.stderr.contains("revoke --issuing"), "{refused:?}");

    // A name that looks like an option.
    let refused = fleet.ca_daemon(&["issue", "--client", "--name=--dry-run"]);
    assert!(refused.code() == 2 && refused.stderr.contains("a letter or a digit first"), "{refused:?}");
    let refused = run(fleet.command("api-client").args(["enroll", "--name=--dry-run"]));
    assert!(refused.code() == 2 && refused.stderr.contains("a letter or a digit first"), "{refused:?}");
    let missed = revoke(&["--", "--dry-run"]);
    assert!(missed.code() == 3 && missed.stderr.contains("--dry-run"), "it is a name here: {missed:?}");
    let last = issue("last");
    let _ = revoke(&["--", "last"]).success();
    assert_eq!(status(&last), "revoked");
}

#[test]
fn the_authoritys_own_certificate_stays_unless_it_is_named() {
    let fleet = Fleet::new();
    let _ = fleet.ca_daemon(&["issue", "--client", "--name", "client_1"]).success();
    for arguments in [&["--dry-run"][..], &["--json"]] {
        let said = fleet.ca_daemon(&[&["revoke", "--issued-after", "1h"], arguments].concat()).success();
        assert!(said.stderr.contains("left out: the authority's own server certificate"), "{said:?}");
        assert!(said.stdout.contains("client_1") && !said.stdout.contains("\"127."), "{said:?}");
    }
    let client = ["https://", &format!("{}:8440", fleet.address())].concat();
    let answer =
        run(Command::new("curl").args(["-sS", "--cacert", "ca/root.crt", &client]).current_dir(fleet.directory()));
    assert!(answer.status.success(), "{answer:?}");
}
