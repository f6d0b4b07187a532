//! How CRLs are fetched, stored and restored, with a server that the test controls.

use std::{fs, time::Duration};

use mtls::{relying_party::RelyingParty, revocation::LiveSet};
use rustls::AlertDescription;
use tokio::task::JoinSet;

use crate::common::{
    Authority, Client, DAY, Http, Log, Service, Surroundings,
    authority::Founding,
    eventually,
    example::crl_files,
    publisher::{Mode, Publisher},
    start,
};

fn relying_party(authority: &Authority, surroundings: &Surroundings) -> (RelyingParty, JoinSet<()>) {
    let identity = authority.server("service0").identity();
    let (relying_party, upkeep) =
        RelyingParty::new(&identity, authority.root.certificate(), surroundings.options()).unwrap();
    let keepers = upkeep.start();
    (relying_party, keepers)
}

/// The number and the entries of the issuing CA's CRL.
fn in_force(relying_party: &RelyingParty) -> Option<(i64, usize)> {
    relying_party.live_set().freshness()[0].list.map(|list| (list.number.get(), list.revoked))
}

#[tokio::test]
async fn a_crl_is_fetched_once_and_a_new_one_at_once() {
    let publisher = Publisher::start().await;
    let (authority, surroundings) = (publisher.authority(), Surroundings::default());
    let (relying_party, _keepers) = relying_party(&authority, &surroundings);
    eventually("the first CRLs are in force", || relying_party.live_set().ready(start()).is_ok()).await;
    let unchanged = publisher.answers().1;
    eventually("it continues to fetch", || publisher.answers().1 > unchanged + 3).await;
    assert_eq!(publisher.answers().0, 1, "an unchanged CRL is not sent again");

    let revoked = authority.client("revoked_1");
    publisher.publish(|published| published.issuing = authority.crl(2, &[&revoked]));
    eventually("the second CRL is in force", || in_force(&relying_party) == Some((2, 1))).await;
    eventually("it continues to fetch", || publisher.answers().1 > unchanged + 6).await;
    assert_eq!(publisher.answers().0, 2);
}

#[tokio::test]
async fn an_outage_is_two_lines_in_the_log_and_nothing_else() {
    let mut publisher = Publisher::start().await;
    let (authority, surroundings, log) = (publisher.authority(), Surroundings::default(), Log::capture());
    let (relying_party, _keepers) = relying_party(&authority, &surroundings);
    eventually("the first CRLs are in force", || relying_party.live_set().ready(start()).is_ok()).await;

    for mode in [Mode::Unavailable, Mode::Broken] {
        let failed = publisher.answers().2;
        publisher.publish(|published| published.mode = mode);
        // An unchanged CRL has no body that could break off.
        let number = in_force(&relying_party).unwrap().0 + 1;
        publisher.publish(|published| published.issuing = authority.crl(number, &[]));
        eventually("it fails several times", || publisher.answers().2 > failed + 3).await;
        assert_eq!(in_force(&relying_party), Some((number - 1, 0)));
        publisher.publish(|published| published.mode = Mode::Normal);
        eventually("the next CRL is in force", || in_force(&relying_party) == Some((number, 0))).await;
    }
    assert_eq!(log.lines(&["WARN", "no CRL can be fetched", "/issuing.crl"]).len(), 2, "{:?}", log.lines(&[]));
    eventually("its end is logged", || log.lines(&["INFO", "CRLs can be fetched again", "/issuing.crl"]).len() == 2)
        .await;

    publisher.goes_down().await;
    eventually("it is noticed", || log.lines(&["no CRL can be fetched", "/issuing.crl"]).len() == 3).await;
    publisher.publish(|published| published.issuing = authority.crl(10, &[]));
    publisher.comes_up().await;
    eventually("the newest CRL is in force", || in_force(&relying_party) == Some((10, 0))).await;
    assert_eq!(log.lines(&["no CRL can be fetched", "/issuing.crl"]).len(), 3);
}

#[tokio::test]
async fn after_a_refused_crl_the_old_one_stays_in_force_and_on_disk() {
    let publisher = Publisher::start().await;
    let (authority, surroundings, log) = (publisher.authority(), Surroundings::default(), Log::capture());
    let revoked = authority.client("revoked_1");
    publisher.publish(|published| published.issuing = authority.crl(5, &[&revoked]));
    let (relying_party, _keepers) = relying_party(&authority, &surroundings);
    eventually("the first CRLs are in force", || relying_party.live_set().ready(start()).is_ok()).await;
    eventually("they are kept", || crl_files(surroundings.crl_directory.path()).len() == 2).await;
    let lower = authority.crl(4, &[]);
    let forged = Authority::new().crl(6, &[]);
    for (bad, why) in [(lower, "is lower than 5"), (forged, "signature"), (b"garbage".to_vec(), "not a CRL")] {
        let asked = publisher.answers().0;
        publisher.publish(|published| published.issuing = bad);
        eventually("it fetches repeatedly", || publisher.answers().0 > asked + 3).await;
        assert_eq!(in_force(&relying_party), Some((5, 1)));
        assert_eq!(log.lines(&["WARN", "CRL refused", why]).len(), 1, "{:?}", log.lines(&[]));
    }
    let kept = LiveSet::new(authority.crl_issuers());
    for file in crl_files(surroundings.crl_directory.path()) {
        kept.restore(&fs::read(file).unwrap()).unwrap();
    }
    assert_eq!(kept.freshness()[0].list.unwrap().number.get(), 5);
}

/// A CRL that was refused because this machine's clock is behind must be accepted once the clock is right, even if the
/// authority has published nothing new.
#[tokio::test]
async fn a_crl_from_the_future_is_accepted_when_its_time_has_come() {
    let publisher = Publisher::start().await;
    let (authority, surroundings, log) = (publisher.authority(), Surroundings::default(), Log::capture());
    let tomorrow = start().plus(DAY);
    publisher.publish(|published| published.issuing = authority.crl_between(1, tomorrow, tomorrow.plus(DAY), &[]));
    let (relying_party, _keepers) = relying_party(&authority, &surroundings);
    eventually("it is refused", || log.has(&["CRL refused", "is not valid before"])).await;
    assert!(relying_party.live_set().ready(start()).is_err());
    surroundings.clock.set(tomorrow);
    eventually("it is in force", || relying_party.live_set().ready(tomorrow).is_ok()).await;
}

#[tokio::test]
async fn a_service_starts_with_the_last_good_crls_while_the_authority_is_down() {
    let publisher = Publisher::start().await;
    let (authority, surroundings) = (publisher.authority(), Surroundings::default());
    let (good, revoked) = (authority.client("good_1"), authority.client("revoked_1"));
    publisher.publish(|published| published.issuing = authority.crl(2, &[&revoked]));
    let (first, keepers) = relying_party(&authority, &surroundings);
    eventually("the CRLs are in force", || first.live_set().ready(start()).is_ok()).await;
    eventually("they are kept", || crl_files(surroundings.crl_directory.path()).len() == 2).await;
    let mut expected = Vec::new();
    publisher.publish(|published| expected.clone_from(&published.issuing));
    assert!(crl_files(surroundings.crl_directory.path()).iter().any(|file| fs::read(file).unwrap() == expected));
    drop((first, keepers));
    publisher.goes_down().await;

    let mut second = Service::start_in(&authority, surroundings.clone()).await;
    let _keepers = second.keep_current();
    let client = |issued| Client::new(&authority, issued, Http::Two, &surroundings.clock);
    assert_eq!(client(&good).get(second.address).await.status, 200);
    assert_eq!(client(&revoked).refused(second.address).await.alert(), AlertDescription::CertificateRevoked);
    assert!(second.live().install(&authority.crl(1, &[]), start()).is_err(), "a number never goes down");

    // A day later the CRL is stale: it is still present, and admits nobody.
    surroundings.clock.set(start().plus(DAY).plus(Duration::from_secs(1)));
    let third = Service::start_in(&authority, surroundings.clone()).await;
    assert_eq!(client(&good).refused(third.address).await.alert(), AlertDescription::AccessDenied);
    assert_eq!(client(&revoked).refused(third.address).await.alert(), AlertDescription::CertificateRevoked);
}

/// The next start needs the complete CRL that a delta adds to. It could not be written at first.
#[tokio::test]
async fn a_crl_that_could_not_be_written_is_written_with_the_next_one() {
    let (publisher, surroundings, log) = (Publisher::start().await, Surroundings::default(), Log::capture());
    let authority = publisher.authority_of(Founding { has_delta: true, ..Founding::default() });
    let (one, two) = (authority.client("one_1"), authority.client("two_1"));
    publisher.publish(|published| published.delta = Some(authority.delta(2, 1, &[])));
    let (relying_party, _keepers) = relying_party(&authority, &surroundings);
    eventually("the first CRLs are in force", || in_force(&relying_party) == Some((2, 0))).await;
    let directory = surroundings.crl_directory.path();
    eventually("they are kept", || crl_files(directory).len() == 3).await;

    // A directory was replaced by a file.
    let aside = directory.with_extension("aside");
    fs::rename(directory, &aside).unwrap();
    fs::write(directory, "").unwrap();
    publisher.publish(|published| {
        published.issuing = authority.crl(10, &[&one]);
        published.delta = Some(authority.delta(11, 10, &[]));
    });
    eventually("they are in force", || in_force(&relying_party) == Some((11, 1))).await;
    publisher.publish(|published| published.delta = Some(authority.delta(12, 10, &[&two])));
    eventually("it is in force", || in_force(&relying_party) == Some((12, 2))).await;
    fs::remove_file(directory).unwrap();
    fs::rename(&aside, directory).unwrap();
    eventually("it is logged", || log.has(&["INFO", "kept for the next start again"])).await;
    assert_eq!(log.lines(&["WARN", "cannot be kept for the next start"]).len(), 1, "{:?}", log.lines(&["WARN"]));

    let identity = authority.server("service0").identity();
    let (next, _upkeep) = RelyingParty::new(&identity, authority.root.certificate(), surroundings.options()).unwrap();
    assert_eq!(in_force(&next), Some((12, 2)));
}

/// The delta was fetched, and does not change any more. Its base arrives later.
#[tokio::test]
async fn a_delta_is_not_lost_while_its_complete_crl_cannot_be_fetched() {
    let (publisher, surroundings, log) = (Publisher::start().await, Surroundings::default(), Log::capture());
    let authority = publisher.authority_of(Founding { has_delta: true, ..Founding::default() });
    let (one, two) = (authority.client("one_1"), authority.client("two_1"));
    publisher.publish(|published| published.delta = Some(authority.delta(2, 1, &[])));
    let (relying_party, _keepers) = relying_party(&authority, &surroundings);
    eventually("the first CRLs are in force", || in_force(&relying_party) == Some((2, 0))).await;

    let failed = publisher.answers().2;
    publisher.publish(|published| {
        published.mode = Mode::WithoutComplete;
        published.issuing = authority.crl(10, &[&one]);
        published.delta = Some(authority.delta(11, 10, &[&two]));
    });
    eventually("it fetches repeatedly", || publisher.answers().2 > failed + 3).await;
    assert_eq!(in_force(&relying_party), Some((2, 0)));
    publisher.publish(|published| published.mode = Mode::Normal);
    eventually("both are in force", || in_force(&relying_party) == Some((11, 2))).await;
    eventually("the outage is over", || log.has(&["INFO", "CRLs can be fetched again"])).await;
    assert_eq!(log.lines(&["WARN", "no CRL can be fetched"]).len(), 1, "{:?}", log.lines(&["CRL"]));
}

/// With many revocations, the complete CRL is signed later than the delta.
#[tokio::test]
async fn an_older_complete_crl_is_not_logged_as_an_attack_while_the_delta_cannot_be_fetched() {
    let (publisher, surroundings, log) = (Publisher::start().await, Surroundings::default(), Log::capture());
    let authority = publisher.authority_of(Founding { has_delta: true, ..Founding::default() });
    let (one, two) = (authority.client("one_1"), authority.client("two_1"));
    publisher.publish(|published| published.delta = Some(authority.delta(5, 1, &[&one])));
    let (relying_party, _keepers) = relying_party(&authority, &surroundings);
    eventually("the delta is in force", || in_force(&relying_party) == Some((5, 1))).await;

    let (whole, unchanged, _) = publisher.answers();
    publisher.publish(|published| {
        published.mode = Mode::WithoutDelta;
        published.issuing = authority.crl(3, &[]);
    });
    eventually("it fetches repeatedly", || publisher.answers().1 > unchanged + 3).await;
    assert_eq!(publisher.answers().0, whole + 1, "an older CRL is not sent repeatedly");
    assert_eq!(in_force(&relying_party), Some((5, 1)));
    assert!(!log.has(&["CRL refused"]), "{:?}", log.lines(&["CRL"]));
    assert_eq!(log.lines(&["WARN", "no CRL can be fetched"]).len(), 1, "{:?}", log.lines(&["CRL"]));

    // The complete CRL has caught up, and replaces the delta. This is logged.
    publisher.publish(|published| published.issuing = authority.crl(6, &[&one, &two]));
    eventually("the complete CRL is in force", || in_force(&relying_party) == Some((6, 2))).await;
    eventually("it is logged", || log.has(&["WARN", "the delta cannot be fetched, so the complete CRL is"])).await;
    publisher.publish(|published| {
        published.mode = Mode::Normal;
        published.delta = Some(authority.delta(7, 6, &[]));
    });
    eventually("the delta is in force", || in_force(&relying_party) == Some((7, 2))).await;
    eventually("it is logged", || log.lines(&["INFO", "the delta can be fetched again"]).len() == 1).await;
    assert!(!log.has(&["CRL refused"]), "{:?}", log.lines(&["CRL"]));
}
