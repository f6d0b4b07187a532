//! The authority's volume: kept over down and up, migrated, refused, lost.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use e2e::{Client, run, wait_until};
use serde_json::Value;

use crate::compose::{Fleet, docker, repository};

/// What has to stay: the root, everybody's certificates (without those that the authority makes for itself at each start), and the
/// CRL's number.
fn state(fleet: &Fleet) -> (Vec<u8>, Vec<Value>, i64) {
    let listed = fleet.ca_daemon(&["list", "--json"]).success().json();
    let others = listed.as_array().unwrap().iter().filter(|certificate| certificate["name"] != "localhost");
    let crl = fleet.directory.path().join("issuing.crl");
    fs::write(&crl, fleet.published("crl/issuing.crl")).unwrap();
    let said = run(Command::new("openssl").args(["crl", "-inform", "der", "-noout", "-crlnumber", "-in"]).arg(&crl));
    let number = said.success().stdout.trim().trim_start_matches("crlNumber=0x").to_owned();
    let number = i64::from_str_radix(&number, 16).unwrap_or_else(|error| panic!("{error}: {number}"));
    (fleet.published("ca/root.crt"), others.cloned().collect(), number)
}

pub(crate) fn down_and_up(fleet: &Fleet, client: &Client) {
    let (root, certificates, number) = state(fleet);
    assert!(certificates.len() >= 4, "three services and clients: {certificates:?}");
    let _ = fleet.compose(&["down"]).success();
    let _ = fleet.compose(&["up", "-d"]).success();
    fleet.wait_balanced();
    let after = state(fleet);
    assert_eq!((&after.0, &after.1), (&root, &certificates));
    assert!(after.2 >= number, "{} is lower than {number}", after.2);
    assert_eq!(client.request(30, &fleet.url()).success().json()["answered"], 30);

    let again = fleet.ca_daemon(&["init"]);
    assert_eq!(again.code(), 4, "{again:?}");
    assert!(again.stderr.contains("already holds an authority"), "{again:?}");
}

pub(crate) fn schemas(fleet: &Fleet, client: &Client) {
    let (root, certificates, number) = state(fleet);
    let id = fleet.id("ca");
    let database = fleet.directory.path().join("ca.db");
    let from_volume = || {
        let _ = fleet.compose(&["stop", "ca"]).success();
        let data = fleet.directory.path().join("data");
        let _ = docker(&["cp", &format!("{id}:/data"), data.to_str().unwrap()]).success();
        assert!(!data.join("ca.db-wal").exists(), "a daemon that was stopped leaves one file");
        fs::rename(data.join("ca.db"), &database).unwrap();
        fs::remove_dir_all(&data).unwrap();
    };
    let into_volume = |file: &Path| {
        // As a tar stream, because that is how an owner can be given to a file in a volume.
        let give = "tar --owner=65532 --group=65532 --mode=600 -C \"$1\" -cf - \"$2\" | docker cp - \"$3:/data\"";
        let (directory, name) = (file.parent().unwrap(), file.file_name().unwrap());
        let _ = run(Command::new("sh").args(["-c", give, "sh"]).arg(directory).arg(name).arg(&id)).success();
    };

    from_volume();
    let old = fleet.directory.path().join("old/ca.db");
    before_the_last_migration(&database, &old);
    into_volume(&old);
    let _ = fleet.compose(&["start", "ca"]).success();
    fleet.wait_healthy("ca");
    let after = state(fleet);
    assert_eq!((&after.0, &after.1), (&root, &certificates));
    assert!(after.2 >= number, "{} is lower than {number}", after.2);
    assert_eq!(client.request(3, &fleet.url()).success().json()["answered"], 3);

    from_volume();
    let steps = "INSERT INTO _sqlx_migrations VALUES (9999, 'later', '2030-01-01', 1, x'00', 1)";
    let kept = fs::read(&database).unwrap();
    sqlite3(&database, steps);
    into_volume(&database);
    let _ = fleet.compose(&["start", "ca"]);
    wait_until("the authority says why it does not start", || {
        fleet.log("ca").contains("was written by a newer release; use that release").then_some(())
    });
    let _ = fleet.compose(&["stop", "ca"]).success();
    fs::write(&database, kept).unwrap();
    into_volume(&database);
    let _ = fleet.compose(&["start", "ca"]).success();
    fleet.wait_healthy("ca");
}

/// Without the authority's volume, tokens of the authority are still there: another one is not founded in its place.
pub(crate) fn lost_volume(fleet: &Fleet) {
    let _ = fleet.compose(&["down"]).success();
    let _ = docker(&["volume", "rm", &format!("{}_ca", fleet.project)]).success();
    let _ = fleet.compose(&["up", "-d", "--no-deps", "ca"]).success();
    wait_until("the authority says why it does not start", || {
        fleet.log("ca").contains("restore the authority from a backup").then_some(())
    });
}

fn sqlite3(database: &Path, commands: &str) -> String {
    // The space is for comments in the first line, which would be taken for options.
    run(Command::new("sqlite3").arg("-bail").arg(database).arg(format!(" {commands}"))).success().stdout
}

/// Makes what `database` would have been before its last migration: the schema of all others, with the same rows.
fn before_the_last_migration(database: &Path, old: &Path) {
    let migrations = repository().join("migrations/sqlite");
    let mut files: Vec<_> = fs::read_dir(migrations).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 2, "{files:?}");
    files.pop();
    fs::create_dir(old.parent().unwrap()).unwrap();
    for file in files {
        sqlite3(old, &fs::read_to_string(file).unwrap());
    }
    let columns = |database: &Path, table: &str| -> Vec<String> {
        sqlite3(database, &format!("SELECT name FROM pragma_table_info('{table}')"))
            .lines()
            .map(str::to_owned)
            .collect()
    };
    let tables = sqlite3(old, "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'sqlite_sequence'");
    // Triggers would say in which order rows may come, and make rows that are copied as well.
    let of_triggers = |what| sqlite3(old, &format!("SELECT {what} || ';' FROM sqlite_master WHERE type = 'trigger'"));
    let (without, with) = (of_triggers("'DROP TRIGGER ' || name"), of_triggers("sql"));
    let mut copy = format!("ATTACH '{}' AS new; PRAGMA foreign_keys = OFF; BEGIN; {without}", database.display());
    for table in tables.lines() {
        let new = columns(database, table);
        // Of so few revocations, what lies around the pages is the whole list, as the column held it before.
        let renamed = |column: &str| if (table, column) == ("crls", "der") { "around" } else { column }.to_owned();
        let common = columns(old, table).into_iter().map(|column| (renamed(&column), column));
        let (source, common): (Vec<_>, Vec<_>) = common.filter(|(source, _)| new.contains(source)).unzip();
        let (common, source) = (common.join(", "), source.join(", "));
        // Some rows are made with the schema.
        let _ = write!(copy, "INSERT OR REPLACE INTO main.{table} ({common}) SELECT {source} FROM new.{table};");
    }
    copy.push_str(&with);
    copy.push_str("CREATE TABLE _sqlx_migrations AS SELECT * FROM new._sqlx_migrations;");
    copy.push_str("DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations); COMMIT;");
    sqlite3(old, &copy);
}
