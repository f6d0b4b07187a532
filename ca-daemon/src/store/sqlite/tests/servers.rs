//! The list of servers: what is in it, and when it is signed.

use pki::{crl::CrlNumber, profile::Profile};

use super::*;

#[tokio::test]
async fn a_revoked_server_is_in_its_list_at_once_and_a_client_never() {
    let fixture = Fixture::new().await;
    let authority = &fixture.authority;
    let (client, server) = (fixture.issue("client_1", 20).await, fixture.issue_as(Profile::Server, "web_1", 21).await);
    let revoke = async |serial| authority.revoke(&[serial], RevocationReason::KeyCompromise, now()).await.unwrap();
    assert_eq!(fixture.revoked_servers().await, (1, Vec::new()), "there from the founding on");
    revoke(client).await;
    assert_eq!(fixture.revoked_servers().await, (1, Vec::new()), "no client moves it");
    let revoked = revoke(server).await;
    assert_eq!(
        fixture.revoked_servers().await,
        (revoked.crl.get(), vec![server]),
        "with the number of its publication"
    );
    assert_eq!(fixture.published().await, (revoked.crl, vec![client, server]));
    // By the clock it is signed with every other CRL.
    let published = authority.publish(Issuer::Issuing, now()).await.unwrap();
    assert_eq!(fixture.revoked_servers().await, (published.head.number.get(), vec![server]));
}

/// It is signed at once, even if the complete CRL is coalesced.
#[tokio::test]
async fn a_revoked_server_does_not_wait_for_a_large_crl() {
    let fixture = Fixture::new().await;
    let (authority, store) = (&fixture.authority, fixture.authority.store());
    let server = fixture.issue_as(Profile::Server, "web_1", 21).await;
    fill(store, 10_001).await;
    authority.publish(Issuer::Issuing, now()).await.unwrap();
    assert_eq!(fixture.revoked_servers().await.1, Vec::new(), "ten thousand clients are not in it");
    let revoked = authority.revoke(&[server], RevocationReason::KeyCompromise, now()).await.unwrap();
    assert!(store.newest(Issuer::Issuing).await.unwrap().complete < revoked.crl);
    assert_eq!(fixture.revoked_servers().await, (revoked.crl.get(), vec![server]));
}

#[tokio::test]
async fn an_unknown_certificate_counts_as_a_server() {
    let fixture = Fixture::new().await;
    let authority = &fixture.authority;
    let (client, server) = (fixture.issue("client_1", 20).await, fixture.issue_as(Profile::Server, "web_1", 21).await);
    let unknown = Serial::from_random([22; 16]);
    let revoked = [client, server, unknown].map(|serial| pki::crl::RevokedEntry {
        serial,
        revoked_at: now(),
        reason: RevocationReason::KeyCompromise,
    });
    // As after a restore, from a CRL that this authority signed.
    let number = CrlNumber::new(now().unix() + 100).unwrap();
    let list = SignedList { issuer: Issuer::Issuing, number, base: None, revoked: revoked.to_vec() };
    authority.store().take_back(&[list], now().plus(Duration::from_hours(1))).await.unwrap();
    let published = authority.publish(Issuer::Issuing, now()).await.unwrap();
    assert_eq!(fixture.revoked_servers().await, (published.head.number.get(), vec![server, unknown]));
}

#[tokio::test]
async fn a_server_stays_in_the_list_until_one_was_published_after_its_end() {
    let fixture = Fixture::new().await;
    let authority = &fixture.authority;
    let server = fixture.issue_as(Profile::Server, "web_1", 21).await;
    authority.revoke(&[server], RevocationReason::Superseded, now()).await.unwrap();
    let beyond = now().plus(Duration::from_hours(49));
    authority.publish(Issuer::Issuing, beyond).await.unwrap();
    assert_eq!(fixture.revoked_servers().await.1, [server], "one list beyond its end");
    authority.publish(Issuer::Issuing, beyond.plus(Duration::from_hours(48))).await.unwrap();
    assert_eq!(fixture.revoked_servers().await.1, Vec::new());
}

#[tokio::test]
async fn triggers_prevent_lower_numbers() {
    let fixture = Fixture::new().await;
    let store = fixture.authority.store();
    fixture.authority.publish(Issuer::Issuing, now()).await.unwrap();
    for forbidden in [
        "UPDATE servers_lists SET number = number - 1",
        "DELETE FROM servers_lists",
        "INSERT OR REPLACE INTO servers_lists SELECT issuer, number, through, this_update, next_update, NULL, der FROM servers_lists",
        "INSERT INTO servers_lists VALUES ('root', 1, 0, 0, 1, NULL, x'')",
    ] {
        assert!(sqlx::query(forbidden).execute(&store.writer).await.is_err(), "{forbidden}");
    }
}

/// Revokes this many clients by SQL.
async fn fill(store: &Store, count: u32) {
    let certificates = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
        INSERT INTO certificates (serial, common_name, profile, spki_sha256, not_before, not_after, issued_at, der)
        SELECT unhex(printf('40%030x', n)), 'revoked', 'client', zeroblob(32), 0, 2000000000, 0, x'30' FROM numbers";
    let revocations = "INSERT INTO revocations (serial, revoked_at, reason, not_after)
        SELECT serial, 0, 0, not_after FROM certificates WHERE common_name = 'revoked' ORDER BY id";
    sqlx::query(certificates).bind(count).execute(&store.writer).await.unwrap();
    sqlx::query(revocations).execute(&store.writer).await.unwrap();
}
