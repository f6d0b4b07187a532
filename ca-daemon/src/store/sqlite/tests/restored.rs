//! A database that is an older copy, which the mark shows.

use std::fs;

use pki::crl::RevokedEntry;

use super::*;

async fn ahead(store: &Store) -> Option<(i64, i64)> {
    let ahead = store.newest(Issuer::Issuing).await.unwrap().ahead?;
    Some((ahead.number.get(), ahead.revoking.get()))
}

fn later(seconds: u64) -> Timestamp {
    now().plus(Duration::from_secs(seconds))
}

/// Two clients are revoked after the copy was made, and another CRL follows.
async fn restored() -> (Fixture, [Serial; 2], [i64; 3]) {
    let fixture = Fixture::new().await;
    let copy = fixture.directory.path().join("copy.db");
    let clients = [fixture.issue("client_1", 20).await, fixture.issue("client_2", 21).await];
    fixture.copy_database(&copy).await;
    let mut numbers = [0; 3];
    for (index, client) in clients.iter().enumerate() {
        let at = later(u64::try_from(index).unwrap());
        let revoked = fixture.authority.revoke(&[*client], RevocationReason::Unspecified, at).await.unwrap();
        numbers[index] = revoked.crl.get();
    }
    numbers[2] = fixture.authority.publish(Issuer::Issuing, later(5)).await.unwrap().head.number.get();
    (fixture.restored_from(&copy).await, clients, numbers)
}

#[tokio::test]
async fn a_copy_that_lacks_a_revocation_publishes_nothing_until_the_loss_is_accepted() {
    let (fixture, [client, _], numbers) = restored().await;
    let store = fixture.authority.store();
    let lost = Some((numbers[2], numbers[1]));
    assert_eq!(ahead(store).await, lost);
    assert_eq!(ahead(&Store::open(&fixture.directory.database()).await.unwrap()).await, lost, "durable");
    let revoked = fixture.authority.revoke(&[client], RevocationReason::Unspecified, now()).await.unwrap();
    assert_eq!(revoked.crl.get(), numbers[2] + 1, "above every number that was used");
    assert_eq!(ahead(store).await, lost, "one revocation does not replace the other");
    let text = store.newest(Issuer::Issuing).await.unwrap().ahead.unwrap().to_string();
    assert!(text.contains("crl --import") && text.ends_with("ca-daemon crl --resign"), "{text}");
    store.accept_loss(Issuer::Issuing).await.unwrap();
    assert_eq!(ahead(store).await, None);
    assert_eq!(ahead(&Store::open(&fixture.directory.database()).await.unwrap()).await, None, "permanently");
}

#[tokio::test]
async fn only_a_crl_with_all_lost_revocations_ends_the_loss() {
    let (fixture, clients, numbers) = restored().await;
    let store = fixture.authority.store();
    let list = |number, clients: &[Serial]| SignedList {
        issuer: Issuer::Issuing,
        number: CrlNumber::new(number).unwrap(),
        base: None,
        revoked: clients
            .iter()
            .map(|serial| RevokedEntry { serial: *serial, revoked_at: now(), reason: RevocationReason::Unspecified })
            .collect(),
    };
    store.take_back(&[list(numbers[0], &clients[..1])], later(9_999)).await.unwrap();
    assert!(ahead(store).await.is_some());
    store.take_back(&[list(numbers[1], &clients)], later(9_999)).await.unwrap();
    assert_eq!(ahead(store).await, None);
    let newest = store.newest(Issuer::Issuing).await.unwrap();
    assert!(newest.is_overtaken, "the next CRL is due");
}

#[tokio::test]
async fn a_copy_that_lacks_only_numbers_continues_above_them() {
    let fixture = Fixture::new().await;
    let copy = fixture.directory.path().join("copy.db");
    let client = fixture.issue("client_1", 20).await;
    fixture.authority.revoke(&[client], RevocationReason::Unspecified, now()).await.unwrap();
    fixture.copy_database(&copy).await;
    let last = fixture.authority.publish(Issuer::Issuing, later(50)).await.unwrap().head.number;
    let fixture = fixture.restored_from(&copy).await;
    let newest = fixture.authority.store().newest(Issuer::Issuing).await.unwrap();
    assert_eq!((newest.ahead, newest.is_overtaken), (None, true));
    assert_eq!(fixture.authority.publish(Issuer::Issuing, now()).await.unwrap().head.number, last.next());
}

#[tokio::test]
async fn a_root_list_that_is_lost_is_noticed_as_well() {
    let fixture = Fixture::new().await;
    let copy = fixture.directory.path().join("copy.db");
    fixture.copy_database(&copy).await;
    let root = fixture.authority.root_signer().unwrap();
    fixture.authority.revoke_issuing(RevocationReason::KeyCompromise, root, now()).await.unwrap();
    let fixture = fixture.restored_from(&copy).await;
    let ahead = fixture.authority.store().newest(Issuer::Root).await.unwrap().ahead.unwrap();
    assert!(ahead.to_string().ends_with("ca-daemon crl --root --resign"), "{ahead}");
    assert_eq!(fixture.authority.store().newest(Issuer::Issuing).await.unwrap().ahead, None);
}

#[tokio::test]
async fn without_a_mark_a_database_is_taken_as_it_is_and_gets_one() {
    let fixture = Fixture::new().await;
    let mark = fixture.directory.mark();
    let founded = fs::read_to_string(&mark).unwrap();
    fs::remove_file(&mark).unwrap();
    let other = Store::open(&fixture.directory.database()).await.unwrap();
    assert_eq!(ahead(&other).await, None);
    assert_eq!(fs::read_to_string(&mark).unwrap(), founded);
}

#[tokio::test]
async fn the_mark_is_raised_before_the_crl_of_a_killed_process_is_announced() {
    let fixture = Fixture::new().await;
    let mark = fixture.directory.mark();
    let before = fs::read(&mark).unwrap();
    let other = Store::open(&fixture.directory.database()).await.unwrap();
    let client = fixture.issue("client_1", 20).await;
    for (telling, at) in [("newest", now()), ("signed", later(5))] {
        fixture.authority.revoke(&[client], RevocationReason::Unspecified, at).await.unwrap();
        let number = fixture.authority.publish(Issuer::Issuing, at).await.unwrap().head.number.to_string();
        assert!(fs::read_to_string(&mark).unwrap().contains(&number), "before it returns");
        // It was killed between the commit and the mark.
        fs::write(&mark, &before).unwrap();
        if telling == "newest" {
            other.newest(Issuer::Issuing).await.unwrap();
        } else {
            other.signed(Issuer::Issuing, crate::issuer::CrlKind::Complete).await.unwrap();
        }
        assert!(fs::read_to_string(&mark).unwrap().contains(&number), "{telling}");
    }
}

#[tokio::test]
async fn no_commit_succeeds_after_the_files_were_removed_or_replaced() {
    let wal = |fixture: &Fixture| fixture.directory.path().join("ca.db-wal");
    for replace in [&(|fixture: &Fixture| fs::remove_file(wal(fixture)).unwrap()) as &dyn Fn(&Fixture), &|fixture| {
        let copy = fixture.directory.path().join("copy.db");
        fs::copy(fixture.directory.database(), &copy).unwrap();
        fs::rename(copy, fixture.directory.database()).unwrap();
    }] {
        let fixture = Fixture::new().await;
        let store = fixture.authority.store();
        let client = fixture.issue("client_1", 20).await;
        let mut look_out = store.look_out().await.unwrap();
        look_out.has_changed().await.unwrap();
        // Another process that opens and closes the database removes nothing.
        Store::open(&fixture.directory.database()).await.unwrap().close().await;
        store.check_beneath().unwrap();
        // The file existed when the transaction began.
        let tx = store.begin().await.unwrap();
        replace(&fixture);
        assert!(tx.commit().await.unwrap_err().is_replaced());
        assert!(!look_out.has_changed().await.unwrap());
        let revoked = fixture.authority.revoke(&[client], RevocationReason::Unspecified, now()).await;
        assert!(revoked.unwrap_err().is_replaced());
        assert!(store.newest(Issuer::Issuing).await.unwrap_err().is_replaced(), "nothing is announced");
        let error = fixture.authority.publish(Issuer::Root, now()).await.unwrap_err().to_string();
        assert!(error.contains("ca.db or its write-ahead log was removed or replaced"), "{error}");
    }
}

#[tokio::test]
async fn a_copy_over_the_file_in_use_is_noticed_by_its_numbers() {
    let fixture = Fixture::new().await;
    let store = fixture.authority.store();
    store.newest(Issuer::Issuing).await.unwrap();
    let last = fixture.authority.publish(Issuer::Issuing, later(50)).await.unwrap().head.number;
    assert_eq!(store.newest(Issuer::Issuing).await.unwrap().number, last);
    // Writes what an older copy would have, without the triggers.
    for step in ["DROP TRIGGER crl_sequences_go_up", "UPDATE crl_sequences SET complete_number = 1, last_number = 1"] {
        sqlx::query(step).execute(&store.writer).await.unwrap();
    }
    assert!(store.newest(Issuer::Issuing).await.unwrap_err().is_replaced());
    assert!(store.begin().await.is_err());
}

/// Revocations that were taken back are not published before others have handed over. A command that revokes one of
/// them meanwhile must not report a CRL that lacks it.
#[tokio::test]
async fn revoking_publishes_what_was_taken_back() {
    let (fixture, [client, other], numbers) = restored().await;
    let store = fixture.authority.store();
    let entry = |serial| RevokedEntry { serial, revoked_at: now(), reason: RevocationReason::Unspecified };
    let number = CrlNumber::new(numbers[0]).unwrap();
    let list = SignedList { issuer: Issuer::Issuing, number, base: None, revoked: vec![entry(client)] };
    store.take_back(&[list], later(9_999)).await.unwrap();
    let revoked = fixture.authority.revoke(&[client], RevocationReason::Unspecified, now()).await.unwrap();
    assert!(matches!(revoked.outcomes[0].1, Revocation::AlreadyRevoked { .. }));
    assert_eq!(fixture.published().await, (revoked.crl, vec![client]), "the list that is waited for has it");
    assert_eq!(ahead(store).await, Some((numbers[2], numbers[1])), "and what else is missing is missing still");
    let again = fixture.authority.revoke(&[client], RevocationReason::Unspecified, now()).await.unwrap();
    assert_eq!(again.crl, revoked.crl, "once");
    let new = fixture.authority.revoke(&[other], RevocationReason::Unspecified, now()).await.unwrap();
    assert_eq!(fixture.published().await, (new.crl, vec![client, other]));
}

#[tokio::test]
async fn revoking_the_issuing_ca_publishes_its_taken_back_revocation() {
    let fixture = Fixture::new().await;
    let authority = &fixture.authority;
    let condemned = CertificateInfo::from_der(authority.certificate(Issuer::Issuing)).unwrap().id.serial;
    let entry = RevokedEntry { serial: condemned, revoked_at: now(), reason: RevocationReason::KeyCompromise };
    let number = CrlNumber::new(now().unix() + 7).unwrap();
    let list = SignedList { issuer: Issuer::Root, number, base: None, revoked: vec![entry] };
    authority.store().take_back(&[list], later(9_999)).await.unwrap();
    let root = authority.root_signer().unwrap();
    let (_, revoked) = authority.revoke_issuing(RevocationReason::KeyCompromise, root, now()).await.unwrap();
    assert!(revoked.crl > number, "not the list from before");
    assert_eq!(authority.store().crl_head(Issuer::Root).await.unwrap().number, revoked.crl);
}
