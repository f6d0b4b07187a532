//! `make soak`: a client that is busy in every way is revoked, again and again, while services are restarted, killed, paused and cut off
//! from the authority. No answer may begin, or go on, after `revoke` said that the service enforces the revocation.
//!
//! `SOAK_ROUNDS` says how often (500 if nothing is said), `SOAK_SEED` repeats what an earlier run did to the services and when; what the
//! scheduler does meanwhile is different each time.

#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail like the test itself")]

mod books;
mod client;
mod dice;
mod weather;
mod wire;

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use e2e::{Fleet, Network, wait_until};
use edge::{clock::Clock, listen::file_limit};
use mtls::authority::{IdentityFiles, enroll};
use pki::{csr::Proposal, profile::Profile, token::Token};
use tokio::runtime::Runtime;

use crate::{
    client::{Dealings, HABITS, Shared, Tls, Visitor},
    dice::Dice,
    weather::{Disturbance, Node},
};

const NAMES: [&str; 3] = ["service0", "service1", "service2"];
/// The one that has a network of its own, where one can be made.
const FAR: usize = 1;
/// One round in so many is disturbed.
const BAD_WEATHER: u64 = 3;
/// With so many rounds that went wrong there is enough to look at.
const ENOUGH: usize = 10;

/// What all rounds have come to.
#[derive(Debug, Default)]
struct Tally {
    answers: u64,
    resumed: u64,
    disturbed: u64,
    unconfirmed: u64,
}

#[test]
#[ignore = "make soak"]
fn no_answer_begins_after_a_service_was_said_to_enforce_the_revocation() {
    let number = |variable: &str| env::var(variable).ok().map(|text| text.parse::<u64>().expect(variable));
    let rounds = number("SOAK_ROUNDS").unwrap_or(500);
    let seed = number("SOAK_SEED").unwrap_or_else(Dice::any_seed);
    file_limit::raise();
    let network = Network::new();
    if network.is_none() {
        say("nobody is cut off here: services are paused instead");
    }
    say(&format!("{rounds} rounds, SOAK_SEED={seed}"));

    let fleet = network.as_ref().map_or_else(Fleet::new, |network| Fleet::at(network.here, &[]));
    let runtime = Runtime::new().unwrap();
    let mut nodes = [
        Node::api_server(&fleet, NAMES[0]),
        Node::routes(&fleet, NAMES[FAR], network.as_ref(), &runtime),
        Node::routes(&fleet, NAMES[2], None, &runtime),
    ];
    fleet.wait_connected(nodes.len());
    let uses = (rounds + 1).to_string();
    let token = ["token", "create", "--name", "client_*", "--uses", &uses, "--out", "clients.token"];
    let _ = fleet.ca_daemon(&token).success();
    let token = fs::read_to_string(fleet.directory().join("clients.token")).unwrap().trim().parse().unwrap();

    let (mut dice, mut tally, mut failed, began) = (Dice::new(seed), Tally::default(), Vec::new(), Instant::now());
    for round in 0..rounds {
        let name = format!("client_{round}");
        enroll_client(&fleet, &token, &name, &runtime);
        let mut disturbances = Vec::new();
        let mut chance = dice.fork();
        if chance.one_in(BAD_WEATHER) {
            for _ in 0..=chance.below(2) {
                let disturbance = Disturbance::any(&mut chance, nodes.len(), network.as_ref().map(|_| FAR));
                if disturbances.iter().all(|other: &Disturbance| other.node != disturbance.node) {
                    disturbances.push(disturbance);
                }
            }
        }
        let complaints = Round { fleet: &fleet, name: &name, disturbances: &disturbances, tally: &mut tally }
            .play(&mut nodes, &mut chance);
        let _ = fs::remove_dir_all(fleet.directory().join(&name));
        if !complaints.is_empty() {
            let weather: Vec<_> = disturbances.iter().map(ToString::to_string).collect();
            let text = format!("round {round} ({}):\n  {}", weather.join(", "), complaints.join("\n  "));
            say(&text);
            failed.push(text);
        }
        if (round + 1) % 25 == 0 || failed.len() == ENOUGH {
            say(&format!("{} rounds in {:.0} s: {tally:?}", round + 1, began.elapsed().as_secs_f64()));
        }
        if failed.len() == ENOUGH {
            break;
        }
    }
    // What they logged is of no use any more, and a lot.
    drop(nodes);
    drop(fleet);
    assert!(failed.is_empty(), "SOAK_SEED={seed}\n{}", failed.join("\n"));
}

#[expect(clippy::print_stderr, reason = "whoever waits for minutes wants to see something")]
fn say(text: &str) {
    eprintln!("soak: {text}");
}

fn enroll_client(fleet: &Fleet, token: &Token, name: &str, runtime: &Runtime) {
    let files = IdentityFiles::new(&fleet.directory().join(name), Profile::Client);
    let proposal = Proposal { common_name: name.parse().unwrap(), organization: None, hosts: Vec::new() };
    let _ = runtime.block_on(enroll(&files, token, Profile::Client, &proposal, &Clock::system())).unwrap();
}

/// One client's life.
struct Round<'a> {
    fleet: &'a Fleet,
    name: &'a str,
    disturbances: &'a [Disturbance],
    tally: &'a mut Tally,
}

/// What `revoke` said.
struct Said {
    code: Option<i32>,
    /// Who enforces it, as its rows say.
    enforcing: BTreeSet<&'static str>,
    text: String,
}

/// Ends the visits, also where something has failed meanwhile.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Round<'_> {
    /// Returns what was wrong.
    fn play(self, nodes: &mut [Node<'_>], dice: &mut Dice) -> Vec<String> {
        let tls = Tls::load(&self.fleet.directory().join(self.name));
        let dealings: Vec<_> = nodes.iter().map(|node| Dealings::new(node.target())).collect();
        let shared = Shared::default();
        let mut complaints = thread::scope(|scope| {
            let _over = Over(&shared.is_over);
            for dealings in &dealings {
                for habit in HABITS {
                    let visitor = Visitor { shared: &shared, dealings, habit, tls: tls.clone(), dice: dice.fork() };
                    scope.spawn(move || visitor.visit());
                }
            }
            wait_until("the client is busy everywhere", || dealings.iter().all(Dealings::are_going_on).then_some(()));

            let suffering = nodes.iter_mut().enumerate().filter_map(|(index, node)| {
                let disturbance = self.disturbances.iter().find(|disturbance| disturbance.node == index)?;
                Some(scope.spawn(move || node.suffer(disturbance)))
            });
            let suffering: Vec<_> = suffering.collect();
            let is_undisturbed = suffering.is_empty();
            thread::sleep(dice.millis(0..30));
            let patience = if is_undisturbed { "1m" } else { *dice.one_of(&["200ms", "1s", "3s"]) };
            let said = self.revoke(patience, &dealings);
            let mut complaints: Vec<_> = said.complaints(is_undisturbed).into_iter().collect();
            self.tally.unconfirmed += u64::from(said.code == Some(5));
            for sufferer in suffering {
                sufferer.join().expect("it is over");
            }
            if !is_undisturbed {
                self.tally.disturbed += 1;
                // Everything is well again, and everybody confirms; who was restarted may have to come back first.
                wait_until("everybody confirms", || {
                    let again = self.revoke("1m", &dealings);
                    let complaint = again.complaints(false);
                    let is_over = complaint.is_some() || again.is_of_all();
                    complaints.extend(complaint);
                    is_over.then_some(())
                });
            }
            if complaints.is_empty() {
                wait_until("the client is refused everywhere", || {
                    let is_late = !shared.late.lock().unwrap().is_empty();
                    (is_late || dealings.iter().all(Dealings::are_over)).then_some(())
                });
            }
            complaints
        });
        self.tally.answers += dealings.iter().map(Dealings::answers).sum::<u64>();
        self.tally.resumed += shared.resumed.load(Ordering::Relaxed);
        complaints.extend(shared.late.lock().unwrap().iter().map(ToString::to_string));
        complaints
    }

    /// Revokes the client, and closes a service's books in the moment in which the command says that it enforces that.
    fn revoke(&self, patience: &str, dealings: &[Dealings<'_>]) -> Said {
        let mut command = self.fleet.command("ca-daemon");
        command.args(["revoke", self.name, "--wait", patience]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut enforcing, mut text) = (BTreeSet::new(), String::new());
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(dealings) = dealings.iter().find(|dealings| e2e::enforcing(&line) == Some(dealings.target.name))
            {
                dealings.books.close();
                enforcing.insert(dealings.target.name);
            }
            text = text + &line + "\n";
        }
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            // Nobody is left out, whatever the rows say.
            for dealings in dealings {
                dealings.books.close();
            }
        }
        Said { code: output.status.code(), enforcing, text: text + &String::from_utf8_lossy(&output.stderr) }
    }
}

impl Said {
    fn is_of_all(&self) -> bool {
        self.code == Some(0) && self.enforcing.len() == NAMES.len()
    }

    /// The code has to fit what was said; where nothing stood in the way, everybody has to confirm.
    fn complaints(&self, is_expected_of_all: bool) -> Option<String> {
        // Who has said goodbye is not waited for, and lets nobody in before it is back and enforces what everybody does.
        let expected = if self.text.contains("not confirmed") { 5 } else { 0 };
        let fits = self.code == Some(expected) && (self.is_of_all() || !is_expected_of_all);
        (!fits).then(|| format!("revoke ended with {:?}, and had said:\n{}", self.code, self.text))
    }
}
