//! Answers that nobody reads.

use std::{
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use e2e::{CONTAINER_MEMORY, Fleet, MemoryLimit, run, wait_until};
use http::Request;
use tokio::runtime::Runtime;

use crate::attacker::{address, as_client, http2, judge, runtime, tcp, tls};

const STREAMS: usize = 128;

/// So many connections, each with requests whose answers it does not let in. Each begins anew when it is ended.
fn stall(runtime: &Runtime, connections: usize, to: SocketAddr, path: &'static str, window: u32) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    for _ in 0..connections {
        let count = Arc::clone(&count);
        runtime.spawn(async move {
            loop {
                let Some(stream) = tcp(to).await else { continue };
                let Some((mut sender, driver)) = http2(stream, window).await else { continue };
                let mut open = Vec::new();
                for _ in 0..STREAMS {
                    let request = Request::get(format!("http://ca{path}")).body(()).expect("it is a request");
                    let Ok(stream) = sender.send_request(request, true) else { break };
                    open.push(stream);
                }
                count.fetch_add(1, Ordering::Relaxed);
                let _ = driver.await;
            }
        });
    }
    count
}

#[test]
fn metrics_that_nobody_reads_stop_no_plain_listener() {
    let (Some(of_ca), Some(of_service)) = (MemoryLimit::new(CONTAINER_MEMORY), MemoryLimit::new(CONTAINER_MEMORY))
    else {
        return;
    };
    let mut fleet = Fleet::new();
    fleet.restart_ca_within(&of_ca);
    let service = fleet.launch_service_within(&of_service, "service0", &[]);
    service.wait_ready();
    let client = fleet.enroll("client_1");
    let runtime = runtime();
    for window in [0, 1] {
        let attacked = [
            (address(&fleet, 8480), "/crl/issuing.crl"),
            (address(&fleet, 8481), "/metrics"),
            (service.operations, "/metrics"),
        ];
        let counts = attacked.map(|(to, path)| stall(&runtime, 400, to, path, window));
        wait_until("every connection has asked", || {
            counts.iter().all(|count| count.load(Ordering::Relaxed) >= 400).then_some(())
        });
    }
    // Everybody else is answered.
    for _ in 0..5 {
        assert_eq!(service.readiness().0, 200);
        assert!(service.operations("metrics").1.contains("api_server_crl_number"));
        for port in [8480, 8481] {
            let url = format!("http://{}/readyz", address(&fleet, port));
            let _ = run(Command::new("curl").args(["-sSf", "--max-time", "60", &url])).success();
        }
    }
    let _ = client.request(1, &service.url()).success();
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    assert_ne!(client.request(1, &service.url()).code(), 0);
    judge("800 connections that read no metrics", "ca-daemon", &of_ca);
    judge("800 connections that read no metrics", "api-server", &of_service);
    runtime.shutdown_background();
}

#[test]
fn one_client_that_reads_no_answer_stops_no_service() {
    let Some(limit) = MemoryLimit::new(CONTAINER_MEMORY) else { return };
    let fleet = Fleet::new();
    let service = fleet.launch_service_within(&limit, "service0", &[]);
    service.wait_ready();
    let (greedy, honest) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let (runtime, config) = (runtime(), as_client(&greedy));
    let (to, asked) = (service.https, Arc::new(AtomicUsize::new(0)));
    for number in 0..1_500_u32 {
        let (config, asked) = (Arc::clone(&config), Arc::clone(&asked));
        runtime.spawn(async move {
            loop {
                let Some(stream) = tls(to, &config).await else {
                    // It is refused, or the service is busy with the others.
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    continue;
                };
                let Some((mut sender, driver)) = http2(stream, number % 2).await else { continue };
                let mut open = Vec::new();
                for _ in 0..STREAMS {
                    let request = Request::get("https://localhost/hello").header("x-large", "x".repeat(1_500));
                    let Ok(stream) = sender.send_request(request.body(()).expect("it is a request"), true) else {
                        break;
                    };
                    open.push(stream);
                }
                asked.fetch_add(1, Ordering::Relaxed);
                let _ = driver.await;
            }
        });
    }
    wait_until("every connection has asked", || (asked.load(Ordering::Relaxed) >= 1_500).then_some(()));
    let _ = honest.request(3, &service.url()).success();
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    let _ = honest.request(3, &service.url()).success();
    judge("1,500 connections of one client that reads nothing", "api-server", &limit);
    runtime.shutdown_background();
}
