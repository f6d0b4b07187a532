//! Instances of relying parties: which are expected to confirm, for which a confirmation counts, and how they leave.

use super::*;

/// The result of a wait: which instances enforce the CRL, and which are missing.
async fn waited(fixture: &Fixture, number: i64, timeout_millis: u64) -> (Vec<InstanceId>, Vec<InstanceId>) {
    let mut answers = ask(fixture, wait(number, timeout_millis)).await;
    let mut enforced = Vec::new();
    loop {
        match answers.next().await.unwrap().unwrap() {
            Confirmed::Enforced { party, .. } => enforced.push(party.instance),
            Confirmed::Missing(missing) => {
                return (enforced, missing.into_iter().map(|party| party.instance).collect());
            }
            _ => {}
        }
    }
}

async fn until_connected(fixture: &Fixture, count: usize) {
    while relying_parties(fixture).await.iter().filter(|party| party.connected_since.is_some()).count() != count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An instance that is on the feed and enforces the first CRL.
async fn settled(daemon: &Running, fixture: &Fixture, identity: &Identity) -> (Peer, Lines) {
    let mut peer = daemon.connect(identity, fixture).await;
    let feed = peer.feed().await.unwrap();
    assert_eq!(peer.confirm(1, 0).await, StatusCode::NO_CONTENT);
    (peer, feed)
}

/// A replacement with another certificate of the same name, or with a copy of the certificate.
#[tokio::test]
async fn a_vanished_instance_is_expected_even_if_another_has_its_name() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let (one, two) = (service(&fixture, "service0", 30).await, service(&fixture, "service0", 31).await);
    let (vanished, feed) = settled(&daemon, &fixture, &one).await;
    let id = vanished.id();
    drop((vanished, feed));
    until_connected(&fixture, 0).await;
    let mut others = Vec::new();
    for identity in [&two, &one] {
        others.push(settled(&daemon, &fixture, identity).await);
    }
    let client = fixture.issue("client_1", 20).await;
    let number = revoke_elsewhere(&fixture, client).await;
    for (peer, _) in &mut others {
        assert_eq!(peer.confirm(number, 0).await, StatusCode::NO_CONTENT);
    }
    let (enforced, missing) = waited(&fixture, number, 0).await;
    assert!(enforced.len() == 2 && !enforced.contains(&id), "{enforced:?}");
    assert_eq!(missing, [id], "no other instance confirms for it");
    let command = ["--json", "revoke", "client_1", "--wait", "0s"];
    assert_eq!(execute(&fixture.directory, &daemon.clock, &command).await, 5);

    // The operator forgets it. Connected instances stay.
    let forget = async |id: Option<&str>| {
        let all = ["--json", "relying-parties", "forget", "service0"];
        let one: Vec<_> = id.iter().flat_map(|id| ["--instance", id]).collect();
        execute(&fixture.directory, &daemon.clock, &[&all[..], &one].concat()).await
    };
    assert_eq!(forget(Some(&others[0].0.id().to_string())).await, 4, "it is connected");
    assert_eq!(forget(Some("0123456789abcdef")).await, 3);
    assert_eq!(forget(Some("")).await, 4, "which one?");
    assert_eq!(forget(Some(&id.short())).await, 0);
    assert_eq!(forget(None).await, 4, "all are connected");
    assert_eq!(execute(&fixture.directory, &daemon.clock, &command).await, 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_confirmation_needs_a_feed_and_counts_for_one_instance() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let (one, two) = (service(&fixture, "service0", 30).await, service(&fixture, "service0", 31).await);
    let (mut honest, _feed) = settled(&daemon, &fixture, &one).await;
    let id = honest.id();
    let client = fixture.issue("client_1", 20).await;
    let number = revoke_elsewhere(&fixture, client).await;
    // Without a feed; with another certificate and the same secret, if that were known; and with forty instances.
    let mut thief = daemon.connect(&two, &fixture).await;
    assert_eq!(thief.confirm(number, 0).await, StatusCode::FORBIDDEN);
    let mut feeds = vec![thief.feed().await.unwrap()];
    thief.secret = honest.secret.clone();
    assert_eq!(thief.confirm(number, 0).await, StatusCode::FORBIDDEN);
    assert_eq!(thief.answer_roll_call(1, 0).await, StatusCode::FORBIDDEN);
    assert_eq!(thief.goodbye().await, StatusCode::FORBIDDEN);
    let mut refused = 0;
    for octet in 0..40 {
        thief.secret = Secret::from_bytes([octet; 32]);
        match thief.feed().await {
            Ok(feed) => {
                assert_eq!(thief.confirm(number, 0).await, StatusCode::NO_CONTENT);
                feeds.push(feed);
            }
            Err((status, body)) => {
                assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
                assert!(body.contains("/problems/too-many-instances") && body.contains("forget service0"), "{body}");
                refused += 1;
            }
        }
    }
    assert_eq!((feeds.len(), refused), (32, 9), "a bound for each certificate");
    let (_, missing) = waited(&fixture, number, 0).await;
    assert!(missing.contains(&id), "the honest one was not pushed out");
    assert_eq!(honest.confirm(number, 0).await, StatusCode::NO_CONTENT);
    let (_, missing) = waited(&fixture, number, 0).await;
    assert!(!missing.contains(&id));
    // Without a secret, there is no instance.
    for path in [FEED_PATH, CONFIRM_PATH, GOODBYE_PATH] {
        let method = if path == FEED_PATH { "GET" } else { "POST" };
        let request = Request::builder().method(method).uri(format!("https://localhost{path}"));
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let body = "{\"crls\":{},\"admitsUntil\":null,\"ended\":0,\"openConnections\":0}";
        let request = request.body(Full::from(body.as_bytes().to_vec())).unwrap();
        assert_eq!(honest.sender.send_request(request).await.unwrap().status(), StatusCode::BAD_REQUEST, "{path}");
    }
    honest.predecessors = (0..20).map(|octet| Secret::from_bytes([octet; 32])).collect();
    assert_eq!(honest.feed().await.err().map(|(status, _)| status), Some(StatusCode::BAD_REQUEST));
    daemon.stop().await;
}

/// A rolling update: two instances under one name for a while, then the old one ends.
#[tokio::test]
async fn a_goodbye_removes_an_instance_at_once_and_durably() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let (one, two) = (service(&fixture, "service0", 30).await, service(&fixture, "service0", 31).await);
    let (mut old, mut old_feed) = settled(&daemon, &fixture, &one).await;
    let (mut new, _feed) = settled(&daemon, &fixture, &two).await;
    let client = fixture.issue("client_1", 20).await;
    let number = revoke_elsewhere(&fixture, client).await;
    assert_eq!(new.confirm(number, 0).await, StatusCode::NO_CONTENT);
    // A command that waits for it stops waiting.
    let (waited_for, said) = tokio::join!(waited(&fixture, number, 60_000), async {
        while old_feed.next().await != Some(number) {}
        old.goodbye().await
    });
    assert_eq!((waited_for, said), ((vec![new.id()], Vec::new()), StatusCode::NO_CONTENT));
    let known: Vec<_> = fixture.authority.store().relying_parties().await.unwrap();
    assert_eq!(known.iter().map(|party| party.instance).collect::<Vec<_>>(), [new.id()], "before the answer");
    while old_feed.next().await.is_some() {}
    assert_eq!(old.confirm(number, 0).await, StatusCode::FORBIDDEN);
    daemon.stop().await;
}

/// `kill -9` of the daemon at the worst moment.
#[tokio::test]
async fn a_registration_is_durable_before_it_is_answered() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let one = service(&fixture, "service0", 30).await;
    let mut peer = daemon.connect(&one, &fixture).await;
    let _feed = peer.feed().await.unwrap();
    let known = fixture.authority.store().relying_parties().await.unwrap();
    assert_eq!(
        known.iter().map(|party| (party.instance, party.connected_since)).collect::<Vec<_>>(),
        [(peer.id(), Some(now()))]
    );
    daemon.kill().await;
    // Its last confirmation was not stored, so it counts as if it had the newest CRL.
    let daemon = Running::start(&fixture).await;
    let known = relying_parties(&fixture).await;
    assert_eq!(
        known.iter().map(|party| (party.instance, party.connected_since)).collect::<Vec<_>>(),
        [(peer.id(), None)]
    );
    let client = fixture.issue("client_1", 20).await;
    let number = revoke_elsewhere(&fixture, client).await;
    assert_eq!(waited(&fixture, number, 0).await, (Vec::new(), vec![peer.id()]));
    daemon.stop().await;
}

#[tokio::test]
async fn after_a_kill_the_stored_state_is_not_too_optimistic() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let one = service(&fixture, "service0", 30).await;
    let (mut peer, _feed) = settled(&daemon, &fixture, &one).await;
    assert_eq!(peer.confirm_until(1, 0, now().plus(Duration::from_hours(1))).await, StatusCode::NO_CONTENT);
    while fixture.authority.store().relying_parties().await.unwrap()[0].admits_until
        != Some(now().plus(Duration::from_hours(1)))
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    daemon.kill().await;
    let daemon = Running::start(&fixture).await;
    // The newest CRL is valid for a day, and the instance has a grace of one minute.
    let until = now().plus(Duration::from_hours(24)).plus(Duration::from_mins(1));
    assert_eq!(relying_parties(&fixture).await[0].admits_until, Some(until));
    daemon.stop().await;
}

#[tokio::test]
async fn a_successor_proves_whose_place_it_takes() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let (one, other) = (service(&fixture, "service0", 30).await, service(&fixture, "service0", 31).await);
    let mut crashed = Vec::new();
    for _ in 0..3 {
        let (peer, feed) = settled(&daemon, &fixture, &one).await;
        crashed.push(peer.secret.clone());
        drop((peer, feed));
    }
    let (stranger, feed) = settled(&daemon, &fixture, &other).await;
    let stranger_id = stranger.id();
    drop((stranger, feed));
    until_connected(&fixture, 0).await;
    assert_eq!(relying_parties(&fixture).await.len(), 4);
    let mut successor = daemon.connect(&one, &fixture).await;
    successor.predecessors = crashed;
    let (_feed, standing) = successor.feed_and_standing().await.unwrap();
    assert_eq!(standing, "");
    let mut known: Vec<_> = fixture.authority.store().relying_parties().await.unwrap();
    known.sort_by_key(|party| party.instance != stranger_id);
    assert_eq!(known.iter().map(|party| party.instance).collect::<Vec<_>>(), [stranger_id, successor.id()], "durable");
    daemon.stop().await;
}

/// Two instances of one directory: the first one stays, although the copy has its secrets.
#[tokio::test]
async fn an_instance_whose_directory_was_copied_stays() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let one = service(&fixture, "service0", 30).await;
    let (mut original, feed) = settled(&daemon, &fixture, &one).await;
    let mut copy = daemon.connect(&one, &fixture).await;
    copy.predecessors = vec![original.secret.clone()];
    let (_copys_feed, standing) = copy.feed_and_standing().await.unwrap();
    assert_eq!(standing, original.id().to_string(), "the answer shows that its claim does not count");
    assert_eq!(copy.confirm(1, 0).await, StatusCode::NO_CONTENT);
    assert_eq!(relying_parties(&fixture).await.len(), 2);
    // A message from it arrives, so it is alive; then it is cut off.
    assert_eq!(original.confirm(1, 0).await, StatusCode::NO_CONTENT);
    let id = original.id();
    drop((original, feed));
    until_connected(&fixture, 1).await;
    let client = fixture.issue("client_1", 20).await;
    let number = revoke_elsewhere(&fixture, client).await;
    assert_eq!(copy.confirm(number, 0).await, StatusCode::NO_CONTENT);
    assert_eq!(waited(&fixture, number, 0).await, (vec![copy.id()], vec![id]));
    daemon.stop().await;
}

/// After its machine crashed, a stream may look open for a while.
#[tokio::test]
async fn a_predecessor_is_removed_when_its_stream_ends() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let one = service(&fixture, "service0", 30).await;
    let (crashed, feed) = settled(&daemon, &fixture, &one).await;
    let mut successor = daemon.connect(&one, &fixture).await;
    successor.predecessors = vec![crashed.secret.clone()];
    let (_feed, standing) = successor.feed_and_standing().await.unwrap();
    assert_eq!(standing, crashed.id().to_string());
    drop((crashed, feed));
    while relying_parties(&fixture).await.len() != 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(relying_parties(&fixture).await[0].instance, successor.id());
    daemon.stop().await;
}

#[tokio::test]
async fn a_disconnected_instance_is_removed_after_its_admits_until() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let one = service(&fixture, "service0", 30).await;
    let (mut peer, feed) = settled(&daemon, &fixture, &one).await;
    let until = now().plus(Duration::from_hours(1));
    assert_eq!(peer.confirm_until(1, 0, until).await, StatusCode::NO_CONTENT);
    daemon.clock.set(until.plus(Duration::from_mins(2)));
    assert_eq!(relying_parties(&fixture).await.len(), 1, "it is connected");
    drop((peer, feed));
    daemon.clock.set(until);
    until_connected(&fixture, 0).await;
    assert_eq!(relying_parties(&fixture).await.len(), 1);
    daemon.clock.set(until.plus(Duration::from_mins(2)));
    assert_eq!(relying_parties(&fixture).await, []);
    daemon.stop().await;
}

#[tokio::test]
async fn closed_connections_are_counted_once() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let one = service(&fixture, "service0", 30).await;
    let mut clients = Vec::new();
    for octet in 20..24 {
        clients.push(fixture.issue(&format!("client_{octet}"), octet).await);
    }
    let ended = async |number: i64, peer: &mut Peer, totals: &[u64]| {
        let mut answers = ask(&fixture, wait(number, 60_000)).await;
        assert_eq!(answers.next().await.unwrap(), Some(Confirmed::Announced));
        let mut said = Vec::new();
        for total in totals {
            said.push(peer.confirm(number, *total).await);
        }
        assert!(said.iter().all(|status| *status == StatusCode::NO_CONTENT));
        loop {
            match answers.next().await.unwrap().unwrap() {
                Confirmed::Enforced { enforced, .. } => break enforced.ended,
                Confirmed::RelyingParties(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let (mut peer, mut feed) = settled(&daemon, &fixture, &one).await;
    let number = revoke_elsewhere(&fixture, clients[0]).await;
    feed.until(number).await;
    // The reply to the first was lost, so it sends the same again.
    assert_eq!(peer.confirm(number, 3).await, StatusCode::NO_CONTENT);
    assert_eq!(peer.confirm(number, 3).await, StatusCode::NO_CONTENT);
    let next = revoke_elsewhere(&fixture, clients[1]).await;
    assert_eq!(ended(next, &mut peer, &[4]).await, Some(1));
    // A previous daemon has already counted these.
    daemon.stop().await;
    let daemon = Running::start(&fixture).await;
    let secret = peer.secret;
    let mut peer = Peer { secret, ..daemon.connect(&one, &fixture).await };
    let _feed = peer.feed().await.unwrap();
    let after = revoke_elsewhere(&fixture, clients[2]).await;
    assert_eq!(peer.confirm(next, 4).await, StatusCode::NO_CONTENT);
    assert_eq!(ended(after, &mut peer, &[6]).await, Some(2));
    daemon.stop().await;
}

#[tokio::test]
async fn an_instance_with_a_revoked_certificate_is_marked_and_not_waited_for() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let one = service(&fixture, "service0", 30).await;
    let (peer, mut feed) = settled(&daemon, &fixture, &one).await;
    assert_eq!(feed.next().await, Some(1));
    let number = revoke_elsewhere(&fixture, one.info().id.serial).await;
    let mut heard = Vec::new();
    while let Some(announced) = feed.next().await {
        heard.push(announced);
    }
    assert_eq!(heard.last(), Some(&number), "it receives the reason before its feed ends");
    drop(peer);
    assert_eq!(waited(&fixture, number, 60_000).await, (Vec::new(), Vec::new()));
    assert!(relying_parties(&fixture).await[0].certificate_revoked);
    let revoke = ["--json", "revoke", "service0", "--wait", "1m"];
    assert_eq!(execute(&fixture.directory, &daemon.clock, &revoke).await, 0);
    daemon.stop().await;
    let known = fixture.authority.store().relying_parties().await.unwrap();
    assert!(known[0].certificate_revoked, "also without a daemon");
}

#[tokio::test]
async fn holders_without_a_known_instance_are_named() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let one = service(&fixture, "service0", 30).await;
    let (mut peer, _feed) = settled(&daemon, &fixture, &one).await;
    let _ = fixture.issue("client_1", 20).await;
    let holders = crate::cli::tests::unknown_holders(&fixture.authority, now()).await;
    assert_eq!(holders, Vec::<String>::new(), "neither the authority itself, nor who is on the feed, nor clients");
    let silent = service(&fixture, "service1", 31).await;
    let holders = crate::cli::tests::unknown_holders(&fixture.authority, now()).await;
    assert_eq!(holders, ["service1"]);
    // No instance confirms anything; the connected ones enforce the first CRL.
    let revoke = ["--json", "revoke", "client_1", "--no-wait"];
    assert_eq!(execute(&fixture.directory, &daemon.clock, &revoke).await, 0);
    let number = fixture.published().await.0;
    assert_eq!(peer.confirm(number.get(), 0).await, StatusCode::NO_CONTENT);
    let again = ["--json", "revoke", "client_1", "--wait", "1m"];
    assert_eq!(execute(&fixture.directory, &daemon.clock, &again).await, 0);
    let strict = ["--json", "revoke", "client_1", "--wait", "1m", "--require-all"];
    assert_eq!(execute(&fixture.directory, &daemon.clock, &strict).await, 5);
    fixture.authority.revoke(&[silent.info().id.serial], RevocationReason::Unspecified, now()).await.unwrap();
    let number = fixture.authority.store().newest(Issuer::Issuing).await.unwrap().number;
    assert_eq!(peer.confirm(number.get(), 0).await, StatusCode::NO_CONTENT);
    assert_eq!(execute(&fixture.directory, &daemon.clock, &strict).await, 0);
    daemon.stop().await;
}

/// A number that this database never used changes nothing, except that the instance is marked.
#[tokio::test]
async fn a_false_claim_marks_its_instance_and_changes_nothing_else() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let (one, two) = (service(&fixture, "service0", 30).await, service(&fixture, "service1", 31).await);
    let (mut honest, _feed) = settled(&daemon, &fixture, &one).await;
    let (mut liar, _liars_feed) = settled(&daemon, &fixture, &two).await;
    for number in [5_000_000_000, i64::MAX] {
        assert_eq!(liar.confirm(number, 0).await, StatusCode::CONFLICT, "that list is wanted");
        let claims: Vec<_> = relying_parties(&fixture).await.iter().map(|party| party.claims).collect();
        assert_eq!(claims, [None, CrlNumber::new(number)]);
    }
    assert!(daemon.operations("metrics").await.contains("\nca_relying_party_claims 1\n"));
    assert!(daemon.operations("readyz").await.starts_with("HTTP/1.1 200"));
    let later = now().plus(Duration::from_hours(9));
    tasks::publish_due(&fixture.authority, Contact::Full, later).await.unwrap();
    let number = fixture.published().await.0.get();
    assert!(number > 1 && number < 5_000_000_000, "lists are published as ever, under numbers as ever: {number}");
    assert_eq!(honest.confirm(number, 0).await, StatusCode::NO_CONTENT);
    let (enforced, missing) = waited(&fixture, number, 0).await;
    assert_eq!((enforced, missing), (vec![honest.id()], vec![liar.id()]));
    assert_eq!(liar.confirm(number, 0).await, StatusCode::NO_CONTENT);
    assert!(daemon.operations("metrics").await.contains("\nca_relying_party_claims 0\n"));
    daemon.stop().await;
}

/// Its row stays after its stream has ended: until it receives the revocation, it may admit the same clients.
#[tokio::test]
async fn an_instance_whose_certificate_is_revoked_during_a_wait_is_reported() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let one = service(&fixture, "service0", 30).await;
    let (peer, _feed) = settled(&daemon, &fixture, &one).await;
    let client = fixture.issue("client_1", 20).await;
    let number = revoke_elsewhere(&fixture, client).await;
    let mut answers = ask(&fixture, wait(number, 60_000)).await;
    assert_eq!(answers.next().await.unwrap(), Some(Confirmed::Announced));
    assert!(matches!(answers.next().await.unwrap(), Some(Confirmed::RelyingParties(parties)) if parties.len() == 1));
    revoke_elsewhere(&fixture, one.info().id.serial).await;
    let Some(Confirmed::Missing(missing)) = answers.next().await.unwrap() else { panic!("no instance confirms") };
    let [missing] = missing.as_slice() else { panic!("{missing:?}") };
    assert!(missing.certificate_revoked && missing.instance == peer.id());
    daemon.stop().await;
}

/// An instance that proves that it takes a place does not need a free one.
#[tokio::test]
async fn a_crashed_instance_comes_back_at_the_limit() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let one = service(&fixture, "service0", 30).await;
    let mut crashed = Vec::new();
    for _ in 0..32 {
        let (peer, feed) = settled(&daemon, &fixture, &one).await;
        drop(feed);
        crashed.push(peer.secret);
    }
    until_connected(&fixture, 0).await;
    let mut another = daemon.connect(&one, &fixture).await;
    assert_eq!(another.feed().await.err().unwrap().0, StatusCode::TOO_MANY_REQUESTS);
    another.predecessors = vec![crashed[7].clone()];
    assert!(another.feed().await.is_ok());
    daemon.stop().await;
}

/// What an older copy has about an instance may be over, although the instance continued with later CRLs.
#[tokio::test]
async fn a_silent_instance_is_expected_while_an_earlier_crl_may_be_valid() {
    let fixture = Fixture::new().await;
    let one = service(&fixture, "service0", 30).await;
    let secret = Secret::from_bytes([1; 32]);
    let (record, _) = super::restored::known(&one, 1);
    let until = now().minus(Duration::from_hours(48));
    let record = RelyingParty { admits_until: Some(until), instance: InstanceId::of(&secret), ..record };
    fixture.authority.store().record_relying_parties(&[record], &[]).await.unwrap();
    let daemon = Running::start(&fixture).await;
    let client = fixture.issue("client_1", 20).await;
    let revoke = ["--json", "revoke", "client_1", "--wait", "0s"];
    let _ = client;
    assert_eq!(execute(&fixture.directory, &daemon.clock, &revoke).await, 5);
    assert_eq!(relying_parties(&fixture).await[0].admits_until, Some(now().plus(Duration::from_hours(24))));
    daemon.clock.set(now().plus(Duration::from_hours(25)));
    assert_eq!(relying_parties(&fixture).await, []);
    daemon.stop().await;
}

/// The daemon sends the missing instances last. If it is killed before that, the instances that confirmed meanwhile are
/// unknown.
#[tokio::test]
async fn a_daemon_that_ends_during_a_wait_reports_no_missing_instances() {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let fixture = Fixture::new().await;
    let _ = fixture.issue("client_1", 20).await;
    let listener = tokio::net::UnixListener::bind(fixture.directory.socket()).unwrap();
    let killed = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        BufReader::new(&mut stream).read_line(&mut String::new()).await.unwrap();
        for answer in [Confirmed::Announced, Confirmed::RelyingParties(Vec::new())] {
            let line = serde_json::to_string(&answer).unwrap() + "\n";
            stream.write_all(line.as_bytes()).await.unwrap();
        }
    });
    let revoke = ["--json", "revoke", "client_1", "--wait", "1m"];
    assert_eq!(execute(&fixture.directory, &Clock::manual(now()), &revoke).await, 5);
    killed.await.unwrap();
}
