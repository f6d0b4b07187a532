//! Strangers who would stop an authority or a service by their handshakes, each of which has the memory that docker-compose.yml allows:
//! neither is killed, and honest work goes on meanwhile.

#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail like the test itself")]
#![expect(clippy::print_stdout, reason = "they also print what a test measures")]

mod alerts;
mod attack;
mod hostile;

use std::{collections::VecDeque, fs, net::SocketAddr, sync::Arc};

use e2e::{CONTAINER_MEMORY, Client, Fleet, MemoryLimit, Service, run, wait_until};
use rustls::{AlertDescription, ClientConfig};

use self::{
    attack::{Attack, alert, ask, endless_hello, presenting},
    hostile::{Insider, Presented, junk},
};

/// An authority and a service, each within its bound.
struct Bounded {
    service: Service,
    fleet: Fleet,
    limits: [MemoryLimit; 2],
}

impl Bounded {
    /// None where no bound can be made.
    fn start() -> Option<Self> {
        let limits = [MemoryLimit::new(CONTAINER_MEMORY)?, MemoryLimit::new(CONTAINER_MEMORY)?];
        let mut fleet = Fleet::new();
        fleet.restart_ca_within(&limits[0]);
        let service = fleet.launch_service_within(&limits[1], "service0", &[]);
        service.wait_ready();
        fleet.wait_connected(1);
        Some(Self { service, fleet, limits })
    }

    /// The authority's listener and the service's.
    fn listeners(&self) -> [SocketAddr; 2] {
        [(self.fleet.address(), 8440).into(), self.service.https]
    }

    /// Somebody enrolls, asks, and is revoked. Whoever is the oldest of thousands that shake hands is cut off, and tries again.
    fn work(&self, name: &str) {
        let mut enroll = self.fleet.command("api-client");
        enroll.args(["enroll", "--name", name, "--dir", name]);
        wait_until("somebody enrolls", || (run(&mut enroll).code() == 0).then_some(()));
        let client = Client { directory: self.fleet.directory().join(name) };
        wait_until("somebody is answered", || (client.request(2, &self.service.url()).code() == 0).then_some(()));
        let _ = self.fleet.ca_daemon(&["revoke", name, "--wait", "1m"]).success();
        wait_until("somebody hears that the certificate is revoked", || {
            let refused = client.request(1, &self.service.url()).json();
            assert_eq!(refused["answered"], 0, "{refused}");
            (refused["failures"][0]["alert"] == "certificate_revoked").then_some(())
        });
    }

    /// Neither was killed; and says how much memory each held at most.
    fn survived(&mut self, attack: &str) {
        for (program, limit) in ["ca-daemon", "api-server"].into_iter().zip(&self.limits) {
            println!(
                "{attack}: {program} held {} KiB at most, of {} KiB",
                limit.peak() / 1024,
                CONTAINER_MEMORY / 1024
            );
            assert_eq!(limit.kills(), 0, "{attack}: {program}");
        }
        assert_eq!(self.service.readiness().0, 200);
        assert!(!self.service.process.log().contains("panicked"));
        assert!(!self.fleet.ca().log().contains("panicked"));
    }
}

/// Processor time of a process in milliseconds.
fn processor_time(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // `utime` and `stime` in ticks, of which a second has a hundred (`proc(5)`).
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
}

/// Hellos without end on so many connections, of so many bytes each; as many are open at once as each of a few threads allows.
fn hellos(what: &str, connections: usize, bytes: usize) {
    const THREADS: usize = 3;
    let Some(mut bounded) = Bounded::start() else { return };
    edge::listen::file_limit::raise();
    for address in bounded.listeners() {
        let round = move |open: &mut VecDeque<_>| {
            open.extend(endless_hello(address, bytes));
            if open.len() > connections / THREADS {
                open.pop_front();
            }
        };
        let attack = Attack::start(THREADS, VecDeque::new, round);
        wait_until("all are open", || (attack.rounds() > connections as u64).then_some(()));
        bounded.work(&format!("client_{}", address.port()));
    }
    bounded.survived(what);
}

/// Each takes 64 KiB for as long as it is not complete, and costs its sender nothing.
#[test]
fn hellos_of_64_kilobytes_displace_each_other_and_nobody_else() {
    hellos("hellos of 64 KB", 6_000, 65_000);
}

/// As many as the limit on open files lets in.
#[test]
fn small_hellos_displace_each_other_and_nobody_else() {
    hellos("hellos of 10 bytes", 6_000, 10);
}

/// What a chain can cost: 62 KB of one name took 13 s of a processor, and held up the feed for as long.
#[test]
fn chains_that_lead_nowhere_cost_little_and_hold_up_no_revocation() {
    const HANDSHAKES: u32 = 10;
    /// Far more than it takes, and half of what six certificates took before those were left out that cannot be on a path; both without
    /// optimisation.
    const MOST: u64 = 25;
    let Some(mut bounded) = Bounded::start() else { return };
    let insider = Insider::of(&bounded.fleet);
    let hostile = |above, extensions| presenting(&insider.root, insider.of_one_name(above, extensions));
    // The two that were found, and the most that is looked at.
    let chains =
        [("ten of 6 KB", hostile(10, 440)), ("120 small ones", hostile(120, 4)), ("six of 2 KB", hostile(6, 115))];
    let processes = [bounded.fleet.ca().id(), bounded.service.process.id()];
    for (what, tls) in &chains {
        for (address, process) in bounded.listeners().into_iter().zip(processes) {
            let before = processor_time(process);
            for _ in 0..HANDSHAKES {
                let alert = alert(tls, address).unwrap();
                assert!(
                    [AlertDescription::CertificateUnknown, AlertDescription::UnknownCA].contains(&alert),
                    "{alert:?}"
                );
            }
            let each = (processor_time(process) - before) / u64::from(HANDSHAKES);
            println!("{what}: a handshake takes {each} ms of a processor at {address}");
            assert!(each < MOST, "{what}: {each} ms at {address}");
        }
    }
    let [authority, service] = bounded.listeners();
    let attack = |tls: &Arc<ClientConfig>, address| {
        let tls = Arc::clone(tls);
        Attack::start(6, || (), move |()| drop(alert(&tls, address)))
    };
    let attacks: Vec<_> = chains.iter().flat_map(|(_, tls)| [attack(tls, authority), attack(tls, service)]).collect();
    wait_until("all are at work", || attacks.iter().all(|attack| attack.rounds() > 0).then_some(()));
    bounded.work("client_1");
    drop(attacks);
    bounded.survived("chains that lead nowhere");
}

/// What is presented beside a good chain is kept with each session, and was kept whole.
#[test]
fn what_a_client_presents_beside_its_chain_fills_no_memory() {
    const HANDSHAKES: u64 = 5_000;
    let Some(mut bounded) = Bounded::start() else { return };
    let root = hostile::read(&bounded.fleet.ca_directory().join("root.crt")).swap_remove(0);
    let client = bounded.fleet.enroll("greedy_1");
    let [_, service] = bounded.listeners();
    let junk = |count, bytes| presenting(&root, Presented::of(&client).beside(&junk(count, bytes)));
    let too_much = junk(5, 10_000);
    assert_eq!(alert(&too_much, service), Ok(AlertDescription::CertificateUnknown));
    // As much as is looked at.
    let much = junk(4, 2_500);
    let answer = ask(&much, service).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&answer));
    let attacks = [too_much, much].map(|tls| Attack::start(2, || (), move |()| drop(ask(&tls, service))));
    wait_until("there were many", || (attacks.iter().map(Attack::rounds).sum::<u64>() > HANDSHAKES).then_some(()));
    bounded.work("client_1");
    drop(attacks);
    bounded.survived("junk beside a chain");
}
