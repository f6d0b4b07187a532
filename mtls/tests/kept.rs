//! What a service enforces from its files while the authority is down: never less than what was in force.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use mtls::{relying_party::Options, revocation::NotReady};
use pki::certificate::{Fingerprint, IssuerId};
use rustls::AlertDescription;
use url::Url;

use crate::common::{
    Authority, Client, Http, Issued, Log, Service, Surroundings, authority::Founding, eventually, publisher::Publisher,
    start,
};

/// An authority that has revoked bob in a delta, and the directory of a service that had the delta in force.
struct Fixture {
    publisher: Publisher,
    authority: Authority,
    alice: Issued,
    bob: Issued,
    kept: Kept,
}

/// The files of the issuing CA's CRL.
struct Kept {
    directory: Arc<tempfile::TempDir>,
    complete: PathBuf,
    delta: PathBuf,
    settled: PathBuf,
}

impl Kept {
    fn new(authority: &Authority) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let url = &authority.client("anybody").info.crl_urls[0];
        let name = Fingerprint::of(url.as_bytes()).short();
        let file = |kind| directory.path().join(format!("{name}.{kind}"));
        let (complete, delta, settled) = (file("crl"), file("delta.crl"), file("settled"));
        Self { directory, complete, delta, settled }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings { crl_directory: Arc::clone(&self.directory), ..Surroundings::default() }
    }

    fn is_settled(&self, number: i64) -> bool {
        fs::read_to_string(&self.settled).is_ok_and(|text| text.starts_with(&format!("{number} ")))
    }

    /// A copy of the files elsewhere.
    fn copy(&self, authority: &Authority) -> Self {
        let copy = Self::new(authority);
        for file in fs::read_dir(self.directory.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), copy.directory.path().join(file.file_name())).unwrap();
        }
        copy
    }
}

impl Fixture {
    /// With complete CRL number 1, and number 5 as a delta.
    async fn new() -> Self {
        let publisher = Publisher::start().await;
        let authority = publisher.authority_of(Founding { has_delta: true, ..Founding::default() });
        let (alice, bob) = (authority.client("alice"), authority.client("bob"));
        let kept = Kept::new(&authority);
        publisher.publish(|published| published.delta = Some(authority.delta(5, 1, &[&bob])));
        let mut service = Service::start_in(&authority, kept.surroundings()).await;
        let _tasks = service.keep_current();
        eventually("its CRLs are in force", || service.live().ready(start()).is_ok()).await;
        eventually("and kept", || kept.is_settled(5)).await;
        Self { publisher, authority, alice, bob, kept }
    }

    fn client(&self, issued: &Issued) -> Client {
        Client::new(&self.authority, issued, Http::Two, &Surroundings::default().clock)
    }
}

fn rewrite(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut contents = fs::read(file).unwrap();
    change(&mut contents);
    fs::write(file, contents).unwrap();
}

fn truncate(file: &Path) {
    rewrite(file, |contents| contents.truncate(contents.len() / 2));
}

fn empty(file: &Path) {
    rewrite(file, Vec::clear);
}

fn alter(file: &Path) {
    rewrite(file, |contents| *contents.last_mut().unwrap() ^= 1);
}

fn remove(file: &Path) {
    fs::remove_file(file).unwrap();
}

/// Also for root, which may read any file.
fn make_unreadable(file: &Path) {
    fs::remove_file(file).unwrap();
    fs::create_dir(file).unwrap();
}

fn replace(file: &Path) {
    fs::write(file, Authority::new().crl(5, &[])).unwrap();
}

/// A name and a function that damages a file.
type Damage = (&'static str, fn(&Path));
/// A name and one of the files of a CRL.
type File = (&'static str, fn(&Kept) -> &PathBuf);

const DAMAGES: [Damage; 6] = [
    ("unreadable", make_unreadable),
    ("truncated", truncate),
    ("empty", empty),
    ("altered", alter),
    ("removed", remove),
    ("another authority's", replace),
];

#[tokio::test]
async fn whichever_file_is_damaged_an_older_crl_is_not_in_force() {
    let mut fixture = Fixture::new().await;
    fixture.publisher.goes_down().await;
    let files: [File; 3] =
        [("delta", |kept| &kept.delta), ("complete", |kept| &kept.complete), ("settled", |kept| &kept.settled)];
    for (file, of) in files {
        for (damage, apply) in DAMAGES {
            let (case, log) = (format!("{damage} {file}"), Log::capture());
            let kept = fixture.kept.copy(&fixture.authority);
            apply(of(&kept));
            let mut service = Service::start_in(&fixture.authority, kept.surroundings()).await;
            let _tasks = service.keep_current();
            for client in [&fixture.alice, &fixture.bob] {
                let refused = fixture.client(client).refused(service.address).await.alert();
                assert_eq!(refused, AlertDescription::AccessDenied, "{case}");
            }
            let damaged = of(&kept).display().to_string();
            let refusal = service.live().ready(start()).unwrap_err();
            assert!(matches!(refusal, NotReady::Withheld { .. }), "{case}: {refusal}");
            assert!(refusal.to_string().contains(&damaged), "{case}: {refusal}");
            let issuer = IssuerId::of(fixture.authority.issuing.info()).to_string();
            assert!(log.has(&["WARN", "the stored CRL is not in force", &issuer, &damaged]), "{case}");
            assert!(log.has(&["handshake refused", "alice", "is not in force", &damaged]), "{case}");

            fixture.publisher.comes_up().await;
            eventually(&case, || service.live().ready(start()).is_ok()).await;
            assert_eq!(fixture.client(&fixture.alice).get(service.address).await.status, 200, "{case}");
            let refused = fixture.client(&fixture.bob).refused(service.address).await.alert();
            assert_eq!(refused, AlertDescription::CertificateRevoked, "{case}");
            fixture.publisher.goes_down().await;
        }
    }
}

/// An older CRL is genuine, wherever it comes from.
#[tokio::test]
async fn older_crls_do_not_replace_what_was_in_force() {
    let mut fixture = Fixture::new().await;
    fixture.publisher.goes_down().await;
    let authority = &fixture.authority;
    let kept = fixture.kept.copy(authority);
    fs::write(&kept.delta, authority.delta(3, 1, &[])).unwrap();
    let mut service = Service::start_in(authority, kept.surroundings()).await;
    let _tasks = service.keep_current();
    let refusal = service.live().ready(start()).unwrap_err().to_string();
    assert!(refusal.contains("number 5 was in force") && refusal.contains("is older"), "{refusal}");

    // An attacker on the network replays an old one.
    fixture.publisher.publish(|published| {
        published.issuing = authority.crl(4, &[]);
        published.delta = None;
    });
    fixture.publisher.comes_up().await;
    let asked = fixture.publisher.answers().0;
    eventually("it is taken", || fixture.publisher.answers().0 > asked).await;
    let refused = fixture.client(&fixture.bob).refused(service.address).await.alert();
    assert_eq!(refused, AlertDescription::AccessDenied);
    assert!(matches!(service.live().ready(start()), Err(NotReady::Withheld { .. })));
    assert!(kept.is_settled(5), "the settled number is not lost");

    fixture.publisher.publish(|published| published.issuing = authority.crl(6, &[&fixture.bob]));
    eventually("a newer one is in force", || service.live().ready(start()).is_ok()).await;
    let refused = fixture.client(&fixture.bob).refused(service.address).await.alert();
    assert_eq!(refused, AlertDescription::CertificateRevoked);
    eventually("and settled", || kept.is_settled(6)).await;
}

/// The files are written one after another. A crash may happen between any two writes.
#[tokio::test]
async fn a_crash_between_two_writes_neither_loses_what_was_settled_nor_prevents_a_start() {
    let fixture = Fixture::new().await;
    let Fixture { publisher, authority, bob, kept: first, .. } = &fixture;
    let second = first.copy(authority);
    publisher.publish(|published| {
        published.issuing = authority.crl(10, &[bob]);
        published.delta = Some(authority.delta(11, 10, &[]));
    });
    let mut service = Service::start_in(authority, second.surroundings()).await;
    let tasks = service.keep_current();
    eventually("the second CRLs are kept", || second.is_settled(11)).await;
    drop((service, tasks));
    publisher.goes_down().await;

    let text = fs::read_to_string(&first.settled).unwrap();
    let none = text.split_once(' ').and_then(|(_, rest)| rest.split_once(' ')).unwrap().0;
    let none = format!("0 {none}");
    let none = format!("{none} {}\n", Fingerprint::of(none.as_bytes()).short()).into_bytes();
    let read = |kept: &Kept| [&kept.settled, &kept.complete, &kept.delta].map(|file| fs::read(file).unwrap());
    let [settled_1, complete_1, delta_1] = &read(first);
    let [settled_2, complete_2, delta_2] = &read(&second);
    // The files after each write, and the number that is in force with them.
    let table = [
        (&none, None, None, None),
        (&none, Some(complete_1), None, Some(1)),
        (&none, Some(complete_1), Some(delta_1), Some(5)),
        (settled_1, Some(complete_1), Some(delta_1), Some(5)),
        (settled_1, Some(complete_2), Some(delta_1), Some(10)),
        (settled_1, Some(complete_2), Some(delta_2), Some(11)),
        (settled_2, Some(complete_2), Some(delta_2), Some(11)),
    ];
    // With a feed, a CRL that lacks enforced revocations needs the authority, and the authority is down.
    let nobody: Url = "https://127.0.0.1:1".parse().unwrap();
    let feeds = [None, Some(nobody)];
    for (feed, (settled, complete, delta, number)) in
        feeds.iter().flat_map(|feed| table.iter().map(move |row| (feed, *row)))
    {
        let kept = Kept::new(authority);
        fs::write(&kept.settled, settled).unwrap();
        for (file, contents) in [(&kept.complete, complete), (&kept.delta, delta)] {
            if let Some(contents) = contents {
                fs::write(file, contents).unwrap();
            }
        }
        let surroundings = kept.surroundings();
        let options = Options { feed: feed.clone(), ..surroundings.options() };
        let identity = authority.server("service0").identity();
        let service = Service::with(&identity, authority.root.certificate(), options, surroundings).await;
        let in_force = service.live().freshness()[0].list.map(|list| list.number.get());
        assert_eq!(in_force, number);
        // What is in force is settled, so that the next crash does not lose it.
        assert!(number.is_none_or(|number| kept.is_settled(number)), "{number:?}");
    }
}
