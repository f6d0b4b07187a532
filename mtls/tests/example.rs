//! The example of the library's documentation, run as a program.

use edge::clock::Clock;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use rustls::AlertDescription;

use crate::common::{
    Client, Http, Issued,
    authority::Founding,
    eventually,
    example::{Example, crl_files, enrolled},
    feed::FeedServer,
    publisher::Publisher,
};

#[tokio::test]
async fn the_example_serves_and_ends_the_connection_of_a_revoked_client() {
    let (publisher, clock) = (Publisher::start().await, Clock::system());
    // The example uses the machine's clock.
    let authority = publisher.authority_of(Founding { now: clock.now(), ..Founding::default() });
    let own = authority.own().with_root(&authority);
    let feed = FeedServer::presenting(&own).await;
    let list = authority.client("any").info.crl_urls[0].clone();
    // A revocation is permanent.
    let mut all_revoked = Vec::new();
    for (number, feed) in [(2, None), (3, Some(feed))] {
        let directory = enrolled(&authority, feed.as_ref());
        let example = Example::start(directory.path(), &[]);
        let (good, revoked) = (authority.client("client_1"), authority.client("client_2"));
        let client = |issued: &Issued| Client::new(&authority, issued, Http::Two, &clock);
        eventually("its CRLs are there", || crl_files(directory.path()).len() == 2).await;
        eventually("it is registered", || feed.as_ref().is_none_or(|feed| feed.requests().1 > 0)).await;

        let good = client(&good);
        all_revoked.push(revoked);
        let revoked = all_revoked.last().unwrap();
        let revoked = (client(revoked), revoked);
        let (mut open, mut other) = (revoked.0.open(example.address).await, good.open(example.address).await);
        assert_eq!(open.get().await.unwrap().body, "hello, client_2\n");
        assert_eq!(other.get().await.unwrap().body, "hello, client_1\n");

        let all: Vec<_> = all_revoked.iter().collect();
        publisher.publish(|published| published.issuing = authority.crl(number, &all));
        if let Some(feed) = &feed {
            feed.announce(&[(&list, number)]);
            eventually("it confirms", || feed.confirmed(&list) == Some(number)).await;
        }
        eventually("the connection ends", || open.is_closed()).await;
        let again = client(revoked.1).refused(example.address).await;
        assert_eq!(again.alert(), AlertDescription::CertificateRevoked);
        assert_eq!(other.get().await.unwrap().body, "hello, client_1\n");
    }
}

/// A full disk: a CRL in force that a restart would lose is enforced, but not confirmed.
#[tokio::test]
async fn a_crl_that_cannot_be_kept_is_enforced_and_confirmed_when_there_is_room() {
    let (publisher, clock) = (Publisher::start().await, Clock::system());
    let authority = publisher.authority_of(Founding { now: clock.now(), ..Founding::default() });
    let feed = FeedServer::presenting(&authority.own().with_root(&authority)).await;
    let list = authority.client("any").info.crl_urls[0].clone();
    let revoked = authority.client("client_1");
    publisher.publish(|published| published.issuing = authority.crl(2, &[&revoked]));
    feed.announce(&[(&list, 2)]);

    let directory = enrolled(&authority, Some(&feed));
    // The file size limit of 0 makes writes fail, as a full disk does. SIGXFSZ would end the program.
    let example = Example::start(directory.path(), &["sh", "-c", "trap '' XFSZ; ulimit -S -f 0; exec \"$@\"", "sh"]);
    let client = |issued: &Issued| Client::new(&authority, issued, Http::Two, &clock);
    eventually("it is logged", || example.logged(&["WARN", "cannot be kept for the next start", "issuing.crl"]) == 1)
        .await;
    let refused = client(&revoked).refused(example.address).await;
    assert_eq!(refused.alert(), AlertDescription::CertificateRevoked, "it is enforced");
    eventually("it answers on the feed", || feed.requests().1 > 0).await;

    publisher.publish(|published| published.issuing = authority.crl(3, &[&revoked]));
    feed.announce(&[(&list, 3)]);
    eventually("the next one is in force", || example.logged(&["INFO", "CRL in force number=3"]) == 1).await;
    assert_eq!(feed.confirmed(&list), None, "and not confirmed");
    assert!(crl_files(directory.path()).is_empty());

    let unlimited = Rlimit { current: None, maximum: None };
    prlimit(Some(Pid::from_child(example.process())), Resource::Fsize, unlimited).unwrap();
    eventually("it is confirmed", || feed.confirmed(&list) == Some(3)).await;
    eventually("the other one is kept as well", || crl_files(directory.path()).len() == 2).await;
    assert_eq!(
        example.logged(&["WARN", "cannot be kept for the next start", "issuing.crl"]),
        1,
        "one line when it begins"
    );
    eventually("it is logged", || example.logged(&["INFO", "kept for the next start again", "issuing.crl"]) == 1).await;
}
