//! What ends permanently: compromised keys, tokens that are revoked with their certificates, a revoked issuing CA.

use super::*;
use crate::{
    daemon::tasks,
    store::{Filter, Live, Wanted, WithTokens},
};

async fn revoke(fixture: &Fixture, serial: Serial, reason: RevocationReason) -> Revocation {
    fixture.authority.revoke(&[serial], reason, now()).await.unwrap().outcomes[0].1
}

fn order_for(key: &KeyPair, name: &str) -> OperatorOrder {
    OperatorOrder {
        profile: Profile::Client,
        subject: name.parse().unwrap(),
        organization: None,
        hosts: Vec::new(),
        public_key: PublicKey::from_spki(&key.spki()).unwrap(),
        lifetime: Duration::from_hours(48),
    }
}

#[tokio::test]
async fn a_compromised_key_is_never_certified_again() {
    let fixture = Fixture::new().await;
    let secret = fixture.client_token(3).await;
    let key = key();
    let csr = |name| request(&key, name, Vec::new());
    let [csr_1, csr_2, csr_3] = ["client_1", "client_2", "client_3"].map(csr);
    let first = fixture.enroll(&secret, &csr_1, 10, now()).await.unwrap();
    let second = fixture.enroll(&secret, &csr_2, 11, now()).await.unwrap();
    assert_eq!(fixture.enroll(&secret, &csr_2, 12, now()).await.unwrap(), second, "a lost answer");

    let with_same_key = async |serial| fixture.authority.store().valid_with_keys_of(&[serial], now(), 9).await.unwrap();
    assert_eq!(with_same_key(first).await, [], "it is not known to be compromised");
    revoke(&fixture, first, RevocationReason::KeyCompromise).await;
    assert_eq!(with_same_key(first).await, [(second, "client_2".to_owned())], "what is still to be revoked");
    assert_eq!(with_same_key(fixture.issue("client_5", 16).await).await, []);
    let denied = async |secret, csr, at| reason(fixture.enroll(secret, csr, 13, at).await);
    assert_eq!(denied(&secret, &csr_1, now()).await, "key-compromised", "the token has a use left");
    assert_eq!(denied(&secret, &csr_2, now()).await, "key-compromised", "not even what it has already");
    assert_eq!(denied(&secret, &csr_3, now()).await, "key-compromised", "under no name");
    assert_eq!(denied(&fixture.bootstrap, &csr_1, now()).await, "key-compromised", "with no token");
    let much_later = now().plus(Duration::from_hours(5));
    assert_eq!(denied(&secret, &csr_2, much_later).await, "key-compromised", "when the token has expired, too");
    let ordered = fixture.authority.issue(order_for(&key, "client_4"), Serial::from_random([14; 16]), now()).await;
    assert!(matches!(ordered, Err(IssueError::Uncertifiable(Uncertifiable::Key { at })) if at == now()), "{ordered:?}");

    let record = fixture.authority.store().token(&secret.hash().id()).await.unwrap().unwrap();
    assert_eq!(record.uses.used, 2, "who is denied uses up nothing");
    let other = request(&super::key(), "client_1", Vec::new());
    fixture.enroll(&secret, &other, 15, now()).await.unwrap();
}

#[tokio::test]
async fn a_later_compromise_ends_the_key_and_keeps_the_reason_in_the_crl() {
    let fixture = Fixture::new().await;
    let secret = fixture.client_token(2).await;
    let csr = request(&key(), "client_1", Vec::new());
    let serial = fixture.enroll(&secret, &csr, 10, now()).await.unwrap();
    assert_eq!(revoke(&fixture, serial, RevocationReason::Superseded).await, Revocation::New);
    let published = fixture.published().await;
    let again = revoke(&fixture, serial, RevocationReason::KeyCompromise).await;
    assert_eq!(again, Revocation::AlreadyRevoked { at: now(), reason: RevocationReason::Superseded });
    assert_eq!(fixture.published().await, published);
    assert_eq!(reason(fixture.enroll(&secret, &csr, 11, now()).await), "key-compromised");
}

#[tokio::test]
async fn a_compromise_from_a_taken_back_crl_ends_the_key() {
    let fixture = Fixture::new().await;
    let secret = fixture.client_token(2).await;
    let csr = request(&key(), "client_1", Vec::new());
    let serial = fixture.enroll(&secret, &csr, 10, now()).await.unwrap();
    let copy = fixture.directory.path().join("copy.db");
    fixture.copy_database(&copy).await;
    revoke(&fixture, serial, RevocationReason::CaCompromise).await;
    let list = fixture.authority.store().crl(Issuer::Issuing).await.unwrap().der;
    let restored = fixture.restored_from(&copy).await;
    restored.authority.take_back(vec![list]).await.unwrap();
    assert_eq!(reason(restored.enroll(&secret, &csr, 11, now()).await), "key-compromised");
}

#[tokio::test]
async fn tokens_are_revoked_with_what_they_enrolled() {
    let fixture = Fixture::new().await;
    let (authority, store) = (&fixture.authority, fixture.authority.store());
    let secret = fixture.client_token(3).await;
    let id = secret.hash().id();
    let first = fixture.enroll(&secret, &request(&key(), "client_1", Vec::new()), 10, now()).await.unwrap();
    let serials = &[first];
    let second = fixture.enroll(&secret, &request(&key(), "client_2", Vec::new()), 11, now()).await.unwrap();
    let revoke = async |target| authority.revoke_target(target, RevocationReason::Unspecified, now()).await.unwrap();
    assert_eq!(revoke(Target { serials, ..Target::default() }).await.tokens, []);
    assert!(store.token(&id).await.unwrap().unwrap().check(now()).is_ok(), "it was not asked for");

    // Also if nothing else is new.
    let with_tokens = WithTokens::Revoke;
    let revoked = revoke(Target { serials, with_tokens, ..Target::default() }).await;
    assert_eq!(revoked.tokens, std::slice::from_ref(&id));
    let late = request(&key(), "client_3", Vec::new());
    assert_eq!(reason(fixture.enroll(&secret, &late, 12, now()).await), "token-revoked");
    assert_eq!(revoke(Target { serials, with_tokens, ..Target::default() }).await.tokens, [], "once");

    let tokens = std::slice::from_ref(&id);
    let revoked = revoke(Target { tokens, ..Target::default() }).await;
    assert_eq!(revoked.outcomes, [(second, Revocation::New)], "a token stands for what is valid of what it enrolled");

    // An expired token cannot enroll, and is revoked only if it is named.
    let bootstrap = fixture.bootstrap.hash().id();
    let third = fixture.enroll(&fixture.bootstrap, &request(&key(), "web", Vec::new()), 13, now()).await.unwrap();
    let after = now().plus(Duration::from_hours(25));
    let revoke_late =
        async |target| authority.revoke_target(target, RevocationReason::Unspecified, after).await.unwrap().tokens;
    let (serials, tokens) = (&[third], std::slice::from_ref(&bootstrap));
    assert_eq!(revoke_late(Target { serials, with_tokens, ..Target::default() }).await, []);
    assert_eq!(
        revoke_late(Target { tokens, with_tokens, ..Target::default() }).await,
        std::slice::from_ref(&bootstrap)
    );
}

#[tokio::test]
async fn under_a_revoked_issuing_ca_nothing_is_issued_and_nothing_is_valid() {
    let fixture = Fixture::new().await;
    let (authority, store) = (&fixture.authority, fixture.authority.store());
    let secret = fixture.client_token(3).await;
    let csr = request(&key(), "client_1", Vec::new());
    let serial = fixture.enroll(&secret, &csr, 10, now()).await.unwrap();
    let revoked = fixture.issue("client_2", 20).await;
    revoke(&fixture, revoked, RevocationReason::Superseded).await;
    let own = tasks::own_identity(authority, now()).await.unwrap().info().id.serial;
    assert_eq!(store.live(now()).await.unwrap(), Live { client: 1, server: 1 });
    assert_eq!(store.issuer_revocation().await.unwrap(), None);

    let root = authority.root_signer().unwrap();
    authority.revoke_issuing(RevocationReason::CaCompromise, root, now()).await.unwrap();
    assert_eq!(reason(fixture.enroll(&secret, &csr, 11, now()).await), "issuer-revoked", "not even the same again");
    let other = request(&key(), "client_3", Vec::new());
    assert_eq!(reason(fixture.enroll(&secret, &other, 12, now()).await), "issuer-revoked");
    let late = now().plus(Duration::from_hours(5));
    assert_eq!(reason(fixture.enroll(&secret, &csr, 13, late).await), "issuer-revoked", "before the expired token");
    let ordered = authority.issue(order_for(&key(), "client_4"), Serial::from_random([14; 16]), now()).await;
    let error = ordered.unwrap_err();
    assert!(error.to_string().contains("ca-daemon init --dir DIR"), "{error}");

    let status = async |serial, at| store.by_serial(&serial, at).await.unwrap().unwrap().status;
    let of_issuer = Status::IssuerRevoked { at: now(), reason: RevocationReason::CaCompromise };
    assert_eq!(status(serial, now()).await, of_issuer);
    assert_eq!(status(own, now()).await, of_issuer);
    assert_eq!(status(revoked, now()).await, Status::Revoked { at: now(), reason: RevocationReason::Superseded });
    assert_eq!(status(serial, now().plus(Duration::from_hours(24 * 100))).await, Status::Expired);
    let count =
        async |wanted| store.list(&Filter { status: Some(wanted), ..Filter::default() }, now()).await.unwrap().len();
    assert_eq!(
        (count(Wanted::Valid).await, count(Wanted::IssuerRevoked).await, count(Wanted::Revoked).await),
        (0, 2, 1)
    );
    // The daemon needs a certificate to report this.
    tasks::own_identity(authority, now()).await.unwrap();
}
