//! Which CRLs the live set accepts, and how it decides meanwhile.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use mtls::revocation::{InstallError, Installed, LiveSet, Refusal};
use pki::{
    certificate::{IssuerId, VerifiedId},
    crl::{CrlNumber, CrlVerifyError},
    serial::Serial,
    time::Timestamp,
};

use crate::common::{
    Authority, DAY, Issued,
    authority::{altered, serial, sign_crl},
    start,
};

const SECOND: Duration = Duration::from_secs(1);

fn live(authority: &Authority) -> LiveSet {
    LiveSet::new(authority.crl_issuers())
}

fn number(live: &LiveSet) -> Option<i64> {
    live.freshness()[0].list.map(|list| list.number.get())
}

fn ids(issued: &Issued) -> Vec<VerifiedId> {
    vec![issued.id()]
}

#[test]
fn a_higher_number_replaces_and_a_lower_or_equal_one_does_not() {
    let authority = Authority::new();
    let (live, revoked) = (live(&authority), authority.client("revoked_1"));
    let seven = authority.crl(7, &[&revoked]);
    let issuer = IssuerId::of(authority.issuing.info());
    let number = CrlNumber::new(7).unwrap();
    let replaced = Installed::Replaced { issuer, number, revoked: 1, ended: 0, delta_url: None };
    assert_eq!(live.install(&seven, start()), Ok(replaced));
    assert_eq!(live.install(&seven, start()), Ok(Installed::Unchanged));
    let error = live.install(&authority.crl(7, &[]), start()).unwrap_err();
    assert!(matches!(error, InstallError::OtherList { .. }) && error.to_string().contains("--resign"), "{error}");
    for number in [0, 1, 6] {
        let error = live.install(&authority.crl(number, &[]), start()).unwrap_err();
        assert!(matches!(error, InstallError::LowerNumber { .. }), "{error}");
        assert!(matches!(live.restore(&authority.crl(number, &[])), Err(InstallError::LowerNumber { .. })));
    }
    assert_eq!(live.check(&ids(&revoked), start()), Err(Refusal::Revoked(revoked.id())));
    let far = authority.crl(i64::MAX, &[]);
    assert!(live.install(&far, start()).is_ok() && live.install(&seven, start()).is_err());
    assert_eq!(live.check(&ids(&revoked), start()), Ok(()), "a CRL has all revocations");
}

#[test]
fn crls_without_a_number_are_ordered_by_this_update_and_then_by_their_entries() {
    let authority = Authority::new();
    let (live, one, two) = (live(&authority), authority.client("revoked_1"), authority.client("revoked_2"));
    let install = |this_update: Timestamp, revoked: &[&Issued]| {
        let list = authority.crl_between(1, this_update, this_update.plus(DAY), revoked);
        // The extensions are its last field, and the number is one of them.
        let list = altered(&authority, &list, |fields| drop(fields.pop()));
        live.install(&list, start())
    };
    let replaced = |result| matches!(result, Ok(Installed::Replaced { .. }));
    assert!(replaced(install(start().minus(SECOND), &[])));
    assert_eq!(number(&live), Some(start().minus(SECOND).unix()));
    assert!(replaced(install(start(), &[&one])));
    assert!(matches!(install(start().minus(SECOND), &[]), Err(InstallError::LowerNumber { .. })));
    // Two CRLs of one second: no revocation is taken back.
    assert!(replaced(install(start(), &[&one, &two])));
    for fewer in [&[][..], &[&one], &[&two]] {
        assert!(matches!(install(start(), fewer), Err(InstallError::OtherList { .. })));
    }
    for revoked in [&one, &two] {
        assert_eq!(live.check(&ids(revoked), start()), Err(Refusal::Revoked(revoked.id())));
    }
    assert!(replaced(install(start().plus(SECOND), &[&two])));
    assert_eq!(live.check(&ids(&one), start()), Ok(()), "a later CRL has all revocations");
}

#[test]
fn a_refused_crl_changes_nothing() {
    let authority = Authority::new();
    let (live, revoked) = (live(&authority), authority.client("revoked_1"));
    live.install(&authority.crl(1, &[&revoked]), start()).unwrap();

    let good = authority.crl(2, &[]);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut longer = good.clone();
    longer.push(0);
    let bad = [
        forged,
        longer,
        Authority::new().crl(2, &[]),
        Authority::named("Elsewhere", "http://127.0.0.1:1").crl(2, &[]),
        // The root signs its own CRL, and not that of the authority below it.
        authority.issuing.certificate().to_vec(),
        b"<html>not found</html>".to_vec(),
        pki::pem::crl(&good).into_bytes(),
        Vec::new(),
    ];
    for bad in bad {
        assert!(matches!(live.install(&bad, start()), Err(InstallError::Verify(_))));
        assert!(matches!(live.restore(&bad), Err(InstallError::Verify(_))));
    }
    for length in 0..good.len() {
        assert!(matches!(live.install(&good[..length], start()), Err(InstallError::Verify(_))), "cut at {length}");
    }
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 0x04;
        assert!(matches!(live.install(&damaged, start()), Err(InstallError::Verify(_))), "changed at {at}");
    }
    assert_eq!(number(&live), Some(1));
    assert_eq!(live.check(&ids(&revoked), start()), Err(Refusal::Revoked(revoked.id())));
}

#[test]
fn a_crl_has_to_be_current() {
    let authority = Authority::new();
    let live = live(&authority);
    let crl = |this_update: Timestamp| authority.crl_between(1, this_update, this_update.plus(DAY), &[]);
    let skew = Duration::from_mins(1);
    let early = live.install(&crl(start().plus(skew).plus(SECOND)), start());
    assert!(matches!(early, Err(InstallError::NotYetValid { .. })), "{early:?}");
    let late = live.install(&crl(start().minus(DAY).minus(SECOND)), start());
    assert!(matches!(late, Err(InstallError::Stale { .. })), "{late:?}");
    assert_eq!(number(&live), None);
    assert!(live.ready(start()).is_err());
    assert!(live.install(&crl(start().plus(skew)), start()).is_ok(), "clocks may differ by a minute");
    let last = authority.crl_between(2, start().minus(DAY), start(), &[]);
    assert!(live.install(&last, start()).is_ok(), "nextUpdate itself is included");
}

#[test]
fn a_stale_crl_is_restored_for_its_number_and_admits_nobody() {
    let authority = Authority::new();
    let (live, client) = (live(&authority), authority.client("client_1"));
    let stale = authority.crl_between(9, start().minus(DAY * 2), start().minus(DAY), &[]);
    assert!(matches!(live.restore(&stale), Ok(Installed::Replaced { .. })));
    let refusal = live.check(&ids(&client), start()).unwrap_err();
    assert!(matches!(refusal, Refusal::StaleCrl { since, .. } if since == start().minus(DAY)), "{refusal}");
    assert!(matches!(live.install(&authority.crl(8, &[]), start()), Err(InstallError::LowerNumber { .. })));
    assert!(live.install(&authority.crl(10, &[]), start()).is_ok());
    assert_eq!(live.check(&ids(&client), start()), Ok(()));
}

#[test]
fn each_issuer_has_its_own_crl_and_all_are_needed() {
    let authority = Authority::new();
    let (live, client) = (live(&authority), authority.client("client_1"));
    let chain = [client.id(), authority.issuing_id()];
    live.install(&authority.crl(50, &[]), start()).unwrap();
    assert!(
        matches!(live.check(&chain, start()), Err(Refusal::NoCrl(issuer)) if issuer == *authority.crl_issuers()[1].id())
    );
    assert!(live.ready(start()).is_err());
    assert!(live.install(&authority.root_crl(1, &[]), start()).is_ok(), "numbers of two issuers are not compared");
    assert_eq!(live.check(&chain, start()), Ok(()));
    assert_eq!(live.ready(start()), Ok(()));
    live.install(&authority.root_crl(2, &[chain[1].serial]), start()).unwrap();
    assert_eq!(live.check(&chain, start()), Err(Refusal::Revoked(chain[1].clone())));
    assert_eq!(live.check(&chain[..1], start()), Ok(()));

    let stranger = Authority::named("Elsewhere", "http://127.0.0.1:1").client("stranger_1");
    assert!(matches!(live.check(&ids(&stranger), start()), Err(Refusal::NoCrl(_))));
    let nobody = LiveSet::new(Vec::new());
    assert_eq!(nobody.install(&authority.crl(1, &[]), start()), Err(CrlVerifyError::NoIssuer.into()));
    assert!(nobody.check(&ids(&client), start()).is_err());
}

/// Each CRL revokes one more certificate than the one before it, and they arrive at once in any order. Concurrent
/// checks must never see a certificate readmitted.
#[test]
fn the_highest_number_wins_whatever_the_order() {
    const LISTS: u64 = 48;
    let authority = Authority::new();
    let live = live(&authority);
    let issuer = IssuerId::of(authority.issuing.info());
    let id = |number| VerifiedId { issuer: issuer.clone(), serial: serial(1_000_000 + number) };
    let serials: Vec<Serial> = (1..=LISTS).map(|number| id(number).serial).collect();
    let lists: Vec<_> = (1..=LISTS)
        .map(|number| {
            let revoked = &serials[..usize::try_from(number).unwrap()];
            sign_crl(&authority.issuing, i64::try_from(number).unwrap(), start(), start().plus(DAY), revoked)
        })
        .collect();
    live.install(&lists[0], start()).unwrap();

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut revoked = 1;
                while !done.load(Ordering::Acquire) {
                    let now =
                        (revoked..=LISTS).take_while(|number| live.check(&[id(*number)], start()).is_err()).count();
                    assert!(now > 0, "number {revoked} was readmitted");
                    revoked += u64::try_from(now).unwrap() - 1;
                    assert!(live.check(&[id(1)], start()).is_err());
                }
            });
        }
        let writers: Vec<_> = (0..6)
            .map(|writer| {
                let (live, lists) = (&live, &lists);
                scope.spawn(move || {
                    // Seven and 48 have no common divisor, so each writer installs all CRLs, starting with a different
                    // one.
                    for step in 0..lists.len() {
                        let _ = live.install(&lists[(writer * 11 + step * 7) % lists.len()], start());
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(number(&live), i64::try_from(LISTS).ok());
    assert!((1..=LISTS).all(|number| live.check(&[id(number)], start()).is_err()));
}

/// After a restore, an authority may reuse a number.
#[test]
fn two_crls_with_one_number_are_distinguished_whatever_their_kind() {
    let authority = Authority::new();
    let (one, two) = (authority.client("one_1"), authority.client("two_1"));
    let other = |result: Result<Installed, InstallError>| matches!(result, Err(InstallError::OtherList { .. }));

    let live = live(&authority);
    live.install(&authority.crl(1, &[]), start()).unwrap();
    let delta = authority.delta(5, 1, &[&one]);
    live.install_delta(&delta, start()).unwrap();
    assert_eq!(live.install_delta(&delta, start()), Ok(Installed::Unchanged));
    assert_eq!(live.install_delta(&authority.delta(5, 1, &[&one]), start()), Ok(Installed::Unchanged), "signed again");
    for revoked in [&[&two][..], &[], &[&one, &two]] {
        assert!(other(live.install_delta(&authority.delta(5, 1, revoked), start())), "{}", revoked.len());
    }
    assert!(other(live.install(&authority.crl(5, &[&two]), start())), "it would readmit a revoked client");
    assert_eq!(live.check(&ids(&one), start()), Err(Refusal::Revoked(one.id())));
    assert!(live.install(&authority.crl(5, &[&one]), start()).is_ok(), "the same CRL, complete");
    assert_eq!(live.install_delta(&delta, start()), Ok(Installed::Unchanged), "the complete one has the same entries");
    assert!(other(live.install_delta(&authority.delta(5, 1, &[&two]), start())));
    assert_eq!(number(&live), Some(5));
}

/// The complete CRL may have been published after the delta that it was fetched for.
#[test]
fn a_complete_crl_that_is_newer_than_the_delta_is_in_force_with_its_own_number_and_dates() {
    let authority = Authority::new();
    let live = live(&authority);
    let delta = authority.delta_between(11, 10, start(), start().plus(DAY / 2), &[]);
    let complete = authority.crl(12, &[]);
    live.install_with_delta(&complete, &delta, start()).unwrap();
    assert_eq!(number(&live), Some(12));
    assert_eq!(live.freshness()[0].list.map(|list| list.admits_until), Some(start().plus(DAY)));
}

/// A delta repeats the revocations since its base, and a later complete CRL contains them already.
#[test]
fn an_entry_of_both_base_and_delta_is_counted_once() {
    let authority = Authority::new();
    let live = live(&authority);
    let [one, two, three] = ["one_1", "two_1", "three_1"].map(|name| authority.client(name));
    let counted = |installed: Result<Installed, InstallError>| match installed {
        Ok(Installed::Replaced { revoked, .. }) => (revoked, live.freshness()[0].list.unwrap().revoked),
        other => panic!("{other:?}"),
    };
    assert_eq!(counted(live.install(&authority.crl(2, &[&one, &two]), start())), (2, 2));
    assert_eq!(counted(live.install_delta(&authority.delta(3, 1, &[&one, &two, &three]), start())), (3, 3));
    assert_eq!(counted(live.install(&authority.crl(4, &[&one, &two, &three]), start())), (3, 3));
    let delta = authority.delta(5, 1, &[&one, &three]);
    assert_eq!(counted(live.install_delta(&delta, start())), (3, 3));
}
