//! The services, and what is done to them while a client is revoked.

use std::{fmt, net::SocketAddr, path::PathBuf, process::Command, thread, time::Duration};

use e2e::{Fleet, Network, Process, example};
use edge::clock::Clock;
use mtls::authority::{IdentityFiles, enroll};
use pki::{csr::Proposal, name::Host, profile::Profile};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use crate::{client::Target, dice::Dice};

/// No balancer has to notice first.
const DRAIN_DELAY: [&str; 2] = ["--drain-delay", "50ms"];

/// A service that runs.
pub(crate) struct Node<'a> {
    pub(crate) name: &'static str,
    fleet: &'a Fleet,
    network: Option<&'a Network>,
    program: Program,
    https: SocketAddr,
    process: Process,
}

enum Program {
    /// `api-server`, and where its operators connect.
    ApiServer(SocketAddr),
    /// The example, and its directory.
    Routes(PathBuf),
}

/// What is done to a service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// It is asked to end, and started again.
    Restart,
    /// It is killed, and started again.
    Kill,
    /// It gets no processor for so long.
    Pause(Duration),
    /// Its packets to and from the authority are lost for so long, those of its clients are not.
    CutOff(Duration),
}

/// What is done to which service, and how long after the beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disturbance {
    pub(crate) node: usize,
    after: Duration,
    kind: Kind,
}

impl<'a> Node<'a> {
    pub(crate) fn api_server(fleet: &'a Fleet, name: &'static str) -> Self {
        let service = fleet.launch_service(name, &DRAIN_DELAY);
        let program = Program::ApiServer(service.operations);
        Self { name, fleet, network: None, program, https: service.https, process: service.process }
    }

    pub(crate) fn routes(
        fleet: &'a Fleet,
        name: &'static str,
        network: Option<&'a Network>,
        runtime: &Runtime,
    ) -> Self {
        let address = network.map_or(fleet.address(), |network| network.there);
        let host = address.to_string();
        let token = ["token", "create", "--server", "--json", "--name", name, "--host", &host];
        let token = fleet.ca_daemon(&token).success().json()["token"].as_str().unwrap().parse().unwrap();
        let directory = fleet.directory().join(name);
        let proposal =
            Proposal { common_name: name.parse().unwrap(), organization: None, hosts: vec![Host::Ip(address.into())] };
        let files = IdentityFiles::new(&directory, Profile::Server);
        let _ = runtime.block_on(enroll(&files, &token, Profile::Server, &proposal, &Clock::system())).unwrap();
        let program = Program::Routes(directory);
        let any_port = SocketAddr::from((address, 0));
        let (https, process) = launch_routes(fleet, name, network, &program, any_port);
        Self { name, fleet, network, program, https, process }
    }

    pub(crate) fn target(&self) -> Target<'a> {
        let has_routes = matches!(self.program, Program::Routes(_));
        Target { name: self.name, address: self.https, has_routes, network: self.network }
    }

    fn start(&mut self) {
        self.process = match &self.program {
            Program::ApiServer(operations) => {
                let (https, operations) = (self.https.to_string(), operations.to_string());
                let arguments = ["--listen", &https, "--ops-listen", &operations];
                self.fleet.launch_service(self.name, &[&DRAIN_DELAY[..], &arguments].concat()).process
            }
            routes @ Program::Routes(_) => launch_routes(self.fleet, self.name, self.network, routes, self.https).1,
        };
    }

    /// Does it, and has it over.
    pub(crate) fn suffer(&mut self, disturbance: &Disturbance) {
        thread::sleep(disturbance.after);
        match disturbance.kind {
            Kind::Restart => {
                let status = self.process.stop();
                assert!(status.success(), "{} ended with {status}; its log:\n{}", self.name, self.process.log());
                self.start();
            }
            Kind::Kill => {
                self.process.kill();
                self.start();
            }
            Kind::Pause(duration) => {
                self.process.signal(Signal::STOP);
                thread::sleep(duration);
                self.process.signal(Signal::CONT);
            }
            Kind::CutOff(duration) => {
                let network = self.network.expect("only who has a network of its own is cut off");
                network.cut();
                thread::sleep(duration);
                network.heal();
            }
        }
    }
}

fn launch_routes(
    fleet: &Fleet,
    name: &str,
    network: Option<&Network>,
    program: &Program,
    listen: SocketAddr,
) -> (SocketAddr, Process) {
    let Program::Routes(directory) = program else { unreachable!("api-server has other arguments") };
    let path = example("routes");
    let command = network.map_or_else(|| Command::new(&path), |network| network.command(path.as_os_str()));
    let process = Process::launch(command, &fleet.directory().join(format!("{name}.log")), |command| {
        command.current_dir(fleet.directory()).env_remove("CA_TOKEN").arg(directory).arg(listen.to_string());
    });
    (process.line().parse().unwrap(), process)
}

impl Disturbance {
    /// Of one of so many services, of which this one may be cut off.
    pub(crate) fn any(dice: &mut Dice, nodes: usize, may_be_cut_off: Option<usize>) -> Self {
        let node = usize::try_from(dice.below(u64::try_from(nodes).unwrap())).unwrap();
        let kind = match dice.below(4) {
            0 => Kind::Restart,
            1 => Kind::Kill,
            2 if may_be_cut_off.is_some() => Kind::CutOff(dice.millis(100..3_000)),
            _ => Kind::Pause(dice.millis(20..1_500)),
        };
        let node = may_be_cut_off.filter(|_| matches!(kind, Kind::CutOff(_))).unwrap_or(node);
        Self { node, after: dice.millis(0..60), kind }
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, after, kind } = self;
        write!(formatter, "{kind:?} of service{node} after {after:?}")
    }
}
