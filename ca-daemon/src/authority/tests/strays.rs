//! Certificates that were issued after a restored copy was made, and revocations that the copy lacks.

use edge::clock::Clock;

use super::*;
use crate::cli::tests::execute;

/// The exit code of a revocation that no instance confirms, because no daemon runs.
const REVOKED: u8 = 5;
const NOTHING_MATCHES: u8 = 3;

struct Restored {
    fixture: Fixture,
    /// Their serial numbers, and the files with their certificates.
    strangers: Vec<(Serial, String)>,
    key: [u8; 32],
}

/// An authority whose database lacks three certificates.
async fn restored() -> Restored {
    let fixture = Fixture::new().await;
    let copy = fixture.directory.path().join("copy.db");
    fixture.copy_database(&copy).await;
    let mut strangers = Vec::new();
    let mut key = [0; 32];
    for (name, serial) in [("client_1", 21), ("client_2", 22), ("client_3", 23)] {
        let serial = fixture.issue(name, serial).await;
        let der = fixture.authority.store().by_serial(&serial, now()).await.unwrap().unwrap().der;
        let file = fixture.directory.path().join(format!("{name}.crt"));
        std::fs::write(&file, pem::certificate(&der)).unwrap();
        key = CertificateInfo::from_der(&der).unwrap().spki_sha256;
        strangers.push((serial, file.to_str().unwrap().to_owned()));
    }
    Restored { fixture: fixture.restored_from(&copy).await, strangers, key }
}

impl Restored {
    async fn run(&self, arguments: &[&str]) -> u8 {
        execute(&self.fixture.directory, &Clock::manual(now()), arguments).await
    }

    async fn published(&self) -> Vec<Serial> {
        let mut serials = self.fixture.published().await.1;
        serials.sort();
        serials
    }
}

#[tokio::test]
async fn an_unknown_certificate_is_revoked_by_its_file() {
    let restored = restored().await;
    let store = restored.fixture.authority.store();
    let [(one, first), (two, second), (three, third)] = restored.strangers.as_slice() else { panic!("three") };
    for unknown in
        [&["revoke", "client_1"][..], &["revoke", &one.to_string()], &["revoke", "--serial", &one.to_string()]]
    {
        assert_eq!(restored.run(unknown).await, NOTHING_MATCHES);
    }
    assert_eq!(restored.run(&["revoke", "--dry-run", "--no-wait", "--cert", first]).await, 0);
    assert!(store.by_serial(one, now()).await.unwrap().is_none(), "nothing was changed");
    assert_eq!(restored.run(&["revoke", "--cert", first, "--cert", second]).await, REVOKED);
    for serial in [one, two] {
        let record = store.by_serial(serial, now()).await.unwrap().unwrap();
        assert!(matches!(record.status, Status::Revoked { .. }) && record.adopted_at == Some(now()));
        assert!(record.common_name.starts_with("client_") && record.token.is_none());
    }
    assert_eq!(restored.published().await, [*one, *two]);
    // From then on it is like any other certificate.
    let number = restored.fixture.published().await.0;
    assert_eq!(restored.run(&["revoke", "--cert", first]).await, REVOKED);
    assert_eq!(restored.run(&["revoke", "--serial", &two.to_string()]).await, REVOKED);
    assert_eq!(restored.fixture.published().await.0, number, "nothing new");

    assert_eq!(restored.run(&["revoke", "--cert", third, "--reason", "key-compromise"]).await, REVOKED);
    assert!(store.uncertifiable(restored.key).await.unwrap().is_some(), "its key is never certified again");
    assert_eq!(restored.run(&["show", &three.to_string()]).await, 0);
    assert_eq!(restored.run(&["list", "--status", "revoked"]).await, 0);
}

#[tokio::test]
async fn an_unknown_serial_number_is_revoked_with_unknown() {
    let restored = restored().await;
    let store = restored.fixture.authority.store();
    let [(one, first), (two, _), (three, third)] = restored.strangers.as_slice() else { panic!("three") };
    let by_number = ["revoke", "--reason", "key-compromise", "--unknown", "--serial", &one.to_string(), "--serial"];
    assert_eq!(restored.run(&[&by_number[..], &[&two.to_string()]].concat()).await, REVOKED);
    assert_eq!(restored.published().await, [*one, *two]);
    let stray = store.stray_revocation(one).await.unwrap().unwrap();
    assert_eq!(stray.not_after, restored.fixture.authority.last_end().unwrap());
    assert_eq!(restored.run(&["show", &one.to_string()]).await, 0);
    assert_eq!(restored.run(&["show", &three.to_string()]).await, NOTHING_MATCHES);
    let strays = store.stray_revocations(None).await.unwrap();
    assert_eq!(strays.iter().map(|stray| stray.serial).collect::<Vec<_>>(), [*one, *two]);
    assert!(store.stray_revocations(strays.last()).await.unwrap().is_empty());

    // With its file, its key is known and is not certified either.
    assert_eq!(restored.run(&["revoke", "--cert", first]).await, REVOKED);
    assert!(store.stray_revocation(one).await.unwrap().is_none());
    let record = store.by_serial(one, now()).await.unwrap().unwrap();
    let key = CertificateInfo::from_der(&record.der).unwrap().spki_sha256;
    assert!(store.uncertifiable(key).await.unwrap().is_some());
    // A known certificate needs no file, and is not revoked twice.
    let known = restored.fixture.issue("client_4", 24).await;
    let both = ["revoke", "--cert", third, "--unknown", "--serial", &known.to_string()];
    assert_eq!(restored.run(&both).await, REVOKED);
    assert!(store.by_serial(&known, now()).await.unwrap().unwrap().adopted_at.is_none());
    assert_eq!(restored.published().await, [*one, *two, *three, known]);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not_revoked() {
    let (restored, elsewhere) = (restored().await, Fixture::new().await);
    let foreign = elsewhere.issue("client_9", 30).await;
    let foreign = elsewhere.authority.store().by_serial(&foreign, now()).await.unwrap().unwrap().der;
    let own = std::fs::read_to_string(&restored.strangers[0].1).unwrap();
    let mut forged = pem::read_chain(&own).unwrap().remove(0).to_vec();
    *forged.last_mut().unwrap() ^= 1;
    for certificate in [foreign.to_vec(), forged] {
        let certificate = certificate.into();
        assert!(restored.fixture.authority.recognise(&certificate).is_none());
        let file = restored.fixture.directory.path().join("file.crt");
        std::fs::write(&file, pem::certificate(&certificate)).unwrap();
        assert_eq!(restored.run(&["revoke", "--cert", file.to_str().unwrap()]).await, NOTHING_MATCHES);
    }
    for issuer in Issuer::ALL {
        let certificate = restored.fixture.authority.certificate(issuer).clone();
        assert!(restored.fixture.authority.recognise(&certificate).is_none(), "the {issuer} CA");
    }
    assert_eq!(restored.published().await, []);
}
