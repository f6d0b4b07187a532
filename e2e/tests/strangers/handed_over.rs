//! One service that hands over junk in the place of lists.

use e2e::{CONTAINER_MEMORY, Fleet, MemoryLimit};
use futures_util::future::join_all;
use http::Request;
use hyper::body::Bytes;
use pki::{
    token::Secret,
    wire::{CONFIRM_PATH, FEED_PATH, HAND_OVER_PATH, INSTANCE_HEADER},
};

use crate::attacker::{address, http2, judge, known, runtime, tls};

/// How much it sends, in bytes.
const JUNK: usize = 64 * 1024 * 1024;

#[test]
fn junk_that_one_service_hands_over_stops_nobody() {
    let Some(limit) = MemoryLimit::new(CONTAINER_MEMORY) else { return };
    let mut fleet = Fleet::new();
    fleet.restart_ca_within(&limit);
    let service = fleet.launch_service("service0", &[]);
    service.wait_ready();
    let directory = fleet.directory().join("service0");
    let config = known(&directory.join("server.crt"), &directory.join("server.key"), &directory.join("ca.crt"));
    let to = address(&fleet, 8440);
    let crl_url = fleet.crl_url();
    let one = async |number: u8, rounds: std::ops::Range<u8>| {
        let secret = Secret::from_bytes([number + 1; 32]).to_bearer();
        let stream = tls(to, &config).await.expect("it is known");
        let (mut sender, _driver) = http2(stream, 65_535).await.expect("it speaks HTTP/2");
        let request = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(format!("https://localhost{path}"));
            request.header(INSTANCE_HEADER, secret.as_str()).header("content-type", "application/json")
        };
        let mut statuses = Vec::new();
        let feed = request("GET", FEED_PATH).body(()).expect("it is a request");
        let _feed = sender.send_request(feed, true).expect("a stream").0.await.expect("it is let on the feed");
        // In round 1 it is asked first; before and after that, nobody has asked.
        for round in rounds {
            if round == 1 {
                let word = format!(
                    "{{\"crls\":{{\"{crl_url}/crl/issuing.crl\":999}},\"admitsUntil\":null,\"ended\":0,\"openConnections\":0}}"
                );
                let confirm = request("POST", CONFIRM_PATH).body(()).expect("it is a request");
                let (answer, mut body) = sender.send_request(confirm, false).expect("a stream");
                body.send_data(Bytes::from(word), true).expect("the stream is open");
                assert_eq!(answer.await.expect("it is answered").status(), 409);
            }
            let hand_over = request("POST", HAND_OVER_PATH).body(()).expect("it is a request");
            sender = sender.ready().await.expect("the connection stays");
            let (answer, mut body) = sender.send_request(hand_over, false).expect("a stream");
            let _ = body.send_data(Bytes::from_static(b"-----BEGIN X509 CRL-----\n"), false);
            let piece = Bytes::from(("A".repeat(64) + "\n").repeat(1024));
            for _ in 0..JUNK / piece.len() {
                body.reserve_capacity(piece.len());
                let has_room = std::future::poll_fn(|context| body.poll_capacity(context)).await;
                if !matches!(has_room, Some(Ok(_))) || body.send_data(piece.clone(), false).is_err() {
                    break;
                }
            }
            let _ = body.send_data(Bytes::new(), true);
            statuses.push(answer.await.map_or(0, |answer| answer.status().as_u16()));
        }
        statuses
    };
    runtime().block_on(async {
        assert_eq!(one(0, 0..1).await, [403], "nobody has asked for it");
        for statuses in join_all([one(1, 1..3), one(2, 1..3)]).await {
            assert!(statuses.iter().all(|status| [403, 413, 429].contains(status)), "{statuses:?}");
        }
    });
    let _ = fleet.enroll("client_1");
    // The attacker's instances are gone, and will not confirm.
    fleet.start_service("service1", &[]);
    let _ = fleet.revoke_but(&["client_1"], &["service1"]);
    judge("hand-overs of 64 MiB of junk", "ca-daemon", &limit);
}
