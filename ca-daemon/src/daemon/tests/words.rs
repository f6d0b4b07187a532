//! What relying parties say of themselves, and how far it counts.

use super::*;

/// The name of a service by default, and an identity that was copied: what both have confirmed is enforced, and nothing else.
#[tokio::test]
async fn of_two_relying_parties_with_one_name_none_confirms_for_the_other() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let client = fixture.issue("client_1", 20).await;
    let copied = service(&fixture, "service0", 30).await;
    let others = [&service(&fixture, "service0", 31).await, &copied, &copied];
    let instances = [None, Some("one"), Some("another")];
    let mut peers = Vec::new();
    for (identity, instance) in others.into_iter().zip(instances) {
        let mut peer = daemon.connect(identity, &fixture).await;
        let mut feed = peer.feed().await.unwrap();
        assert_eq!(feed.next().await, Some(1));
        assert_eq!(peer.confirm_as(instance, 1, 0).await, StatusCode::NO_CONTENT);
        peers.push((peer, feed));
    }
    let number = revoke_elsewhere(&fixture, client).await;
    for ((peer, feed), instance) in peers.iter_mut().zip(instances) {
        feed.until(number).await;
        // Not before all of them have said so.
        let mut answers = ask(&fixture, wait(number, 0)).await;
        let enforced = loop {
            match answers.answer().await.unwrap().unwrap() {
                Answer::Enforced { name, .. } => panic!("{name}, {instance:?} has not confirmed"),
                Answer::Missing(missing) => break missing,
                _ => {}
            }
        };
        assert_eq!(enforced.len(), 1);
        assert_eq!(peer.confirm_as(instance, number, 0).await, StatusCode::NO_CONTENT);
    }
    let mut answers = ask(&fixture, wait(number, 60_000)).await;
    while !matches!(answers.answer().await.unwrap().unwrap(), Answer::Enforced { .. }) {}
    daemon.stop().await;
}

#[tokio::test]
async fn a_word_that_is_none_is_refused_and_keeps_no_daemon_from_starting() {
    let fixture = Fixture::new().await;
    let daemon = Running::start(&fixture).await;
    let mut peer = daemon.connect(&service(&fixture, "service0", 30).await, &fixture).await;
    let _feed = peer.feed().await.unwrap();
    for number in ["-1", "-9223372036854775808", "9223372036854775808", "null", "\"1\""] {
        let word =
            format!("{{\"crls\":{{\"{ISSUING}\":{number}}},\"admitsUntil\":null,\"ended\":0,\"openConnections\":0}}");
        assert_eq!(peer.confirm_with(word.into_bytes()).await, StatusCode::BAD_REQUEST, "{number}");
    }
    // What was counted before is added to.
    for ended in [u64::MAX, u64::MAX] {
        assert_eq!(peer.confirm(1, ended).await, StatusCode::NO_CONTENT);
    }
    daemon.stop().await;
    Running::start(&fixture).await.stop().await;
    assert_eq!(execute(&fixture.directory, &Clock::manual(now()), &["--json", "relying-parties"]).await, 0);
}
