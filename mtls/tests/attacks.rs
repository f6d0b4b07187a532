//! CRLs of an attacker. Each is refused for the right reason and logged once, and the CRL in force does not change.
//! This covers complete CRLs and deltas.

use std::time::Duration;

use mtls::{
    relying_party::{CrlLocations, Options, RelyingParty},
    revocation::{InstallError, Installed, LiveSet, Location, Refusal},
};
use pki::time::Timestamp;

use crate::common::{
    Authority, DAY, Issued, Log, Surroundings,
    authority::{Founding, add_entry_extension, add_extension, altered, extension},
    eventually,
    feed::FeedServer,
    publisher::Publisher,
    start,
};

const HOUR: Duration = Duration::from_hours(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Complete,
    /// To the complete CRL number 1.
    Delta,
}

/// An authority that signs CRLs of one kind.
#[derive(Clone, Copy)]
struct Signer<'a> {
    kind: Kind,
    authority: &'a Authority,
}

impl Signer<'_> {
    fn list(self, number: i64, revoked: &[&Issued]) -> Vec<u8> {
        self.list_between(number, start(), start().plus(DAY), revoked)
    }

    fn list_between(self, number: i64, this_update: Timestamp, next_update: Timestamp, revoked: &[&Issued]) -> Vec<u8> {
        match self.kind {
            Kind::Complete => self.authority.crl_between(number, this_update, next_update, revoked),
            Kind::Delta => self.authority.delta_between(number, 1, this_update, next_update, revoked),
        }
    }

    fn install(self, live: &LiveSet, list: &[u8]) -> Result<Installed, InstallError> {
        match self.kind {
            Kind::Complete => live.install(list, start()),
            Kind::Delta => live.install_delta(list, start()),
        }
    }
}

/// A name, a CRL that is offered while the CRL with number `.0` is in force, and a part of the reason for its refusal.
type Attack = (&'static str, fn(Signer<'_>, i64) -> Vec<u8>, &'static str);

const OF_BOTH_KINDS: &[Attack] = &[
    ("forged: a bit of the signature", |signer, n| flip_last(signer.list(n + 1, &[])), "signature"),
    (
        "forged: another key, same name",
        |signer, n| signer_of("Fleet", signer).list(n + 1, &[]),
        "signature does not match",
    ),
    ("of another authority", |signer, n| signer_of("Elsewhere", signer).list(n + 1, &[]), "was issued by"),
    ("replayed: one less", |signer, n| signer.list(n - 1, &[]), "is lower than"),
    ("replayed: much older", |signer, _| signer.list(1, &[]), "is lower than"),
    ("cut: one byte", |signer, n| signer.list(n + 1, &[])[..1].to_vec(), "it ends early"),
    ("cut: within the header", |signer, n| signer.list(n + 1, &[])[..12].to_vec(), "not a CRL"),
    ("cut: in the middle", |signer, n| half(&signer.list(n + 1, &[])), "not a CRL"),
    ("cut: the last byte", |signer, n| without_last(&signer.list(n + 1, &[])), "not a CRL"),
    ("continued", |signer, n| [signer.list(n + 1, &[]), vec![0]].concat(), "bytes after the end"),
    ("expired", |signer, n| signer.list_between(n + 1, start().minus(DAY), start().minus(HOUR), &[]), "was stale"),
    (
        "from the future",
        |signer, n| signer.list_between(n + 1, start().plus(HOUR), start().plus(DAY), &[]),
        "not valid before",
    ),
    (
        "indirect: in the extension",
        |signer, n| with_extension(signer, n, &extension(28, true, INDIRECT)),
        "critical extension",
    ),
    (
        "partial, and not critical",
        |signer, n| with_extension(signer, n, &extension(28, false, ONLY_USERS)),
        "critical extension",
    ),
    ("indirect: an entry of another authority", with_entry_of_another_authority, "critical extension"),
    (
        "unknown critical extension",
        |signer, n| with_extension(signer, n, &extension(99, true, b"?")),
        "critical extension",
    ),
    ("garbage", |_, _| b"garbage".to_vec(), "not a CRL"),
    ("a web page", |_, _| b"<html>not found</html>".to_vec(), "not a CRL"),
    ("nothing", |_, _| Vec::new(), "it ends early"),
];

const OF_COMPLETE: &[Attack] = &[
    ("the same number, another CRL", |signer, n| signer.list(n, &[]), "is another list"),
    ("a delta in its place", |signer, n| signer.authority.delta(n + 1, 1, &[]), "critical extension"),
];

const OF_DELTAS: &[Attack] = &[
    ("a complete CRL in its place", |signer, n| signer.authority.crl(n + 1, &[]), "a delta CRL was expected"),
    ("takes a revocation back", with_removal, "removes the entry"),
];

/// `issuingDistributionPoint` with `indirectCRL`, and with `onlyContainsUserCerts` (RFC 5280 section 5.2.5).
const INDIRECT: &[u8] = &[0x30, 0x03, 0x84, 0x01, 0xff];
const ONLY_USERS: &[u8] = &[0x30, 0x03, 0x81, 0x01, 0xff];

fn signer_of<'a>(name: &str, signer: Signer<'_>) -> Signer<'a> {
    Signer { authority: Box::leak(Box::new(Authority::named(name, "http://127.0.0.1:1"))), ..signer }
}

fn flip_last(mut list: Vec<u8>) -> Vec<u8> {
    *list.last_mut().unwrap() ^= 1;
    list
}

fn half(list: &[u8]) -> Vec<u8> {
    list[..list.len() / 2].to_vec()
}

fn without_last(list: &[u8]) -> Vec<u8> {
    list[..list.len() - 1].to_vec()
}

fn with_extension(signer: Signer<'_>, number: i64, extension: &[u8]) -> Vec<u8> {
    altered(signer.authority, &signer.list(number + 1, &[]), |fields| add_extension(fields, extension))
}

fn with_entry_of_another_authority(signer: Signer<'_>, number: i64) -> Vec<u8> {
    let list = signer.list(number + 1, &[&signer.authority.client("other_1")]);
    altered(signer.authority, &list, |fields| add_entry_extension(fields, &extension(29, true, &[0x30, 0x00])))
}

fn with_removal(signer: Signer<'_>, number: i64) -> Vec<u8> {
    let list = signer.list(number + 1, &[&signer.authority.client("other_1")]);
    altered(signer.authority, &list, |fields| add_entry_extension(fields, &extension(21, false, &[0x0a, 0x01, 0x08])))
}

fn number(relying_party: &RelyingParty) -> i64 {
    relying_party.live_set().freshness()[0].list.map_or(0, |list| list.number.get())
}

async fn attacks_fail(kind: Kind, attacks: impl IntoIterator<Item = &Attack>) {
    let (publisher, surroundings, log) = (Publisher::start().await, Surroundings::default(), Log::capture());
    let authority = publisher.authority_of(Founding { has_delta: kind == Kind::Delta, ..Founding::default() });
    let revoked = authority.client("revoked_1");
    let signer = Signer { kind, authority: &authority };
    let publish = |list: Vec<u8>| {
        publisher.publish(|published| match kind {
            Kind::Complete => published.issuing = list,
            Kind::Delta => published.delta = Some(list),
        });
    };
    let identity = authority.server("service0").identity();
    let (relying_party, upkeep) =
        RelyingParty::new(&identity, authority.root.certificate(), surroundings.options()).unwrap();
    let _tasks = upkeep.start();
    let live = relying_party.live_set().clone();

    for (round, (name, attack, why)) in (1..).zip(attacks) {
        let in_force = round * 10;
        let good = signer.list(in_force, &[&revoked]);
        publish(good.clone());
        eventually(name, || number(&relying_party) == in_force).await;
        assert_eq!(signer.install(&live, &good), Ok(Installed::Unchanged), "{name}: what is in force, again");

        let attack = attack(signer, in_force);
        let error = signer.install(&live, &attack).expect_err(name).to_string();
        assert!(error.contains(why), "{name}: {error}");
        let logged = || log.lines(&["WARN", "CRL refused, the old one stays in force", why]).len();
        let before = logged();
        publish(attack);
        eventually(name, || logged() == before + 1).await;
        assert_eq!(number(&relying_party), in_force, "{name}");
        let chain = [revoked.id()];
        assert_eq!(live.check(&chain, start()), Err(Refusal::Revoked(revoked.id())), "{name}");
    }
}

#[tokio::test]
async fn every_bad_complete_crl_is_refused() {
    attacks_fail(Kind::Complete, OF_BOTH_KINDS.iter().chain(OF_COMPLETE)).await;
}

#[tokio::test]
async fn every_bad_delta_is_refused() {
    attacks_fail(Kind::Delta, OF_BOTH_KINDS.iter().chain(OF_DELTAS)).await;
}

/// An attacker on the network can replace one CRL from a plain HTTP server by another, and both are signed. The number
/// of one must not be confirmed for the other.
#[tokio::test]
async fn the_crl_of_one_authority_is_refused_at_the_location_of_another() {
    let (publisher, log) = (Publisher::start().await, Log::capture());
    let authority = publisher.authority();
    let server = FeedServer::presenting(&authority.own().with_root(&authority)).await;
    let identity = authority.server("service0").identity();
    let [roots, issuings] = [&authority.issuing.info().crl_urls[0], &authority.client("any").info.crl_urls[0]];
    let refused = || [issuings, roots].map(|url| log.lines(&["WARN", "CRL refused", "was issued by", url]).len());
    // The CRLs come from the distribution points, or from configured locations.
    let given = [issuings, roots].map(|url| Location::Url(url.parse().unwrap()));
    for (round, crls) in [(1, CrlLocations::DistributionPoints), (2, CrlLocations::Given(given.into()))] {
        let number = i64::try_from(round * 2).unwrap();
        let surroundings = Surroundings::default();
        let options = Options { feed: Some(server.url()), crls, ..surroundings.options() };
        let (relying_party, upkeep) = RelyingParty::new(&identity, authority.root.certificate(), options).unwrap();
        let _tasks = upkeep.start();
        let live = relying_party.live_set();
        eventually("its CRLs are in force", || live.ready(start()).is_ok()).await;
        eventually("they are confirmed", || {
            server.confirmed_last(issuings).is_some() && server.confirmed_last(roots).is_some()
        })
        .await;

        publisher.publish(|published| {
            published.issuing = authority.root_crl(100, &[]);
            published.root = authority.crl(200, &[]);
        });
        server.announce(&[(issuings, number), (roots, number)]);
        eventually("both are refused", || refused() == [round, round]).await;
        let before = server.requests().1;
        eventually("it continues to confirm", || {
            server.announce(&[(issuings, number), (roots, number)]);
            server.requests().1 > before + 1
        })
        .await;
        assert!(server.confirmed(issuings) < Some(number) && server.confirmed(roots) < Some(number));

        publisher.publish(|published| {
            published.issuing = authority.crl(number, &[]);
            published.root = authority.root_crl(number, &[]);
        });
        eventually("the right ones are confirmed", || {
            server.confirmed_last(issuings) == Some(number) && server.confirmed_last(roots) == Some(number)
        })
        .await;
    }
}

/// If the base of a delta is not present, the complete CRL is fetched at once, and both are put in force together.
#[tokio::test]
async fn the_complete_crl_is_fetched_for_a_delta_without_its_base() {
    let (publisher, surroundings, log) = (Publisher::start().await, Surroundings::default(), Log::capture());
    let authority = publisher.authority_of(Founding { has_delta: true, ..Founding::default() });
    let (one, two, three) = (authority.client("one_1"), authority.client("two_1"), authority.client("three_1"));
    let identity = authority.server("service0").identity();
    let (relying_party, upkeep) =
        RelyingParty::new(&identity, authority.root.certificate(), surroundings.options()).unwrap();
    let _tasks = upkeep.start();
    let live = relying_party.live_set().clone();
    let is_revoked = |issued: &Issued| live.check(std::slice::from_ref(&issued.id()), start()).is_err();
    publisher.publish(|published| published.delta = Some(authority.delta(2, 1, &[&one])));
    eventually("the delta is in force", || number(&relying_party) == 2).await;
    assert!(is_revoked(&one) && !is_revoked(&two));

    let delta = authority.delta(11, 10, &[&three]);
    let missing = live.install_delta(&delta, start());
    assert!(matches!(missing, Err(InstallError::MissingBase { base, .. }) if base.get() == 10), "{missing:?}");

    // If that complete CRL is refused, neither is put in force.
    publisher.publish(|published| {
        published.issuing = flip_last(authority.crl(10, &[&one, &two]));
        published.delta = Some(delta);
    });
    eventually("it is logged", || log.has(&["CRL refused", "signature"])).await;
    assert!(number(&relying_party) == 2 && is_revoked(&one) && !is_revoked(&three));

    publisher.publish(|published| published.issuing = authority.crl(10, &[&one, &two]));
    eventually("both are in force", || number(&relying_party) == 11).await;
    assert!(is_revoked(&one) && is_revoked(&two) && is_revoked(&three));
}
