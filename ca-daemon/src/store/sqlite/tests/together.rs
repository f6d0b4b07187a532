//! Enrollments that share a transaction: none harms another, and each gets an answer.

use pki::{key::KeyPair, profile::Profile, token::Secret};
use tokio::task::{JoinHandle, yield_now};

use super::*;
use crate::authority::{EnrollError, tests::request};

/// A client that enrolls.
struct Enrolling<'a> {
    secret: &'a Secret,
    key: KeyPair,
    serial: u8,
}

impl<'a> Enrolling<'a> {
    fn new(secret: &'a Secret, serial: u8) -> Self {
        Self { secret, key: KeyPair::generate().unwrap(), serial }
    }

    fn start(&self, fixture: &Fixture) -> JoinHandle<Result<Vec<u8>, EnrollError>> {
        let (authority, secret) = (Arc::clone(&fixture.authority), self.secret.clone());
        let csr = request(&self.key, "client_1", Vec::new());
        let serial = Serial::from_random([self.serial; 16]);
        tokio::spawn(async move {
            let chain = authority.enroll(&secret, Profile::Client, &csr, serial, now()).await?;
            Ok(chain[0].to_vec())
        })
    }
}

/// The results, in the same order, if all of them wait for the same transaction.
async fn enroll_together(fixture: &Fixture, clients: &[Enrolling<'_>]) -> Vec<Result<Vec<u8>, EnrollError>> {
    let store = fixture.authority.store();
    let writing = store.begin().await.unwrap();
    let tasks: Vec<_> = clients.iter().map(|client| client.start(fixture)).collect();
    // The first one has left the queue and waits for the writer.
    while store.enrollments.len() + 1 < clients.len() {
        yield_now().await;
    }
    drop(writing);
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

fn reason(outcome: &Result<Vec<u8>, EnrollError>) -> &'static str {
    match outcome {
        Ok(_) => "enrolled",
        Err(EnrollError::Denied(denied)) => denied.why.reason(),
        Err(EnrollError::Store(StoreError::Together(error))) if matches!(**error, StoreError::Full) => "full",
        Err(EnrollError::Store(_)) => "failed",
        Err(EnrollError::Issuing(_)) => "not signed",
    }
}

async fn used(fixture: &Fixture, secret: &Secret) -> u32 {
    fixture.authority.store().token(&secret.hash().id()).await.unwrap().unwrap().uses.used
}

#[tokio::test]
async fn a_token_gives_as_many_certificates_as_it_has_uses() {
    let fixture = Fixture::new().await;
    let secret = fixture.client_token(10).await;
    let before = fixture.authority.store().tallies().await.unwrap().client;
    let clients: Vec<_> = (10..74).map(|serial| Enrolling::new(&secret, serial)).collect();
    let outcomes = enroll_together(&fixture, &clients).await;
    let enrolled = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!((enrolled, used(&fixture, &secret).await), (10, 10));
    assert!(outcomes.iter().all(|outcome| ["enrolled", "token-used-up"].contains(&reason(outcome))), "{outcomes:?}");
    assert_eq!(fixture.authority.store().tallies().await.unwrap().client - before, 10);
}

#[tokio::test]
async fn a_refused_enrollment_does_not_affect_others() {
    let fixture = Fixture::new().await;
    let secret = fixture.single_use_token().await;
    let several = &fixture.bootstrap;
    let (once, twice) = (Enrolling::new(&secret, 10), Enrolling::new(&secret, 11));
    let good = Enrolling::new(several, 12);
    // The same request again before the first is answered, with another serial number.
    let again = Enrolling { serial: 13, key: KeyPair::from_pem(good.key.to_pem()).unwrap(), ..good };
    // A serial number that exists already, which the table refuses.
    let _ = fixture.issue("client_2", 14).await;
    let (collides, last) = (Enrolling::new(several, 14), Enrolling::new(several, 15));
    let outcomes = enroll_together(&fixture, &[once, twice, good, again, collides, last]).await;
    let mut reasons: Vec<_> = outcomes.iter().map(reason).collect();
    // Which of these two came first is not known.
    reasons[..2].sort_unstable();
    assert_eq!(reasons, ["enrolled", "token-used-up", "enrolled", "enrolled", "failed", "enrolled"]);
    assert_eq!(outcomes[2].as_ref().unwrap(), outcomes[3].as_ref().unwrap());
    assert_eq!((used(&fixture, &secret).await, used(&fixture, several).await), (1, 2));
}

#[tokio::test]
async fn a_failed_commit_enrolls_nothing() {
    let fixture = Fixture::new().await;
    let secret = fixture.client_token(100).await;
    let store = fixture.authority.store();
    let limit = async |pages: i64| {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        sqlx::query(sqlx::AssertSqlSafe(pragma)).execute(&store.writer).await.unwrap();
    };
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&store.writer).await.unwrap();
    limit(pages).await;
    let clients: Vec<_> = (10..60).map(|serial| Enrolling::new(&secret, serial)).collect();
    let before = store.tallies().await.unwrap();
    let outcomes = enroll_together(&fixture, &clients).await;
    assert!(outcomes.iter().all(|outcome| reason(outcome) == "full"), "{outcomes:?}");
    assert_eq!((store.tallies().await.unwrap(), used(&fixture, &secret).await), (before, 0));
    limit(1_000_000).await;
    let outcomes = enroll_together(&fixture, &clients).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(used(&fixture, &secret).await, 50);
}

#[tokio::test]
async fn an_enrollment_of_a_disconnected_client_is_not_recorded() {
    let fixture = Fixture::new().await;
    let secret = fixture.client_token(5).await;
    let store = fixture.authority.store();
    let clients: Vec<_> = (10..13).map(|serial| Enrolling::new(&secret, serial)).collect();
    let writing = store.begin().await.unwrap();
    let tasks: Vec<_> = clients.iter().map(|client| client.start(&fixture)).collect();
    while store.enrollments.len() < 2 {
        yield_now().await;
    }
    for task in &tasks[..2] {
        task.abort();
    }
    let [first, second, third] = tasks.try_into().unwrap();
    assert!(first.await.is_err() && second.await.is_err());
    drop(writing);
    third.await.unwrap().unwrap();
    assert_eq!(used(&fixture, &secret).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_write_while_enrollments_never_end() {
    let fixture = Fixture::new().await;
    let secret = fixture.client_token(u32::MAX).await;
    let load: Vec<_> = (0..8)
        .map(|client| {
            let (authority, secret) = (Arc::clone(&fixture.authority), secret.clone());
            tokio::spawn(async move {
                for number in 0u64.. {
                    let csr = request(&KeyPair::generate().unwrap(), "client_1", Vec::new());
                    let mut serial = [client; 16];
                    serial[8..].copy_from_slice(&number.to_be_bytes());
                    let serial = Serial::from_random(serial);
                    authority.enroll(&secret, Profile::Client, &csr, serial, now()).await.unwrap();
                }
            })
        })
        .collect();
    // From the same process, and from another one.
    let other = Store::open(&fixture.directory.database()).await.unwrap();
    for serial in 100..110 {
        let serial = fixture.issue("client_2", serial).await;
        let revoked = fixture.authority.revoke(&[serial], RevocationReason::Unspecified, now()).await.unwrap();
        assert_eq!(revoked.outcomes.len(), 1);
        other.publish(Issuer::Issuing, period(), Arc::new(Junk(Some(1)))).await.unwrap();
    }
    assert!(load.iter().all(|task| !task.is_finished()));
    for task in load {
        task.abort();
    }
}
