//! Who gets a successor, and what becomes of the line.

use pki::issuing::IssuedCertificate;

use super::*;
use crate::store::{Lines, PredecessorRefusal, Recorded, Uncertifiable, WithTokens};

const DAY: Duration = Duration::from_hours(24);

impl Fixture {
    /// A client's certificate with a life of 90 days.
    async fn enrolled(&self, name: &str, serial: u8) -> IssuedCertificate {
        let csr = request(&key(), name, Vec::new());
        let serial = self.enroll(&self.bootstrap, &csr, serial, now()).await.unwrap();
        self.known(serial).await
    }

    async fn known(&self, serial: Serial) -> IssuedCertificate {
        let record = self.authority.store().by_serial(&serial, now()).await.unwrap().unwrap();
        let info = CertificateInfo::from_der(&record.der).unwrap();
        IssuedCertificate { der: record.der, info, profile: record.profile }
    }

    async fn renew_with(
        &self,
        predecessor: &IssuedCertificate,
        key: &KeyPair,
        serial: u8,
        at: Timestamp,
    ) -> Result<IssuedCertificate, RenewError> {
        let csr = request(key, "whatever", vec!["elsewhere.example".parse().unwrap()]);
        let serial = Serial::from_random([serial; 16]);
        let (chain, window) = self.authority.renew(predecessor.clone(), &csr, serial, at).await?;
        let info = CertificateInfo::from_der(&chain[0]).unwrap();
        assert_eq!(window, pki::renewal::Window::of(info.validity));
        Ok(IssuedCertificate { der: chain[0].clone(), info, profile: predecessor.profile })
    }

    async fn renew(&self, predecessor: &IssuedCertificate, serial: u8, at: Timestamp) -> IssuedCertificate {
        self.renew_with(predecessor, &key(), serial, at).await.unwrap()
    }
}

fn serial_of(certificate: &IssuedCertificate) -> Serial {
    certificate.info.id.serial
}

fn denied<T: std::fmt::Debug>(result: Result<T, RenewError>) -> RenewDenial {
    match result {
        Err(RenewError::Denied(denial)) => denial,
        other => panic!("not a denial: {other:?}"),
    }
}

#[tokio::test]
async fn a_successor_has_the_names_of_its_predecessor_another_key_and_as_long_a_life() {
    let fixture = Fixture::new().await;
    for (profile, serial) in [(Profile::Client, 10), (Profile::Server, 20)] {
        let first = fixture.known(fixture.issue_as(profile, "service0", serial).await).await;
        let mut line = vec![first];
        for generation in 1_u8..4 {
            let at = now().plus(DAY * u32::from(generation));
            let successor = fixture.renew(line.last().unwrap(), serial + generation, at).await;
            line.push(successor);
        }
        let [first, .., last] = &line[..] else { unreachable!() };
        assert_eq!((&last.info.subject, &last.info.names), (&first.info.subject, &first.info.names));
        assert_eq!((last.info.profile, last.profile), (Some(profile), profile));
        assert_ne!(last.info.spki_sha256, first.info.spki_sha256);
        let validity = last.info.validity;
        assert_eq!(validity.not_after, now().plus(DAY * 5), "no longer, and no shorter, after some generations");
        let (before, after) = fixture.authority.store().neighbours(&serial_of(&line[1])).await.unwrap();
        assert_eq!((before, after), (Some(serial_of(first)), vec![serial_of(&line[2])]));
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_renewal_is_given_again() {
    let fixture = Fixture::new().await;
    let (first, key) = (fixture.enrolled("client_1", 10).await, key());
    let successor = fixture.renew_with(&first, &key, 11, now()).await.unwrap();
    let again = fixture.renew_with(&first, &key, 12, now().plus(DAY)).await.unwrap();
    assert_eq!(again.der, successor.der);
    let another = fixture.renew(&first, 13, now()).await;
    assert_ne!(another.der, successor.der, "another key is another successor");
    assert_eq!(fixture.authority.store().tallies().await.unwrap().client, 3);
}

#[tokio::test]
async fn what_is_revoked_or_over_is_not_renewed() {
    let fixture = Fixture::new().await;
    let (revoked, kept) = (fixture.enrolled("client_1", 10).await, fixture.enrolled("client_2", 20).await);
    fixture.authority.revoke(&[serial_of(&revoked)], RevocationReason::Superseded, now()).await.unwrap();
    let denial = denied(fixture.renew_with(&revoked, &key(), 11, now()).await);
    assert!(matches!(denial, RenewDenial::Predecessor(PredecessorRefusal::Revoked { .. })), "{denial}");

    let end = kept.info.validity.not_after;
    let _ = fixture.renew_with(&kept, &key(), 21, end).await.unwrap();
    let denial = denied(fixture.renew_with(&kept, &key(), 22, end.plus(Duration::from_secs(1))).await);
    assert!(matches!(denial, RenewDenial::Expired { .. }), "{denial}");

    let (root, at) = (fixture.authority.root_signer().unwrap(), now());
    fixture.authority.revoke_issuing(RevocationReason::CaCompromise, root, at).await.unwrap();
    let denial = denied(fixture.renew_with(&kept, &key(), 23, now()).await);
    assert!(matches!(denial, RenewDenial::Uncertifiable(Uncertifiable::Issuer(_))), "{denial}");
}

#[tokio::test]
async fn a_compromised_key_and_the_authoritys_own_keys_are_no_keys_of_successors() {
    let fixture = Fixture::new().await;
    let (compromised, first) = (key(), fixture.enrolled("client_1", 10).await);
    let serial = fixture.renew_with(&first, &compromised, 11, now()).await.map(|issued| serial_of(&issued)).unwrap();
    let other = fixture.enrolled("client_2", 20).await;
    fixture.authority.revoke(&[serial], RevocationReason::KeyCompromise, now()).await.unwrap();
    let denial = denied(fixture.renew_with(&other, &compromised, 21, now()).await);
    assert!(matches!(denial, RenewDenial::Uncertifiable(Uncertifiable::Key { .. })), "{denial}");
    for issuer in Issuer::ALL {
        let own = mtls::tls::load_key(&fixture.directory.key(issuer)).unwrap();
        assert_eq!(denied(fixture.renew_with(&other, &own, 22, now()).await).reason(), "authority-key");
    }
}

#[tokio::test]
async fn the_authoritys_own_certificate_is_renewed_for_nobody() {
    let fixture = Fixture::new().await;
    let order = OperatorOrder {
        profile: Profile::Server,
        subject: "ca".parse().unwrap(),
        organization: None,
        hosts: Host::local(),
        public_key: PublicKey::from_spki(&key().spki()).unwrap(),
        lifetime: DAY,
    };
    let own = fixture.authority.issue_own(order, Serial::from_random([10; 16]), now()).await.unwrap();
    assert_eq!(denied(fixture.renew_with(&own, &key(), 11, now()).await).reason(), "not-renewable");
}

/// A thief has renewed before anybody noticed.
#[tokio::test]
async fn a_revocation_takes_the_line_along_unless_that_is_not_wanted() {
    let fixture = Fixture::new().await;
    let first = fixture.enrolled("client_1", 10).await;
    let (second, stolen) = (fixture.renew(&first, 11, now()).await, fixture.renew(&first, 12, now()).await);
    let third = fixture.renew(&second, 13, now()).await;
    let bystander = fixture.enrolled("client_2", 20).await;
    let store = fixture.authority.store();
    let line_of = async |serial| store.valid_of_lines(&[serial], now()).await.unwrap();
    let others = line_of(serial_of(&second)).await;
    assert_eq!(others, [&first, &stolen, &third].map(serial_of));

    let only = [serial_of(&third)];
    let target = Target { serials: &only, lines: Lines::Leave, ..Target::default() };
    fixture.authority.revoke_target(target, RevocationReason::Superseded, now()).await.unwrap();
    let revoked =
        fixture.authority.revoke(&[serial_of(&second)], RevocationReason::KeyCompromise, now()).await.unwrap();
    let mut ended: Vec<_> = revoked.outcomes.iter().map(|(serial, _)| *serial).collect();
    ended.sort();
    let mut expected = [&second, &first, &stolen].map(serial_of);
    expected.sort();
    assert_eq!(ended, expected, "what was revoked before is not named again");
    assert!(line_of(serial_of(&first)).await.is_empty());
    fixture.renew(&bystander, 21, now()).await;
}

#[tokio::test]
async fn what_is_revoked_with_a_token_includes_what_was_renewed_since() {
    let fixture = Fixture::new().await;
    let first = fixture.enrolled("client_1", 10).await;
    let second = fixture.renew(&first, 11, now()).await;
    let tokens = [fixture.bootstrap.hash().id()];
    let target = Target { tokens: &tokens, with_tokens: WithTokens::Leave, ..Target::default() };
    let revoked = fixture.authority.revoke_target(target, RevocationReason::Superseded, now()).await.unwrap();
    let ended: Vec<_> = revoked.outcomes.iter().map(|(serial, _)| *serial).collect();
    assert_eq!(ended, [&first, &second].map(serial_of));
}

/// Whoever has renewed since the copy was made comes with a certificate that is not known here.
#[tokio::test]
async fn after_a_restore_a_certificate_that_was_lost_is_renewed_and_known_from_then_on() {
    let mut fixture = Fixture::new().await;
    let copy = fixture.directory.database().with_extension("copy");
    let first = fixture.enrolled("client_1", 10).await;
    fixture.copy_database(&copy).await;
    let second = fixture.renew(&first, 11, now()).await;
    fixture = fixture.restored_from(&copy).await;
    let third = fixture.renew(&second, 12, now()).await;
    let store = fixture.authority.store();
    assert!(store.by_serial(&serial_of(&second), now()).await.unwrap().unwrap().adopted_at.is_some());
    let (before, _) = store.neighbours(&serial_of(&third)).await.unwrap();
    assert_eq!(before, Some(serial_of(&second)));
}

/// It may be the certificate's own revocation that was lost.
#[tokio::test]
async fn nothing_is_renewed_while_revocations_are_known_to_be_missing() {
    let mut fixture = Fixture::new().await;
    let copy = fixture.directory.database().with_extension("copy");
    let (revoked, other) = (fixture.enrolled("client_1", 10).await, fixture.enrolled("client_2", 20).await);
    fixture.copy_database(&copy).await;
    let later = now().plus(Duration::from_secs(5));
    fixture.authority.revoke(&[serial_of(&revoked)], RevocationReason::Superseded, later).await.unwrap();
    fixture = fixture.restored_from(&copy).await;
    for certificate in [&revoked, &other] {
        let denial = denied(fixture.renew_with(certificate, &key(), 30, later).await);
        assert!(matches!(denial, RenewDenial::Lacking), "{denial}");
    }
}

/// Both want to write at the same moment, again and again: whichever comes first, nothing of the name is left valid.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_and_a_revocation_of_the_name_at_once_leave_nothing_valid() {
    let fixture = Fixture::new().await;
    let fixture = Arc::new(fixture);
    let mut renewed = 0;
    for round in 0..100_u8 {
        let name = format!("client_{round}");
        let first = fixture.enrolled(&name, 2 * round + 1).await;
        let renewing = tokio::spawn({
            let (fixture, first) = (Arc::clone(&fixture), first.clone());
            async move { fixture.renew_with(&first, &key(), 2 * round + 2, now()).await }
        });
        let names = [name.clone()];
        let target = Target { names: &names, ..Target::default() };
        // The renewal has to make a key; sometimes it is first, sometimes the revocation.
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        } else {
            while fixture.authority.store().tallies().await.unwrap().client <= u64::from(round) + renewed
                && !renewing.is_finished()
            {
                tokio::task::yield_now().await;
            }
        }
        fixture.authority.revoke_target(target, RevocationReason::KeyCompromise, now()).await.unwrap();
        match renewing.await.unwrap() {
            Ok(_) => renewed += 1,
            Err(error) => assert_eq!(denied::<()>(Err(error)).reason(), "certificate-revoked"),
        }
        let left = fixture.authority.store().by_name(&name, now()).await.unwrap();
        assert!(left.iter().all(|record| record.status != Status::Valid), "{name}: {left:?}");
    }
}

/// An operator's order has no predecessor.
#[tokio::test]
async fn what_an_operator_orders_begins_a_line() {
    let fixture = Fixture::new().await;
    let serial = fixture.issue("client_1", 10).await;
    let certificate = fixture.known(serial).await;
    assert_eq!(fixture.authority.store().neighbours(&serial).await.unwrap(), (None, Vec::new()));
    let recorded = fixture.authority.store().record(&certificate, now()).await;
    assert!(!matches!(recorded, Ok(Recorded::Done)), "nothing is recorded twice");
}

#[tokio::test]
async fn an_order_moves_the_window_of_what_it_means_and_counts_what_was_replaced() {
    let fixture = Fixture::new().await;
    let first = fixture.enrolled("client_1", 10).await;
    let (second, other) = (fixture.renew(&first, 11, now()).await, fixture.enrolled("client_2", 20).await);
    let (outside, revoked) = (fixture.enrolled("other_1", 30).await, fixture.enrolled("client_3", 40).await);
    fixture.authority.revoke(&[serial_of(&revoked)], RevocationReason::Superseded, now()).await.unwrap();
    let (store, at) = (fixture.authority.store(), now().plus(DAY));
    assert_eq!(store.last_renewal_order().await.unwrap(), 0);
    let hour = Duration::from_hours(1);
    let order = store.order_renewal(&"client_*".parse().unwrap(), hour, at).await.unwrap();
    assert_eq!(store.renewal_orders(at).await.unwrap(), std::slice::from_ref(&order));
    assert_eq!(store.last_renewal_order().await.unwrap(), order.id);

    let window = async |certificate: &IssuedCertificate| {
        store.renewal_window(&serial_of(certificate), certificate.info.validity).await.unwrap()
    };
    let soon = pki::renewal::Window { start: at, end: at.plus(hour) };
    assert_eq!((window(&second).await, window(&other).await), (soon, soon));
    assert_eq!(window(&outside).await, pki::renewal::Window::of(outside.info.validity));
    let progress = async || {
        let progress = store.renewal_progress(&order, 10).await.unwrap();
        (progress.replaced, progress.waiting_count, progress.waiting.into_iter().map(|it| it.name).collect::<Vec<_>>())
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(progress().await, (0, 2, names(&["client_1", "client_2"])), "what had a successor by then is left out");
    let third = fixture.renew(&second, 12, at).await;
    assert_eq!(window(&third).await, pki::renewal::Window::of(third.info.validity), "it is not meant again");
    assert_eq!(progress().await, (1, 1, names(&["client_2"])));
    fixture.renew(&third, 13, at).await;
    assert_eq!(progress().await, (1, 1, names(&["client_2"])));
    assert_eq!(store.renewal_progress(&order, 0).await.unwrap().waiting, []);
}

#[tokio::test]
async fn a_revocation_that_is_taken_back_takes_the_line_along() {
    let mut fixture = Fixture::new().await;
    let copy = fixture.directory.database().with_extension("copy");
    let stolen = fixture.enrolled("client_1", 10).await;
    fixture.copy_database(&copy).await;
    let later = now().plus(Duration::from_secs(5));
    fixture.authority.revoke(&[serial_of(&stolen)], RevocationReason::KeyCompromise, later).await.unwrap();
    let list = fixture.authority.store().crl(Issuer::Issuing).await.unwrap().der;
    // The machine was lost, so there is no mark that tells of the revocation.
    std::fs::remove_file(fixture.directory.path().join("ca.mark")).unwrap();
    fixture = fixture.restored_from(&copy).await;
    let thief = fixture.renew_with(&stolen, &key(), 30, later).await;
    let thief = thief.expect("renewed before a relying party has handed its list over");
    fixture.authority.take_back(vec![list]).await.unwrap();
    let store = fixture.authority.store();
    let heir = store.by_serial(&serial_of(&thief), later).await.unwrap().unwrap().status;
    assert_ne!(heir, Status::Valid);
}

#[tokio::test]
async fn a_compromised_key_renews_nothing() {
    let fixture = Fixture::new().await;
    let shared = key();
    let mut two = Vec::new();
    for (name, serial) in [("client_1", 10), ("client_2", 20)] {
        let csr = request(&shared, name, Vec::new());
        let serial = fixture.enroll(&fixture.bootstrap, &csr, serial, now()).await.unwrap();
        two.push(fixture.known(serial).await);
    }
    fixture.authority.revoke(&[serial_of(&two[0])], RevocationReason::KeyCompromise, now()).await.unwrap();
    let outcome = fixture.renew_with(&two[1], &key(), 30, now()).await;
    assert!(outcome.is_err());
}
