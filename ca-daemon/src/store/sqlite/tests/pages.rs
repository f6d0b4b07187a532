//! A complete CRL from pages matches the rows, entry by entry, after additions, ends and publications by other
//! processes.

use pki::{
    certificate::CertificateInfo,
    crl::{CrlIssuer, EncodedEntries, RevokedEntry, VerifiedCrl},
};

use super::*;
use crate::authority::Authority;

/// Revokes this many certificates, for every reason. They end one after the other over the next two days.
async fn revoke_more(store: &Store, count: u32) {
    let sql = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1),
                              known (last) AS (SELECT coalesce(max(id), 0) FROM revocations)
               INSERT INTO revocations (serial, revoked_at, reason, not_after)
               SELECT unhex(printf('40%030x', last + n)), ?2 - n, n % 6, ?2 + 3600 * (1 + n % 48) FROM numbers, known";
    sqlx::query(sql).bind(count).bind(now().unix()).execute(&store.writer).await.unwrap();
}

fn hours(hours: u64) -> Timestamp {
    now().plus(Duration::from_hours(hours))
}

/// The entries by the rows.
async fn rows(store: &Store, ended_after: Timestamp) -> Vec<RevokedEntry> {
    let rows = sqlx::query("SELECT * FROM revocations WHERE not_after >= ? ORDER BY id").bind(ended_after.unix());
    let entry = |row: &SqliteRow| RevokedEntry {
        serial: records::serial(row).unwrap(),
        revoked_at: records::time(row, "revoked_at").unwrap(),
        reason: records::reason(row).unwrap(),
    };
    rows.fetch_all(&store.reader).await.unwrap().iter().map(entry).collect()
}

/// Publishes, compares the CRL with the rows, and returns the number of entries.
async fn publish(authority: &Authority, at: Timestamp) -> usize {
    let store = authority.store();
    let previous = store.crl_head(Issuer::Issuing).await.unwrap();
    let published = authority.publish(Issuer::Issuing, at).await.unwrap();
    let read = store.crl(Issuer::Issuing).await.unwrap();
    assert_eq!(published, read);
    let lifetime = authority.settings().crl_lifetime(Issuer::Issuing);
    let expected = rows(store, at.minus(lifetime).min(previous.this_update)).await;
    let issuer = CertificateInfo::from_der(authority.certificate(Issuer::Issuing)).unwrap();
    let verified = VerifiedCrl::verify(&read.der, &CrlIssuer::from_certificate(&issuer).unwrap()).unwrap();
    assert_eq!(verified.count(), expected.len());
    assert!(verified.serials().eq(expected.iter().map(|entry| entry.serial)));
    let encoded: EncodedEntries = expected.iter().copied().collect();
    let encoded = encoded.as_der();
    assert!(read.der.windows(encoded.len().max(1)).any(|octets| octets.starts_with(encoded)), "dates and reasons");
    expected.len()
}

async fn pages(store: &Store) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM crl_pages").fetch_one(&store.reader).await.unwrap()
}

#[tokio::test]
async fn a_list_grows_over_the_ends_of_pages() {
    let fixture = Fixture::new().await;
    let (authority, store) = (&fixture.authority, fixture.authority.store());
    assert_eq!(publish(authority, now()).await, 0);
    let mut total = 0;
    // From the sixth on, the CRL is large enough to be signed outside of the transaction.
    for (more, expected) in [(1, 0), (1022, 0), (1, 1), (1, 1), (3_000, 3), (7_000, 10), (1, 10), (0, 10)] {
        if more > 0 {
            revoke_more(store, more).await;
        }
        total += usize::try_from(more).unwrap();
        assert_eq!((publish(authority, now()).await, pages(store).await), (total, expected));
    }
    let inline: i64 = sqlx::query_scalar("SELECT length(around) FROM crls WHERE issuer = 'issuing'")
        .fetch_one(&store.reader)
        .await
        .unwrap();
    assert!(inline < 100 * 1024, "{inline} bytes outside of the pages");
}

#[tokio::test]
async fn ended_certificates_leave_the_crl_and_return_if_the_clock_was_wrong() {
    let fixture = Fixture::new().await;
    let (authority, store) = (&fixture.authority, fixture.authority.store());
    for (first, more) in [(2_500, 0), (0, 9_000)] {
        revoke_more(store, first + more).await;
        let all = publish(authority, now()).await;
        // An entry stays until one CRL was issued after its certificate had ended.
        assert_eq!(publish(authority, hours(30)).await, all);
        let some = publish(authority, hours(50)).await;
        assert!(0 < some && some < all, "{some} of {all}");
        assert_eq!(publish(authority, hours(1000)).await, 0);
        assert_eq!(publish(authority, hours(1001)).await, 0);
        assert_eq!(publish(authority, now()).await, all, "the clock was ahead");
        assert_eq!(publish(authority, hours(1)).await, all);
    }
}

#[tokio::test]
async fn a_copy_continues_with_its_own_pages() {
    let fixture = Fixture::new().await;
    let copy = fixture.directory.database().with_file_name("copy.db");
    revoke_more(fixture.authority.store(), 12_000).await;
    publish(&fixture.authority, now()).await;
    fixture.copy_database(&copy).await;
    revoke_more(fixture.authority.store(), 3_000).await;
    assert_eq!(publish(&fixture.authority, now()).await, 15_000);
    let restored = fixture.restored_from(&copy).await;
    assert_eq!(restored.published().await.1.len(), 12_000);
    revoke_more(restored.authority.store(), 1_000).await;
    assert_eq!(publish(&restored.authority, hours(40)).await, 13_000);
}

#[tokio::test]
async fn two_processes_that_publish_at_once_do_not_mix_their_pages() {
    let fixture = Fixture::new().await;
    let (authority, store) = (&fixture.authority, fixture.authority.store());
    revoke_more(store, 12_000).await;
    let other = Authority::open(&fixture.directory).await.unwrap();
    for hour in 0..4 {
        let (one, two) = tokio::join!(
            authority.publish(Issuer::Issuing, hours(30 + hour)),
            // By a clock that is ahead, so that other certificates have ended.
            other.publish(Issuer::Issuing, hours(30 + 3 * hour)),
        );
        let last = one.unwrap().head.number.max(two.unwrap().head.number);
        assert_eq!(fixture.published().await.0, last);
        revoke_more(store, 500).await;
    }
    publish(authority, hours(31)).await;
}

#[tokio::test]
async fn a_missing_page_is_an_error() {
    let fixture = Fixture::new().await;
    let (authority, store) = (&fixture.authority, fixture.authority.store());
    revoke_more(store, 5_000).await;
    publish(authority, now()).await;
    for lost in [0, 3] {
        sqlx::query("DELETE FROM crl_pages WHERE page = ?").bind(lost).execute(&store.writer).await.unwrap();
        assert!(matches!(store.crl(Issuer::Issuing).await, Err(StoreError::Damaged { .. })));
        assert_eq!(publish(authority, now()).await, 5_000, "it is made again");
    }
}
