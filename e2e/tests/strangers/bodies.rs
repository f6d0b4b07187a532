//! Bodies of requests: without a token nobody reads them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use e2e::{CONTAINER_MEMORY, Fleet, MemoryLimit};
use http::Request;
use hyper::body::Bytes;
use pki::wire::{ENROLL_PATH, Problem};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::attacker::{address, http2, judge, runtime, stranger, tls};

/// How long the attack goes on at least.
const ATTACK: Duration = Duration::from_secs(8);
const CONNECTIONS: usize = 200;
const STREAMS: usize = 128;
const BODY: usize = 64 * 1024;

#[test]
fn bodies_without_a_token_are_not_kept() {
    let Some(limit) = MemoryLimit::new(CONTAINER_MEMORY) else { return };
    let mut fleet = Fleet::new();
    fleet.restart_ca_within(&limit);
    let runtime = runtime();
    let (to, config) = (address(&fleet, 8440), stranger(&fleet));
    let (until, sent) = (Instant::now() + ATTACK, Arc::new(AtomicUsize::new(0)));
    for _ in 0..CONNECTIONS {
        let (config, sent) = (config.clone(), Arc::clone(&sent));
        runtime.spawn(async move {
            while Instant::now() < until {
                let Some(stream) = tls(to, &config).await else { continue };
                let Some((mut sender, driver)) = http2(stream, 65_535).await else { continue };
                let mut open = Vec::new();
                for _ in 0..STREAMS {
                    let request = Request::post(format!("https://localhost{ENROLL_PATH}"));
                    let request = request.header("content-type", "application/json").body(()).expect("it is a request");
                    let Ok((answer, mut body)) = sender.send_request(request, false) else { break };
                    // All of it but for its end.
                    let _ = body.send_data(Bytes::from(vec![b'x'; BODY - 1]), false);
                    open.push((answer, body));
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                let _ = tokio::time::timeout(Duration::from_secs(3), driver).await;
            }
        });
    }
    for number in 0..3 {
        let _ = fleet.enroll(&format!("client_{number}"));
    }
    let service = fleet.launch_service("service0", &[]);
    service.wait_ready();
    let _ = fleet.ca_daemon(&["revoke", "client_0", "--wait", "1m"]).success();
    while Instant::now() < until {
        let _ = fleet.ca_daemon(&["relying-parties"]).success();
    }
    assert!(sent.load(Ordering::Relaxed) > CONNECTIONS * 8, "the attack came about");
    judge("200 connections with bodies without end", "ca-daemon", &limit);
    runtime.shutdown_background();
}

/// What the authority says to a head over HTTP/1.1, without its body.
async fn says(fleet: &Fleet, head: &str) -> String {
    let mut config = (*stranger(fleet)).clone();
    config.alpn_protocols.clear();
    let mut stream = tls(address(fleet, 8440), &config.into()).await.expect("the authority takes connections");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.expect("it answers");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[test]
fn the_token_is_looked_at_before_the_body_and_before_100_continue() {
    let fleet = Fleet::new();
    let token = fleet.ca_daemon(&["token", "create", "--name", "client_*", "--json"]).success().json();
    let token: pki::token::Token = token["token"].as_str().expect("a token").parse().expect("it is one");
    let bearer = token.secret.to_bearer();
    let head = |headers: &str| format!("POST {ENROLL_PATH} HTTP/1.1\r\nexpect: 100-continue\r\n{headers}\r\n");
    let json = "host: ca\r\ncontent-type: application/json\r\n";
    let unknown = pki::token::Secret::from_bytes([8; 32]).to_bearer();
    let (good, wrong) = (
        format!("{json}authorization: Bearer {}\r\n", bearer.as_str()),
        format!("{json}authorization: Bearer {}\r\n", unknown.as_str()),
    );
    runtime().block_on(async {
        for (headers, begins) in [
            (format!("{json}content-length: 500\r\n"), "HTTP/1.1 401"),
            (format!("{wrong}content-length: 500\r\n"), "HTTP/1.1 401"),
            (format!("{good}content-length: 5000000\r\n"), "HTTP/1.1 413"),
            (format!("{good}content-length: 500\r\n"), "HTTP/1.1 100"),
            (good.replace("host: ca\r\n", ""), "HTTP/1.1 400"),
            (format!("{good}host: other\r\n"), "HTTP/1.1 400"),
        ] {
            let answer = says(&fleet, &head(&headers)).await;
            assert!(answer.starts_with(begins), "{headers}: {answer}");
        }
    });
}

#[test]
fn no_problem_document_is_lost_while_the_body_is_on_its_way() {
    let fleet = Fleet::new();
    runtime().block_on(async {
        let stream = tls(address(&fleet, 8440), &stranger(&fleet)).await.expect("the authority takes connections");
        let (mut sender, _driver) = http2(stream, 65_535).await.expect("it speaks HTTP/2");
        for number in 0..40 {
            sender = sender.ready().await.expect("the connection stays");
            let request = Request::post(format!("https://localhost{ENROLL_PATH}")).body(()).expect("it is a request");
            let (answer, mut body) = sender.send_request(request, false).expect("a stream");
            for left in (0..4).rev() {
                // The authority knows what it will say before the first of it is there.
                tokio::time::sleep(Duration::from_millis(5)).await;
                body.send_data(Bytes::from(vec![b'x'; 2000]), left == 0).expect("the stream is open");
            }
            let answer = answer.await.unwrap_or_else(|error| panic!("request {number}: {error}"));
            assert_eq!(answer.status(), 401);
            let mut whole = Vec::new();
            let mut content = answer.into_body();
            while let Some(data) = content.data().await {
                whole.extend_from_slice(&data.unwrap_or_else(|error| panic!("request {number}: {error}")));
            }
            let problem: Problem = serde_json::from_slice(&whole).expect("a problem document");
            assert_eq!(problem.kind, "/problems/token-missing");
        }
    });
}
