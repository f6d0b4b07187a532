//! The behaviour that every backend must have, on a real file, and what the database itself refuses.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

use std::sync::Arc;

use pki::{
    certificate::CertificateInfo,
    crl::{CrlDraft, CrlNumber, DeltaDraft, EncodedEntries, RevocationReason, SignedCrl},
    issuing::IssuingError,
    serial::Serial,
    time::Timestamp,
};

use super::{crls::CrlSigner, *};
use crate::{
    authority::tests::{Fixture, now},
    issuer::Issuer,
};

mod clocks;
mod pages;
mod restored;
mod servers;
mod together;

/// Signs nothing: returns this many zeros, or an error.
struct Junk(Option<usize>);

impl Junk {
    fn sign(&self) -> Result<Vec<u8>, IssuingError> {
        self.0.map(|length| vec![0; length]).ok_or_else(|| IssuingError::KeyMismatch("whoever".to_owned()))
    }
}

impl CrlSigner for Junk {
    fn complete(&self, _: CrlDraft<EncodedEntries>) -> Result<SignedCrl, IssuingError> {
        Ok(SignedCrl { der: self.sign()?, entries: 0..0 })
    }

    fn delta(&self, _: &DeltaDraft) -> Result<Vec<u8>, IssuingError> {
        self.sign()
    }

    fn servers(&self, _: &CrlDraft) -> Result<Vec<u8>, IssuingError> {
        self.sign()
    }
}

fn period() -> Period {
    Period { this_update: now(), lifetime: Duration::from_hours(1) }
}

#[tokio::test]
async fn a_founded_authority_is_read_back() {
    let fixture = Fixture::new().await;
    let settings = fixture.authority.store().settings().await.unwrap();
    let plan = crate::authority::tests::plan();
    assert_eq!(settings.organization, plan.organization);
    assert_eq!(settings.hosts, plan.hosts);
    assert_eq!(settings.crl_lifetime, plan.crl_lifetime);
    assert_eq!(settings.trust_domain, plan.trust_domain);
    let mode = std::fs::metadata(fixture.directory.database()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn certificates_are_found_by_each_filter() {
    let fixture = Fixture::new().await;
    let store = fixture.authority.store();
    let one = fixture.issue("client_1", 20).await;
    let two = fixture.issue("client_2", 21).await;
    let _ = fixture.issue("web.1", 22).await;
    fixture.authority.revoke(&[two], RevocationReason::Unspecified, now()).await.unwrap();

    let names = async |filter: Filter, at: Timestamp| {
        let records = store.list(&filter, at).await.unwrap();
        records.into_iter().map(|record| record.common_name).collect::<Vec<_>>()
    };
    let hours = |hours| now().plus(Duration::from_hours(hours));
    let clients = || Filter { name: Some("client_*".parse().unwrap()), ..Filter::default() };
    let of_status = |status| Filter { status: Some(status), ..Filter::default() };
    assert_eq!(names(Filter::default(), now()).await, ["client_1", "client_2", "web.1"]);
    assert_eq!(names(clients(), now()).await, ["client_1", "client_2"]);
    assert_eq!(names(of_status(Wanted::Valid), now()).await, ["client_1", "web.1"]);
    assert_eq!(names(of_status(Wanted::Revoked), hours(100)).await, ["client_2"]);
    assert_eq!(names(of_status(Wanted::Expired), hours(100)).await, ["client_1", "web.1"]);
    let expiring = |by| Filter { expiring_by: Some(by), ..Filter::default() };
    assert_eq!(names(expiring(hours(47)), now()).await, [""; 0]);
    assert_eq!(names(expiring(hours(48)), now()).await, ["client_1", "web.1"]);
    assert_eq!(names(expiring(hours(200)), hours(100)).await, [""; 0], "what has expired is not about to");

    assert_eq!(store.by_serial(&one, now()).await.unwrap().unwrap().status, Status::Valid);
    assert_eq!(store.by_serial(&one, hours(100)).await.unwrap().unwrap().status, Status::Expired);
    assert_eq!(store.tallies().await.unwrap(), Tallies { client: 3, server: 0, revoked: 1 });
}

#[tokio::test]
async fn a_listing_is_complete_at_any_length_and_by_any_index() {
    let fixture = Fixture::new().await;
    let store = fixture.authority.store();
    let first = fixture.issue("client_1", 20).await;
    let sql = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 5000)
               INSERT INTO certificates (serial, common_name, profile, spki_sha256, not_before, not_after, issued_at, der)
               SELECT unhex(printf('40%030x', n)), iif(n % 2, 'odd_' || (n % 7), 'even'), profile, spki_sha256, not_before,
                      not_after, issued_at, der
               FROM numbers, certificates WHERE id = 1";
    sqlx::query(sql).execute(&store.writer).await.unwrap();
    revoke_many(store, 2_000).await;
    let count = async |filter: Filter| {
        let records = store.list(&filter, now()).await.unwrap();
        let serials: Vec<_> = records.iter().map(|record| record.serial).collect();
        assert!(serials.iter().skip(1).is_sorted(), "oldest first");
        (records.len(), serials.first() == Some(&first))
    };
    let named = |name: &str| Filter { name: Some(name.parse().unwrap()), ..Filter::default() };
    let revoked = |filter: Filter| Filter { status: Some(Wanted::Revoked), ..filter };
    assert_eq!(count(Filter::default()).await, (5_001, true));
    assert_eq!(count(named("*")).await, (5_001, true));
    assert_eq!(count(named("even")).await, (2_500, false));
    assert_eq!(count(named("od*_*")).await, (2_500, false));
    assert_eq!(count(named("*_1")).await, (359, true), "the first, and each fourteenth");
    assert_eq!(count(Filter { status: Some(Wanted::Valid), ..Filter::default() }).await, (3_001, true));
    assert_eq!(count(revoked(Filter::default())).await, (2_000, false));
    assert_eq!(count(revoked(named("even"))).await, (1_000, false));
    // More than are kept as ids.
    let expiring = Filter { expiring_by: Some(now().plus(Duration::from_hours(1_000_000))), ..Filter::default() };
    assert_eq!(count(expiring).await, (3_001, true));
}

#[tokio::test]
async fn triggers_prevent_that_revocations_are_lost() {
    let fixture = Fixture::new().await;
    let store = fixture.authority.store();
    let serial = fixture.issue("client_1", 20).await;
    fixture.authority.revoke(&[serial], RevocationReason::KeyCompromise, now()).await.unwrap();
    for forbidden in [
        "UPDATE certificates SET not_after = 0",
        "DELETE FROM certificates",
        "UPDATE revocations SET reason = 0",
        "DELETE FROM revocations",
        "INSERT INTO revocations VALUES (0, x'40', 0, 0, 9999999999)",
        "UPDATE crls SET number = number - 1",
        "UPDATE crls SET around = x'00'",
        "DELETE FROM crls",
        "INSERT OR REPLACE INTO crls SELECT issuer, 1, this_update, next_update, NULL, around, 0, 0 FROM crls",
        "UPDATE deltas SET number = number - 1",
        "UPDATE deltas SET der = x'00'",
        "DELETE FROM deltas",
        "UPDATE crl_sequences SET last_number = 0",
        "DELETE FROM crl_sequences",
        "UPDATE tokens SET used = uses + 1",
        "DELETE FROM compromised_keys",
        "UPDATE compromised_keys SET at = 0",
    ] {
        assert!(sqlx::query(forbidden).execute(&store.writer).await.is_err(), "{forbidden}");
    }
    assert!(sqlx::query("DELETE FROM authority").execute(&store.reader).await.is_err(), "readers only read");
}

#[tokio::test]
async fn a_signature_that_fails_leaves_nothing_behind() {
    let fixture = Fixture::new().await;
    let store = fixture.authority.store();
    let serial = fixture.issue("client_1", 20).await;
    let before = store.crl_head(Issuer::Issuing).await.unwrap();
    let failing = Arc::new(Junk(None));
    let result = store
        .revoke(Target { serials: &[serial], ..Target::default() }, RevocationReason::Unspecified, period(), failing)
        .await;
    assert!(matches!(result, Err(StoreError::Signing(_))));
    assert_eq!(store.crl_head(Issuer::Issuing).await.unwrap(), before);
    assert_eq!(store.by_serial(&serial, now()).await.unwrap().unwrap().status, Status::Valid);
}

#[tokio::test]
async fn two_processes_see_each_others_commits() {
    let fixture = Fixture::new().await;
    let other = Store::open(&fixture.directory.database()).await.unwrap();
    let serial = fixture.issue("client_1", 20).await;
    assert!(other.by_serial(&serial, now()).await.unwrap().is_some());
    other.publish(Issuer::Root, period(), Arc::new(Junk(Some(1)))).await.unwrap();
    assert_eq!(fixture.authority.store().crl(Issuer::Root).await.unwrap().der, [0]);
}

#[tokio::test]
async fn a_file_that_is_not_our_database_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &[u8]| -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    };
    let missing = Store::open(&directory.path().join("nothing.db")).await.unwrap_err();
    assert!(missing.to_string().contains("run: ca-daemon init"), "{missing}");
    assert!(!directory.path().join("nothing.db").exists());
    let junk = Store::open(&file("junk.db", &[b'x'; 8192])).await.unwrap_err();
    assert!(matches!(junk, StoreError::NotADatabase(_)), "{junk}");
    let empty = Store::open(&file("empty.db", b"")).await.unwrap();
    assert!(matches!(empty.settings().await, Err(StoreError::NoAuthority)));

    let later = "INSERT INTO _sqlx_migrations
                 SELECT 9999, 'later', installed_on, success, checksum, execution_time FROM _sqlx_migrations
                 WHERE version = 1";
    sqlx::query(later).execute(&empty.writer).await.unwrap();
    let newer = Store::open(&directory.path().join("empty.db")).await.unwrap_err();
    assert!(newer.to_string().contains("written by a newer release"), "{newer}");
}

#[tokio::test]
async fn a_full_disk_is_reported_and_nothing_is_half_written() {
    let fixture = Fixture::new().await;
    let store = fixture.authority.store();
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&store.writer).await.unwrap();
    // The smallest limit that SQLite accepts is the present size, so the next page does not fit.
    sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"))).execute(&store.writer).await.unwrap();
    let before = store.tallies().await.unwrap();
    let mut last = Ok(());
    for _ in 0..200 {
        last = store.publish(Issuer::Issuing, period(), Arc::new(Junk(Some(1 << 20)))).await.map(drop);
        if last.is_err() {
            break;
        }
    }
    assert!(matches!(last, Err(StoreError::Full)), "{last:?}");
    assert_eq!(store.tallies().await.unwrap(), before);
    assert_eq!(store.crl_head(Issuer::Issuing).await.unwrap().number, pki::crl::CrlNumber::FIRST);
}

/// Many revocations of certificates that do not exist, inserted by SQL.
async fn revoke_many(store: &Store, count: u32) {
    let sql = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)
               INSERT INTO revocations (serial, revoked_at, reason, not_after)
               SELECT unhex(printf('40%030x', n)), ?2, 0, ?2 + 1000000 FROM numbers";
    sqlx::query("PRAGMA foreign_keys = OFF").execute(&store.writer).await.unwrap();
    sqlx::query(sql).bind(count).bind(now().unix()).execute(&store.writer).await.unwrap();
    sqlx::query("PRAGMA foreign_keys = ON").execute(&store.writer).await.unwrap();
}

#[tokio::test]
async fn a_large_complete_crl_is_signed_once_for_several_revocations() {
    let fixture = Fixture::new().await;
    let (authority, store) = (&fixture.authority, fixture.authority.store());
    let (first, second) = (fixture.issue("client_1", 20).await, fixture.issue("client_2", 21).await);
    let newest = async || {
        let newest = store.newest(Issuer::Issuing).await.unwrap();
        (newest.number.get(), newest.complete.get())
    };
    let number = now().unix();
    assert_eq!(newest().await, (1, 1));
    revoke_many(store, 10_000).await;
    authority.publish(Issuer::Issuing, now()).await.unwrap();
    assert_eq!(newest().await, (number, number));
    authority.revoke(&[first], RevocationReason::Unspecified, now()).await.unwrap();
    assert_eq!(newest().await, (number + 1, number), "the delta only");
    assert_eq!(
        fixture.delta().await,
        (number, number + 1, vec![first]),
        "moved on to a base that has the ten thousand"
    );
    let revoked = authority.revoke(&[second], RevocationReason::Unspecified, now()).await.unwrap();
    assert_eq!((revoked.crl.get(), newest().await), (number + 2, (number + 2, number)));
    assert_eq!(fixture.delta().await, (number, number + 2, vec![first, second]), "cumulative since the base");
    let complete = authority.publish(Issuer::Issuing, now()).await.unwrap();
    assert_eq!((complete.head.number.get(), newest().await), (number + 3, (number + 3, number + 3)));
    assert_eq!(fixture.published().await.1.len(), 10_002);
}

#[tokio::test]
async fn a_commit_is_on_the_disk() {
    let fixture = Fixture::new().await;
    let full: i64 =
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&fixture.authority.store().writer).await.unwrap();
    assert_eq!(full, 2, "FULL: in WAL mode, NORMAL loses what was committed when the power fails");
}

/// An instance that connected once.
fn relying_party(name: &str, octet: u8, crl_number: i64) -> RelyingParty {
    RelyingParty {
        name: name.to_owned(),
        serial: Serial::from_random([1; 16]),
        instance: format!("{octet:032x}").parse().unwrap(),
        address: "127.0.0.1:1".to_owned(),
        crl_number: CrlNumber::new(crl_number),
        root_crl_number: None,
        claims: None,
        admits_until: Some(now()),
        grace: 7,
        open_connections: 3,
        first_seen: now(),
        connected_since: None,
        last_seen: now(),
        certificate_revoked: false,
    }
}

#[tokio::test]
async fn relying_parties_are_stored_until_they_are_removed() {
    let fixture = Fixture::new().await;
    let store = fixture.authority.store();
    let (a, b) = (relying_party("a", 1, 1), relying_party("b", 2, 1));
    store.record_relying_parties(&[b.clone(), a.clone()], &[]).await.unwrap();
    let b = RelyingParty { claims: CrlNumber::new(7), ..relying_party("b", 2, 2) };
    store.record_relying_parties(std::slice::from_ref(&b), &[]).await.unwrap();
    assert_eq!(store.relying_parties().await.unwrap(), [a.clone(), b.clone()]);
    let parties = [a.clone(), b.clone(), RelyingParty { crl_number: None, ..relying_party("c", 3, 1) }];
    assert_eq!(store.lags(&parties).await.unwrap(), [0, 0, 1]);
    for hours in [9, 18] {
        fixture.authority.publish(Issuer::Issuing, now().plus(Duration::from_hours(hours))).await.unwrap();
    }
    assert_eq!(store.lags(&parties).await.unwrap(), [2, 2, 3], "CRLs, not differences of numbers");
    // One that reconnects while it is being removed stays.
    store.record_relying_parties(std::slice::from_ref(&b), &[a.key(), b.key(), a.key()]).await.unwrap();
    assert_eq!(store.relying_parties().await.unwrap(), [b]);
}

#[tokio::test]
async fn relying_parties_from_before_there_were_instances_are_still_expected() {
    let fixture = Fixture::new().await;
    let writer = &fixture.authority.store().writer;
    for step in [
        "DROP TABLE relying_parties",
        "DROP INDEX certificates_of_servers",
        "CREATE TABLE relying_parties (name TEXT PRIMARY KEY, serial BLOB NOT NULL, address TEXT NOT NULL, crl_number INTEGER,
             root_crl_number INTEGER, admits_until INTEGER, open_connections INTEGER NOT NULL, first_seen INTEGER NOT NULL,
             connected_since INTEGER, last_seen INTEGER NOT NULL, grace INTEGER NOT NULL DEFAULT 0) STRICT",
        "INSERT INTO relying_parties VALUES ('a', x'0102', '10.0.0.1:1', 1, 7, 9, 3, 4, 5, 6, 60)",
        "DELETE FROM _sqlx_migrations WHERE version = 8",
    ] {
        sqlx::query(step).execute(writer).await.unwrap();
    }
    let migrated = crate::authority::Authority::open(&fixture.directory).await.unwrap();
    let parties = migrated.store().relying_parties().await.unwrap();
    let [party] = parties.as_slice() else { panic!("{parties:?}") };
    assert_eq!((party.name.as_str(), party.instance.to_string().as_str()), ("a", "00000000000000000000000000000102"));
    let numbers = (party.crl_number, party.root_crl_number);
    assert_eq!(numbers, (CrlNumber::new(1), None), "the root never gave a seven");
    assert_eq!((party.admits_until, party.grace), (Some(Timestamp::from_unix(9)), 60));
}

#[tokio::test]
async fn holders_of_server_certificates_are_found_by_an_index() {
    let fixture = Fixture::new().await;
    let query = "EXPLAIN QUERY PLAN SELECT c.serial FROM certificates c INDEXED BY certificates_of_servers
                 WHERE c.profile = 'server' AND c.not_after >= 1";
    let plan: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(query).fetch_all(&fixture.authority.store().reader).await.unwrap();
    assert!(plan[0].3.contains("SEARCH c USING INDEX certificates_of_servers"), "{plan:?}");
    assert!(fixture.authority.store().unknown_holders(now()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_look_out_notices_what_others_commit() {
    let fixture = Fixture::new().await;
    let mut look_out = fixture.authority.store().look_out().await.unwrap();
    look_out.has_changed().await.unwrap();
    assert!(!look_out.has_changed().await.unwrap());
    let _ = fixture.issue("client_1", 20).await;
    assert!(look_out.has_changed().await.unwrap());
    assert!(!look_out.has_changed().await.unwrap());
}

impl Store {
    /// As `sqlite3 FILE ".backup COPY"` does.
    pub(crate) async fn copy(&self, to: &std::path::Path) {
        sqlx::query("VACUUM INTO ?").bind(to.to_str().unwrap()).execute(&self.writer).await.unwrap();
    }
}

#[tokio::test]
async fn a_database_from_before_the_deltas_goes_on() {
    let fixture = Fixture::new().await;
    let serial = fixture.issue("client_1", 20).await;
    let store = fixture.authority.store();
    fixture.authority.revoke(&[serial], RevocationReason::KeyCompromise, now()).await.unwrap();
    let der = store.by_serial(&serial, now()).await.unwrap().unwrap().der;
    let key = CertificateInfo::from_der(&der).unwrap().spki_sha256;
    for step in [
        "DROP TABLE renewal_orders",
        "DROP TABLE successions",
        "DROP TRIGGER revoked_servers_are_noted",
        "DROP TABLE servers_lists",
        "DROP TABLE revoked_servers",
        "DROP TRIGGER revocations_compromise_keys",
        "DROP TRIGGER certificates_compromise_keys",
        "DROP TABLE compromised_keys",
        "ALTER TABLE certificates DROP COLUMN adopted_at",
        "ALTER TABLE crls DROP COLUMN size",
        "ALTER TABLE crls DROP COLUMN sha256",
        "DROP TRIGGER revocations_are_appended",
        "DROP TABLE crl_pages",
        "ALTER TABLE crls DROP COLUMN pages",
        "ALTER TABLE crls DROP COLUMN pages_at",
        "ALTER TABLE crls RENAME COLUMN around TO der",
        "DROP TABLE crl_sequences",
        "DROP TABLE deltas",
        "DROP TABLE relying_parties",
        "DROP INDEX certificates_of_servers",
        "DROP TABLE crl_numbers",
        "DROP TABLE revoked_authorities",
        "DROP INDEX certificates_by_name",
        "DROP INDEX certificates_by_token",
        "CREATE INDEX certificates_by_name ON certificates (common_name)",
        "CREATE INDEX certificates_by_enrollment ON certificates (token_id, spki_sha256)",
        "DELETE FROM _sqlx_migrations WHERE version >= 2",
    ] {
        sqlx::query(step).execute(&store.writer).await.unwrap();
    }
    let migrated = crate::authority::Authority::open(&fixture.directory).await.unwrap();
    assert_eq!(migrated.store().uncertifiable(key).await.unwrap(), Some(Uncertifiable::Key { at: now() }));
    let number = now().unix();
    assert_eq!(migrated.store().newest(Issuer::Issuing).await.unwrap().number.get(), number);
    assert!(migrated.store().head(Issuer::Issuing, crate::issuer::CrlKind::Delta).await.unwrap().is_none());
    assert!(migrated.store().head(Issuer::Issuing, crate::issuer::CrlKind::Servers).await.unwrap().is_none());
    crate::daemon::tasks::publish_due(&migrated, crate::daemon::tasks::Contact::Starting, now()).await.unwrap();
    assert_eq!(fixture.revoked_servers().await, (number + 1, Vec::new()));
    assert_eq!(fixture.delta().await, (number, number + 1, Vec::new()));
}
