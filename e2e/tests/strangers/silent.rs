//! Connections that ask for nothing: they end, and nobody waits for their places.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use e2e::{CONTAINER_MEMORY, Fleet, MemoryLimit, wait_until};
use http::Request;
use testkit::http2::{EMPTY_SETTINGS, PREFACE};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::attacker::{address, http2, judge, runtime, stranger, tcp, tls};

const CONNECTIONS: usize = 700;

#[test]
fn silent_strangers_take_nobodys_place_and_end() {
    let Some(limit) = MemoryLimit::new(CONTAINER_MEMORY) else { return };
    let mut fleet = Fleet::new();
    fleet.restart_ca_within(&limit);
    let first = fleet.launch_service("service0", &[]);
    first.wait_ready();
    fleet.wait_connected(1);
    let (runtime, config) = (runtime(), stranger(&fleet));
    let (asked, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for number in 0..CONNECTIONS {
        let (config, asked, ended) = (config.clone(), Arc::clone(&asked), Arc::clone(&ended));
        let (https, http) = (address(&fleet, 8440), address(&fleet, 8480));
        runtime.spawn(async move {
            // Asks once, and then answers every PING.
            let open = if number % 2 == 0 {
                let Some(stream) = tls(https, &config).await else { return };
                http2(stream, 65_535).await
            } else {
                let Some(stream) = tcp(http).await else { return };
                http2(stream, 65_535).await
            };
            let Some((mut sender, driver)) = open else { return };
            let request = Request::get("https://localhost/crl/root.crl").body(()).expect("it is a request");
            let Ok((answer, _)) = sender.send_request(request, true) else { return };
            let _ = answer.await;
            asked.fetch_add(1, Ordering::Relaxed);
            let _ = driver.await;
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }
    wait_until("most have asked", || (asked.load(Ordering::Relaxed) > CONNECTIONS / 2).then_some(()));
    // Whoever comes gets in, and those who were there stay.
    let client = fleet.enroll("client_1");
    let second = fleet.launch_service("service1", &[]);
    second.wait_ready();
    fleet.wait_connected(2);
    let _ = client.request(1, &second.url()).success();
    let revoked = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success().stdout;
    assert!(revoked.contains("2 of 2 relying parties"), "{revoked}");
    wait_until("all have ended", || (ended.load(Ordering::Relaxed) >= asked.load(Ordering::Relaxed)).then_some(()));
    assert!(!first.process.log().contains("the feed broke off"));
    judge("700 connections that ask once and stay", "ca-daemon", &limit);
    runtime.shutdown_background();
}

#[test]
fn a_silent_connection_hears_that_it_ends() {
    let fleet = Fleet::new();
    let service = fleet.launch_service("service0", &[]);
    service.wait_ready();
    let client = fleet.enroll("client_1");
    runtime().block_on(async {
        let to_authority =
            tls(address(&fleet, 8440), &stranger(&fleet)).await.expect("the authority takes connections");
        let to_service = tls(service.https, &crate::attacker::as_client(&client)).await.expect("so does the service");
        let mut streams = [to_authority, to_service];
        for stream in &mut streams {
            // The client's preface and its SETTINGS (RFC 9113 section 3.4), and not a word more.
            stream.write_all(&[PREFACE, EMPTY_SETTINGS].concat()).await.expect("it is taken");
        }
        for mut stream in streams {
            let mut said = Vec::new();
            // How the connection ends after it was said is not what is asked here.
            let _ = timeout(Duration::from_mins(1), stream.read_to_end(&mut said)).await.expect("it ends");
            assert!(frame_types(&said).contains(&GOAWAY), "an end without GOAWAY: {said:?}");
        }
    });
}

/// The type of a frame that says that a connection ends (RFC 9113 section 6.8).
const GOAWAY: u8 = 7;

/// The types of these frames (RFC 9113 section 4.1).
fn frame_types(mut frames: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        types.push(*kind);
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        frames = rest.get(length..).unwrap_or_default();
    }
    types
}
