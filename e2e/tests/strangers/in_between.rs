//! Somebody on the way to the lists, who answers with as much as there is.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use e2e::{CONTAINER_MEMORY, Fleet, MemoryLimit, wait_until};

use crate::attacker::{address, judge};

const ENDLESS: usize = 256 * 1024 * 1024;

#[test]
fn an_answer_of_any_length_in_the_place_of_a_list_stops_no_service() {
    let Some(limit) = MemoryLimit::new(CONTAINER_MEMORY) else { return };
    let mut fleet = Fleet::new();
    let client = fleet.enroll("client_1");
    let service = fleet.launch_service_within(&limit, "service0", &[]);
    service.wait_ready();
    fleet.wait_connected(1);
    fleet.stop_ca();
    let (served, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let attack = {
        let listener = TcpListener::bind(address(&fleet, 8480)).expect("the authority is gone");
        let (served, is_over) = (Arc::clone(&served), Arc::clone(&is_over));
        thread::spawn(move || {
            let mut answering = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let number = served.fetch_add(1, Ordering::Relaxed);
                answering.push(thread::spawn(move || {
                    let _ = stream.read(&mut [0; 4096]);
                    // With a length, and without.
                    let length = if number % 2 == 0 { format!("content-length: {ENDLESS}\r\n") } else { String::new() };
                    let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{length}\r\n").as_bytes());
                    let piece = vec![0x30; 64 * 1024];
                    for _ in 0..ENDLESS / piece.len() {
                        if stream.write_all(&piece).is_err() {
                            break;
                        }
                    }
                }));
            }
            for answering in answering {
                answering.join().expect("it does not panic");
            }
        })
    };
    wait_until("it was asked often", || (served.load(Ordering::Relaxed) >= 12).then_some(()));
    let readiness = service.readiness();
    assert_eq!(readiness.0, 200, "{readiness:?}");
    let _ = client.request(1, &service.url()).success();
    is_over.store(true, Ordering::Relaxed);
    let _ = std::net::TcpStream::connect(address(&fleet, 8480));
    attack.join().expect("it does not panic");
    fleet.start_ca();
    fleet.wait_connected(1);
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();
    assert_ne!(client.request(1, &service.url()).code(), 0);
    judge("answers of 256 MiB in the place of lists", "api-server", &limit);
}
