//! What happens to clients when the CRL becomes stale: they are refused at once or after a grace. And what is logged.

use std::time::Duration;

use mtls::revocation::{InstallError, NotReady, OnStaleCrl, Stale};
use pki::time::Timestamp;
use rustls::AlertDescription;

use crate::common::{Authority, Client, DAY, Http, Issued, Log, Service, Surroundings, eventually, keep_crl, start};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const BEGINS: [&str; 3] = ["WARN", "CRL stale", "Fleet Issuing CA"];
const ENDS: [&str; 3] = ["INFO", "CRL current again", "Fleet Issuing CA"];

fn next_update() -> Timestamp {
    start().plus(DAY)
}

/// A service whose CRL is valid until [`next_update`] and revokes one client. Returns the service, a valid client and
/// the revoked one.
async fn fixture(authority: &Authority, on_stale_crl: OnStaleCrl) -> (Service, Issued, Issued) {
    let service = Service::start_in(authority, Surroundings { on_stale_crl, ..Surroundings::default() }).await;
    let (good, revoked) = (authority.client("good_1"), authority.client("revoked_1"));
    service.install(&authority.root_crl(1, &[]));
    service.install(&authority.crl(1, &[&revoked]));
    (service, good, revoked)
}

#[tokio::test]
async fn clients_are_refused_at_once_or_when_the_grace_is_over_and_the_revoked_always() {
    let grace = Stale::JudgedUntil(next_update().plus(HOUR));
    // The result for a client, by the time after nextUpdate, with and without an hour of grace.
    let table = [
        (Duration::ZERO, None, None),
        (SECOND, Some(Stale::Refused), Some(grace)),
        (HOUR, Some(Stale::Refused), Some(grace)),
        (HOUR + SECOND, Some(Stale::Refused), Some(Stale::Refused)),
    ];
    let authority = Authority::new();
    for (on_stale_crl, has_grace) in [(OnStaleCrl::Refuse, false), (OnStaleCrl::Grace(HOUR), true)] {
        let (service, good, revoked) = fixture(&authority, on_stale_crl).await;
        // A new client each time, so that none resumes a session.
        let client = |issued| Client::new(&authority, issued, Http::Two, &service.clock);
        let mut open = client(&good).open(service.address).await;
        for (after, without, with) in table {
            service.clock.set(next_update().plus(after));
            let expected = if has_grace { with } else { without };
            let case = format!("{on_stale_crl:?}, {after:?} after nextUpdate");

            let ready = match service.live().ready(service.clock.now()) {
                Ok(()) => None,
                Err(NotReady::StaleCrl { since, clients, .. }) if since == next_update() => Some(clients),
                Err(error) => panic!("{case}: {error}"),
            };
            assert_eq!(ready, expected, "{case}");
            if expected == Some(Stale::Refused) {
                assert_eq!(
                    client(&good).refused(service.address).await.alert(),
                    AlertDescription::AccessDenied,
                    "{case}"
                );
                assert_eq!(open.get().await.unwrap().problem().kind, "/problems/no-fresh-crl", "{case}");
            } else {
                assert_eq!(client(&good).get(service.address).await.status, 200, "{case}");
                assert_eq!(open.get().await.unwrap().status, 200, "{case}");
            }
            let alert = client(&revoked).refused(service.address).await.alert();
            assert_eq!(alert, AlertDescription::CertificateRevoked, "{case}");
        }
    }
}

/// A stale CRL is logged once when it begins and once when it ends, however many clients are refused meanwhile.
#[tokio::test]
async fn staleness_begins_and_ends_with_one_line_each() {
    let authority = Authority::new();
    for (on_stale_crl, clients) in [
        (OnStaleCrl::Refuse, "clients=refused".to_owned()),
        (OnStaleCrl::Grace(HOUR), format!("clients=judged by the stale CRL until {}", next_update().plus(HOUR))),
    ] {
        let log = Log::capture();
        let (mut service, good, _) = fixture(&authority, on_stale_crl).await;
        let _tasks = service.keep_current();
        for round in 1..=2_u32 {
            let mut open = Client::new(&authority, &good, Http::Two, &service.clock).open(service.address).await;
            assert_eq!(open.get().await.unwrap().status, 200);
            let stale = service.live().freshness()[0].list.unwrap().next_update;
            service.clock.set(stale.plus(SECOND));
            eventually("it is noticed", || log.lines(&BEGINS).len() == round as usize).await;
            service.clock.set(stale.plus(HOUR * 2));
            for _ in 0..10 {
                let client = Client::new(&authority, &good, Http::Two, &service.clock);
                client.refused(service.address).await;
            }
            eventually("the open connection ends", || open.is_closed()).await;
            let begun = log.lines(&BEGINS);
            assert_eq!(begun.len(), round as usize, "{begun:?}");
            assert!(begun.last().unwrap().contains(&format!("since={stale}")), "{begun:?}");
            assert!(log.lines(&ENDS).len() < round as usize);

            let number = i64::from(round) + 1;
            service.install(&authority.crl_between(number, stale.plus(HOUR), stale.plus(DAY), &[]));
            eventually("it is noticed", || log.lines(&ENDS).len() == round as usize).await;
            for _ in 0..10 {
                assert_eq!(
                    Client::new(&authority, &good, Http::One, &service.clock).get(service.address).await.status,
                    200
                );
            }
        }
        assert_eq!((log.lines(&BEGINS).len(), log.lines(&ENDS).len()), (2, 2), "{:?}", log.lines(&["CRL"]));
        assert!(log.lines(&BEGINS)[0].contains(&clients), "{:?}", log.lines(&BEGINS));
        assert_eq!(log.lines(&["INFO", "connections ended"]).len(), 2, "a line for each connection");
    }
}

/// A restart during an outage changes nothing.
#[tokio::test]
async fn a_service_that_starts_with_a_stale_crl_has_the_remaining_grace() {
    let authority = Authority::new();
    let surroundings = Surroundings { on_stale_crl: OnStaleCrl::Grace(HOUR), ..Surroundings::default() };
    let (good, revoked) = (authority.client("good_1"), authority.client("revoked_1"));
    let last = authority.crl(5, &[&revoked]);
    let (directory, issuing) = (surroundings.crl_directory.path(), authority.issuing.info());
    keep_crl(directory, &issuing.crl_urls[0], authority.root.info(), 1, &authority.root_crl(1, &[]));
    keep_crl(directory, &good.info.crl_urls[0], issuing, 5, &last);
    surroundings.clock.set(next_update().plus(HOUR));
    let log = Log::capture();
    let mut service = Service::start_in(&authority, surroundings).await;
    let _tasks = service.keep_current();
    eventually("it is noticed", || log.has(&BEGINS)).await;
    assert!(service.live().ready(service.clock.now()).is_err());
    let client = |issued| Client::new(&authority, issued, Http::Two, &service.clock);
    assert_eq!(client(&good).get(service.address).await.status, 200);
    assert_eq!(client(&revoked).refused(service.address).await.alert(), AlertDescription::CertificateRevoked);

    // The grace is for a CRL that was in force. A new CRL must be current.
    let install = |crl: &[u8]| service.live().install(crl, service.clock.now());
    assert!(matches!(install(&authority.crl(6, &[])), Err(InstallError::Stale { .. })));
    let lower = authority.crl_between(4, next_update(), next_update().plus(DAY), &[]);
    assert!(matches!(install(&lower), Err(InstallError::LowerNumber { .. })));

    service.clock.set(next_update().plus(HOUR).plus(SECOND));
    assert_eq!(client(&good).refused(service.address).await.alert(), AlertDescription::AccessDenied);
    assert_eq!(client(&revoked).refused(service.address).await.alert(), AlertDescription::CertificateRevoked);
    assert_eq!(log.lines(&BEGINS).len(), 1, "{:?}", log.lines(&["CRL"]));
}
