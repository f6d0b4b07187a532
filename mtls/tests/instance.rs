//! The registration of a relying party at its authority. An instance that is not registered admits nobody.

use std::{fs, time::Duration};

use mtls::{
    authority::IdentityFiles,
    relying_party::{Options, RelyingParty, RelyingPartyError, Upkeep},
    revocation::{Barrier, LiveSet, NotReady},
    tls::IdentityError,
};
use pki::{certificate::VerifiedId, profile::Profile, time::Timestamp};
use rustls::AlertDescription;
use tokio::task::JoinSet;
use url::Url;

use crate::common::{
    Authority, Client, DAY, Http, Service, Surroundings, eventually,
    example::{crl_files, enrolled},
    feed::FeedServer,
    publisher::Publisher,
    raw::{Frame, RawHttp2},
    start,
};

/// An authority with its CRLs and its feed, and the environment of its service.
struct Fleet {
    publisher: Publisher,
    authority: Authority,
    server: FeedServer,
    surroundings: Surroundings,
}

impl Fleet {
    async fn start() -> Self {
        let publisher = Publisher::start().await;
        let authority = publisher.authority();
        let server = FeedServer::presenting(&authority.own().with_root(&authority)).await;
        Self { publisher, authority, server, surroundings: Surroundings::default() }
    }
}

/// A run of a service in a directory, until it is killed.
struct Run {
    party: RelyingParty,
    tasks: JoinSet<()>,
}

impl Run {
    async fn begin(authority: &Authority, surroundings: &Surroundings, feed: &Url) -> Self {
        let mut party = None;
        // A thread of the previous run may still write its file.
        eventually("the directory is free", || {
            party = new(authority, surroundings, feed).ok();
            party.is_some()
        })
        .await;
        let (party, upkeep) = party.unwrap();
        let tasks = upkeep.start();
        Self { party, tasks }
    }

    /// Ends the run without a goodbye.
    async fn kill(mut self) {
        self.tasks.shutdown().await;
    }

    fn live(&self) -> &LiveSet {
        self.party.live_set()
    }

    fn is_ready(&self, now: Timestamp) -> bool {
        self.live().ready(now).is_ok()
    }

    fn has_lists(&self) -> bool {
        self.live().freshness().iter().all(|list| list.list.is_some())
    }

    fn is_unregistered(&self) -> bool {
        matches!(self.live().ready(start()), Err(NotReady::Barred(Barrier::Unregistered)))
    }

    fn admits(&self, client: &VerifiedId) -> bool {
        self.live().check(std::slice::from_ref(client), start()).is_ok()
    }
}

fn new(
    authority: &Authority,
    surroundings: &Surroundings,
    feed: &Url,
) -> Result<(RelyingParty, Upkeep), RelyingPartyError> {
    let options = Options { feed: Some(feed.clone()), ..surroundings.options() };
    RelyingParty::new(&authority.server("service0").identity(), authority.root.certificate(), options)
}

/// An authority's address at which nothing listens.
fn nowhere() -> Url {
    "https://localhost:1".parse().unwrap()
}

#[tokio::test]
async fn nobody_is_admitted_before_the_registration_or_after_a_goodbye() {
    let (publisher, surroundings) = (Publisher::start().await, Surroundings::default());
    let authority = publisher.authority();
    let client = authority.client("client_1").id();
    let first = Run::begin(&authority, &surroundings, &nowhere()).await;
    eventually("its CRLs are in force", || first.has_lists()).await;
    assert!(first.is_unregistered() && !first.admits(&client), "the authority has never registered it");
    first.party.goodbye().await;
    first.kill().await;

    // It was never registered, so its successor is not either, even though an earlier run ended without a goodbye.
    let second = Run::begin(&authority, &surroundings, &nowhere()).await;
    eventually("its CRLs are in force", || second.has_lists()).await;
    assert!(second.is_unregistered());
    second.kill().await;

    let server = FeedServer::presenting(&authority.own().with_root(&authority)).await;
    let third = Run::begin(&authority, &surroundings, &server.url()).await;
    eventually("it is registered", || third.is_ready(start())).await;
    assert!(third.admits(&client));
    let (id, predecessors) = server.opened_last().unwrap();
    assert_eq!(predecessors.len(), 2, "those that might have been registered");
    third.party.goodbye().await;
    assert_eq!(server.goodbyes(), [id]);
    assert!(third.is_unregistered(), "it admits nobody any more");
    assert!(!surroundings.crl_directory.path().join("instance").exists());
    let feeds = server.requests().0;
    third.kill().await;

    let fourth = Run::begin(&authority, &surroundings, &nowhere()).await;
    eventually("its CRLs are in force", || fourth.has_lists()).await;
    assert!(fourth.is_unregistered());
    assert_eq!(server.requests().0, feeds, "and it did not come back");
}

#[tokio::test]
async fn after_a_crash_it_admits_clients_while_its_predecessor_is_expected_and_replaces_it() {
    let Fleet { publisher: _publisher, authority, server, surroundings } = Fleet::start().await;
    let first = Run::begin(&authority, &surroundings, &server.url()).await;
    let file = surroundings.crl_directory.path().join("instance");
    let lines = |count: usize| fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == count);
    let until = start().plus(DAY).unix().to_string();
    eventually("its CRLs are on its disk", || crl_files(surroundings.crl_directory.path()).len() == 2).await;
    eventually("it has confirmed until when it admits clients", || {
        fs::read_to_string(&file).is_ok_and(|text| text.trim_end().ends_with(&format!(" {until}")))
    })
    .await;
    let (id, _) = server.opened_last().unwrap();
    first.kill().await;

    // While the authority is down, it is covered by the registration of the previous run.
    let second = Run::begin(&authority, &surroundings, &nowhere()).await;
    assert!(second.is_ready(start()) && lines(2));
    second.kill().await;
    let third = Run::begin(&authority, &surroundings, &server.url()).await;
    assert!(third.is_ready(start()), "at once");
    eventually("it is registered", || server.requests().0 == 2).await;
    let (own, predecessors) = server.opened_last().unwrap();
    assert!(predecessors.contains(&id) && predecessors.len() == 2 && own != id);
    eventually("the replaced run is removed", || lines(1)).await;
}

/// It crashes repeatedly while the authority is down.
#[tokio::test]
async fn an_expected_run_is_not_forgotten_for_runs_that_were_never_registered() {
    let Fleet { publisher: _publisher, authority, server, surroundings } = Fleet::start().await;
    let first = Run::begin(&authority, &surroundings, &server.url()).await;
    let file = surroundings.crl_directory.path().join("instance");
    eventually("it has confirmed until when it admits clients", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains(' '))
    })
    .await;
    eventually("it is ready", || first.is_ready(start())).await;
    let (id, _) = server.opened_last().unwrap();
    first.kill().await;
    for _ in 0..20 {
        Run::begin(&authority, &surroundings, &nowhere()).await.kill().await;
    }
    let last = Run::begin(&authority, &surroundings, &server.url()).await;
    assert!(last.is_ready(start()), "while the first is expected");
    eventually("it is registered", || server.requests().0 == 2).await;
    let (_, predecessors) = server.opened_last().unwrap();
    assert!(predecessors.contains(&id) && predecessors.len() == 16, "{predecessors:?}");
}

/// The authority may have received the goodbye, and not expect this run any more. Then the next run must be registered
/// before it admits anybody.
#[tokio::test]
async fn a_goodbye_that_is_not_answered_leaves_no_permission_behind() {
    let Fleet { publisher: _publisher, authority, server, surroundings } = Fleet::start().await;
    let first = Run::begin(&authority, &surroundings, &server.url()).await;
    eventually("it has confirmed", || server.confirmed_last(&authority.client("any").info.crl_urls[0]) == Some(1))
        .await;
    eventually("it is ready", || first.is_ready(start())).await;
    server.lose_goodbyes();
    let (id, _) = server.opened_last().unwrap();
    first.party.goodbye().await;
    assert_eq!(server.goodbyes(), [id]);
    assert!(first.is_unregistered());
    first.kill().await;

    let second = Run::begin(&authority, &surroundings, &nowhere()).await;
    assert!(second.has_lists() && second.is_unregistered());
    second.kill().await;
    let third = Run::begin(&authority, &surroundings, &server.url()).await;
    eventually("it is registered", || third.is_ready(start())).await;
    assert!(server.opened_last().unwrap().1.contains(&id), "in the place of the first, if that is still expected");
}

/// CRLs may still be fetched from elsewhere, but that does not register the instance.
#[tokio::test]
async fn off_the_feed_nobody_is_admitted_after_admits_until() {
    let Fleet { publisher: _publisher, authority, server, surroundings } = Fleet::start().await;
    let run = Run::begin(&authority, &surroundings, &server.url()).await;
    eventually("it has confirmed", || server.confirmed_last(&authority.client("any").info.crl_urls[0]) == Some(1))
        .await;
    eventually("it is ready", || run.is_ready(start())).await;
    drop(server);
    surroundings.clock.set(start().plus(DAY));
    assert!(!run.is_unregistered(), "until then it may");
    surroundings.clock.set(start().plus(DAY).plus(Duration::from_secs(1)));
    eventually("it is not registered any more", || run.is_unregistered()).await;
}

/// The authority's clock is not set back.
#[tokio::test]
async fn admits_until_is_not_later_because_the_clock_was_set_back() {
    let Fleet { publisher, authority, server, surroundings } = Fleet::start().await;
    let run = Run::begin(&authority, &surroundings, &server.url()).await;
    eventually("it has confirmed", || server.confirmed_last(&authority.client("any").info.crl_urls[0]) == Some(1))
        .await;
    eventually("it is ready", || run.is_ready(start())).await;
    drop(server);
    let hour = Duration::from_hours(1);
    surroundings.clock.pass(hour * 23);
    surroundings.clock.set(start());
    // Newer CRLs arrive by polls, and are valid for longer.
    let later = start().plus(DAY * 2);
    publisher.publish(|published| {
        published.issuing = authority.crl_between(2, start(), later, &[]);
        published.root = authority.root_crl_between(2, start(), later, &[]);
    });
    eventually("newer CRLs are in force", || {
        run.live().freshness().iter().all(|of| of.list.is_some_and(|list| list.admits_until == later))
    })
    .await;
    surroundings.clock.pass(hour);
    assert!(run.is_ready(surroundings.clock.now()));
    surroundings.clock.pass(Duration::from_secs(1));
    eventually("it is not registered any more", || run.is_unregistered()).await;
}

/// Polls may still fetch newer CRLs, but those do not extend the time for which the authority expects a service.
#[tokio::test]
async fn open_connections_end_when_the_authority_does_not_expect_the_service_any_more() {
    let (publisher, surroundings) = (Publisher::start().await, Surroundings::default());
    let (authority, clock) = (publisher.authority(), surroundings.clock.clone());
    let server = FeedServer::presenting(&authority.own().with_root(&authority)).await;
    let options = Options { feed: Some(server.url()), ..surroundings.options() };
    let identity = authority.server("service0").identity();
    let mut service = Service::with(&identity, authority.root.certificate(), options, surroundings).await;
    let _tasks = service.keep_current();
    let alice = authority.client("alice");
    eventually("it has confirmed", || server.confirmed_last(&alice.info.crl_urls[0]) == Some(1)).await;
    eventually("it is ready", || service.live().ready(start()).is_ok()).await;
    let client = Client::new(&authority, &alice, Http::Two, &clock);
    let mut streaming = RawHttp2::open(&client, service.address, 1 << 20).await;
    streaming.start(1, "/endless").await;

    drop(server);
    let later = start().plus(DAY * 2);
    publisher.publish(|published| {
        published.issuing = authority.crl_between(2, start(), later, &[]);
        published.root = authority.root_crl_between(2, start(), later, &[]);
    });
    eventually("newer CRLs are in force", || {
        service.live().freshness().iter().all(|of| of.list.is_some_and(|list| list.admits_until == later))
    })
    .await;
    clock.set(start().plus(DAY).plus(Duration::from_secs(1)));
    let said = streaming.rest().await;
    let reason = "the authority does not expect this service any more";
    assert_eq!(said.iter().map(Frame::farewell).collect::<Vec<_>>(), [Some(reason)], "{said:?}");
    assert_eq!(client.refused(service.address).await.alert(), AlertDescription::AccessDenied);
}

/// Without the address there is no feed, and no revocation waits for the service.
#[tokio::test]
async fn a_damaged_address_of_the_authority_is_an_error() {
    let (authority, server) = (Authority::new(), FeedServer::presenting(&Authority::new().own()).await);
    let directory = enrolled(&authority, Some(&server));
    let (files, url) = (IdentityFiles::new(directory.path(), Profile::Server), directory.path().join("ca.url"));
    assert_eq!(files.load().unwrap().unwrap().authority, Some(server.url()));
    for damaged in ["", "\n", "localhost:8440", "http://localhost:8440", "https://"] {
        fs::write(&url, damaged).unwrap();
        let error = files.load().unwrap_err();
        assert!(matches!(&error, IdentityError::Authority(path) if *path == url), "{damaged:?}: {error}");
        assert!(error.to_string().contains("ca.url is damaged"), "{error}");
    }
    fs::remove_file(&url).unwrap();
    assert_eq!(files.load().unwrap().unwrap().authority, None);
}

#[tokio::test]
async fn a_directory_has_one_run() {
    let (publisher, surroundings) = (Publisher::start().await, Surroundings::default());
    let authority = publisher.authority();
    let first = new(&authority, &surroundings, &nowhere()).unwrap();
    let error = new(&authority, &surroundings, &nowhere()).unwrap_err().to_string();
    assert!(error.contains("another process keeps its CRLs in") && error.contains("of its own"), "{error}");
    drop(first);
    assert!(new(&authority, &surroundings, &nowhere()).is_ok());
}

#[tokio::test]
async fn with_a_damaged_or_exposed_instance_file_nobody_is_admitted() {
    use std::os::unix::fs::PermissionsExt as _;
    let (publisher, surroundings) = (Publisher::start().await, Surroundings::default());
    let authority = publisher.authority();
    let file = surroundings.crl_directory.path().join("instance");
    let secret = "A".repeat(43);
    let later = start().plus(DAY).unix();
    for (contents, mode) in [
        (format!("{secret} {later}\n"), 0o644),
        (format!("{secret} soon\n"), 0o600),
        (format!("{} {later}\n", "A".repeat(20)), 0o600),
        (String::new(), 0o600),
    ] {
        fs::write(&file, &contents).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let party = new(&authority, &surroundings, &nowhere()).unwrap();
        assert!(
            matches!(party.0.live_set().ready(start()), Err(NotReady::Barred(Barrier::Unregistered))),
            "{contents}"
        );
    }
    fs::write(&file, format!("{secret} {later}\n")).unwrap();
    let party = new(&authority, &surroundings, &nowhere()).unwrap();
    assert!(!matches!(party.0.live_set().ready(start()), Err(NotReady::Barred(_))), "this one is intact");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}
