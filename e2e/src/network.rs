//! A separate network for a service: a namespace, connected to the authority by a pair of virtual interfaces that can
//! drop packets.
//!
//! It never changes an interface or a namespace that it has not made, and removes both at the end.

use std::{
    fs::File,
    net::Ipv4Addr,
    os::fd::AsFd as _,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{Output, run};

/// An unused hardware address. Packets to it are lost, and no socket gets an error.
const NOWHERE: &str = "02:00:00:00:00:01";

/// A namespace and its connection.
#[derive(Debug)]
pub struct Network {
    namespace: String,
    outside: String,
    inside: String,
    /// The address at this side.
    pub here: Ipv4Addr,
    /// The address at the other side.
    pub there: Ipv4Addr,
}

impl Network {
    /// `None` if this user may not make one, or iproute2 is missing; this is printed, and the test is skipped.
    #[must_use]
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, index) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Networks of four addresses out of those for tests of network devices (RFC 2544), a different one for each.
        let base =
            u32::from(Ipv4Addr::new(198, 18, 0, 0)) | (process.wrapping_mul(8).wrapping_add(index * 4) & 0x1_fffc);
        let network = Self {
            namespace: format!("e2e-{process}-{index}"),
            outside: format!("e2o{process}x{index}"),
            inside: format!("e2i{process}x{index}"),
            here: Ipv4Addr::from(base + 1),
            there: Ipv4Addr::from(base + 2),
        };
        match network.make() {
            Ok(()) => Some(network),
            Err(error) => {
                #[expect(clippy::print_stderr, reason = "a test that is skipped says so loudly")]
                {
                    eprintln!("SKIPPED: no network namespace can be made here, which takes root and iproute2: {error}");
                }
                None
            }
        }
    }

    fn make(&self) -> Result<(), String> {
        let Self { namespace, outside, inside, here, there } = self;
        ip(&["netns", "add", namespace])?;
        ip(&["link", "add", outside, "type", "veth", "peer", "name", inside, "netns", namespace])?;
        ip(&["address", "add", &format!("{here}/30"), "dev", outside])?;
        ip(&["link", "set", outside, "up"])?;
        ip(&["-n", namespace, "address", "add", &format!("{there}/30"), "dev", inside])?;
        ip(&["-n", namespace, "link", "set", inside, "up"])?;
        ip(&["-n", namespace, "link", "set", "lo", "up"])
    }

    /// Drops every packet in both directions from now on. No socket is closed.
    pub fn cut(&self) {
        let Self { namespace, outside, inside, here, there } = self;
        let lost = |device: &str, address: &Ipv4Addr, before: &[&str]| {
            let address = address.to_string();
            let neighbour = ["neigh", "replace", &address, "lladdr", NOWHERE, "nud", "permanent", "dev", device];
            ip(&[before, &neighbour[..]].concat()).expect("the interface is there");
        };
        lost(outside, there, &[]);
        lost(inside, here, &["-n", namespace]);
    }

    /// Packets arrive again.
    pub fn heal(&self) {
        let Self { namespace, outside, inside, here, there } = self;
        ip(&["neigh", "del", &there.to_string(), "dev", outside]).expect("it was cut");
        ip(&["-n", namespace, "neigh", "del", &here.to_string(), "dev", inside]).expect("it was cut");
    }

    /// Moves the calling thread to the far side permanently: it connects from there.
    pub fn enter(&self) {
        let namespace =
            File::open(Path::new("/var/run/netns").join(&self.namespace)).expect("iproute2 has put it there");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("whoever made it may enter");
    }

    /// A command that runs at the other side, as the same process that is started.
    #[must_use]
    pub fn command(&self, program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The interfaces are removed with the namespace when no process runs in it.
        let _ = ip(&["link", "del", &self.outside]);
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("ip");
    match command.args(arguments).output() {
        Err(error) => Err(format!("ip: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Runs a command on the far side to its end.
#[must_use]
pub fn run_in(network: &Network, command: &Command) -> Output {
    let mut inside = network.command(command.get_program());
    inside.args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        inside.current_dir(directory);
    }
    run(&mut inside)
}
