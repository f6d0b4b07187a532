//! The programs that a user would pick instead, started with the configurations in `bench/peers`: certificates of the same
//! authority, the same CRLs, the same answer.
//!
//! Nothing is measured here.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use e2e::{Process, wait_until};

use crate::{answer::ANSWER, machine::first_line, world::World};

/// Another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Nginx,
    Haproxy,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
        }
    }

    /// What it says of its version.
    pub(crate) fn version(self) -> String {
        match self {
            // It says so on standard error only.
            Self::Nginx => first_line("sh", &["-c", "nginx -v 2>&1"]),
            Self::Haproxy => first_line("haproxy", &["-v"]),
        }
    }

    /// Starts it in a world that is [prepared](prepare), and waits until it listens.
    pub(crate) fn start(self, world: &World) -> anyhow::Result<(Process, SocketAddr)> {
        let (program, file) = match self {
            Self::Nginx => ("nginx", "nginx.conf"),
            Self::Haproxy => ("haproxy", "haproxy.cfg"),
        };
        let address = free_port(world.address())?;
        let directory = world.fleet.directory();
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(file);
        let text = fs::read_to_string(&template).with_context(|| template.display().to_string())?;
        let text = text.replace("@DIRECTORY@", &directory.to_string_lossy());
        let text = text.replace("@LISTEN@", &address.to_string()).replace("@ANSWER@", ANSWER);
        let configuration = directory.join(file);
        fs::write(&configuration, text)?;
        let log = directory.join(format!("{program}.log"));
        let process = Process::start(program, &log, |command| {
            match self {
                Self::Nginx => command.arg("-p").arg(directory).arg("-c").arg(&configuration),
                Self::Haproxy => command.arg("-db").arg("-f").arg(&configuration),
            };
        });
        wait_until(&format!("{program} listens; see {}", log.display()), || TcpStream::connect(address).ok());
        Ok((process, address))
    }
}

/// Puts what peers need into the world's directory: a server certificate and its key, the root, and the CRLs of both authorities,
/// as the authority's own commands write them.
pub(crate) fn prepare(world: &World) -> anyhow::Result<()> {
    let host = world.address().to_string();
    let command = |arguments: &[&str]| {
        let output = world.fleet.ca_daemon(arguments);
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(())
    };
    command(&["issue", "--name", "peer", "--cert", "peer.crt", "--key", "peer.key", &host])?;
    command(&["crl", "--pem", "--out", "issuing.pem"])?;
    command(&["crl", "--root", "--pem", "--out", "above.pem"])?;
    let file = |name: &str| -> PathBuf { world.fleet.directory().join(name) };
    let join = |names: [&str; 2], into: &str| -> anyhow::Result<()> {
        let [first, second] = names.map(|name| fs::read(file(name)));
        Ok(fs::write(file(into), [first?, second?].concat())?)
    };
    join(["issuing.pem", "above.pem"], "crls.pem")?;
    join(["peer.crt", "peer.key"], "peer.pem")?;
    fs::copy(world.fleet.ca_directory().join("root.crt"), file("root.pem"))?;
    Ok(())
}

/// A port that was free a moment ago; peers cannot say which one they took.
fn free_port(host: Ipv4Addr) -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((host, 0))?.local_addr()?)
}
