//! The authority is killed in the middle of a thousand enrollments; nothing that anybody holds is lost, and no token is
//! used twice.

#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail like the test itself")]

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use e2e::{Fleet, wait_until};
use edge::clock::Clock;
use mtls::authority::{IdentityFiles, enroll};
use pki::{csr::Proposal, profile::Profile, token::Token};
use tokio::{runtime::Runtime, sync::Semaphore, task::JoinSet};

const CLIENTS: usize = 1_000;
/// For half of the clients: single-use tokens, of which five clients each try to use one.
const CONTESTED: usize = 100;
/// So many enroll at a time: each has half a minute.
const ENROLLING: usize = 200;

/// One attempt of every client that has no certificate yet; returns how many have one.
fn attempt(runtime: &Runtime, clients: &[(IdentityFiles, Token)], done: &Arc<AtomicUsize>) -> usize {
    let mut tasks = JoinSet::new();
    let enrolling = Arc::new(Semaphore::new(ENROLLING));
    for (index, (files, token)) in clients.iter().enumerate() {
        let (files, token, done, enrolling) = (files.clone(), token.clone(), Arc::clone(done), Arc::clone(&enrolling));
        let proposal =
            Proposal { common_name: format!("client_{index}").parse().unwrap(), organization: None, hosts: vec![] };
        tasks.spawn_on(
            async move {
                let _one_of_them = enrolling.acquire().await.unwrap();
                if files.load().unwrap().is_none()
                    && enroll(&files, &token, Profile::Client, &proposal, &Clock::system()).await.is_ok()
                {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            },
            runtime.handle(),
        );
    }
    runtime.block_on(tasks.join_all());
    clients.iter().filter(|(files, _)| files.load().unwrap().is_some()).count()
}

#[test]
fn a_killed_authority_loses_no_certificate_and_no_token_is_used_twice() {
    let mut fleet = Fleet::new();
    let token = |uses: usize| {
        let uses = uses.to_string();
        let created = fleet.ca_daemon(&["token", "create", "--json", "--uses", &uses]).success().json();
        (created["token"].as_str().unwrap().parse::<Token>().unwrap(), created["id"].as_str().unwrap().to_owned())
    };
    let (shared, shared_id) = token(CLIENTS / 2);
    let single: Vec<_> = (0..CONTESTED).map(|_| token(1)).collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|index| {
            let directory = fleet.directory().join(format!("client_{index}"));
            let token = if index % 2 == 0 { shared.clone() } else { single[index / 2 % CONTESTED].0.clone() };
            (IdentityFiles::new(&directory, Profile::Client), token)
        })
        .collect();

    let runtime = Runtime::new().unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let (held, rest) = std::thread::scope(|scope| {
        let first = scope.spawn(|| attempt(&runtime, &clients, &done));
        wait_until("a hundred clients hold a certificate", || (done.load(Ordering::Relaxed) >= 100).then_some(()));
        fleet.ca().kill();
        let held = first.join().unwrap();
        (held, CLIENTS - held)
    });
    assert!(rest > 0, "all {held} clients were done before the authority was killed");

    // Everything that a client holds is in the database, though the process that wrote it is gone.
    let recorded = |fleet: &Fleet| -> HashMap<String, String> {
        let listed = fleet.ca_daemon(&["list", "--json"]).success().json();
        let field = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        listed.as_array().unwrap().iter().map(|row| (field(row, "serial"), field(row, "token"))).collect()
    };
    let serials = || -> Vec<String> {
        let enrolled = clients.iter().filter_map(|(files, _)| files.load().unwrap());
        enrolled.map(|enrolled| enrolled.identity.info().id.serial.to_string()).collect()
    };
    let in_database = recorded(&fleet);
    for serial in serials() {
        assert!(in_database.contains_key(&serial), "{serial} is held by a client and was lost");
    }

    // Whoever lost the answer asks again and gets the same certificate: nothing is left over, and nothing is used twice.
    fleet.start_ca();
    let held = attempt(&runtime, &clients, &done);
    assert_eq!(held, CLIENTS / 2 + CONTESTED, "every client of the shared token, and one for each single-use token");
    let in_database = recorded(&fleet);
    let held: HashSet<_> = serials().into_iter().collect();
    assert_eq!(held.len(), CLIENTS / 2 + CONTESTED, "every client has a certificate of its own");
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for (serial, token) in &in_database {
        if !token.is_empty() {
            assert!(held.contains(serial), "{serial} was issued for a token, and nobody has it");
            *uses.entry(token).or_default() += 1;
        }
    }
    assert_eq!(uses[&*shared_id], CLIENTS / 2);
    for (_, id) in &single {
        assert_eq!(uses[&**id], 1, "token {id}");
    }
    let unused: PathBuf = fleet.directory().join("client_0/client.key.pending");
    assert!(!unused.exists(), "a completed enrollment leaves no pending key");
    runtime.shutdown_timeout(Duration::from_secs(5));
}
