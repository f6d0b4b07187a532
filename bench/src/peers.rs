//! The programs that a user would pick instead, started with the configurations in `bench/peers`: certificates of the same
//! authority, the same CRLs, the same answer.
//!
//! Nothing is measured here.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use e2e::Process;
use rustix::process::Signal;

use crate::{answer::ANSWER, commands::first_line, world::World};

/// Another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Nginx,
    Haproxy,
    /// A program of ours on Go's net/http; see `bench/peers/go`.
    Go,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Go];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Go => "Go net/http",
        }
    }

    /// What it says of its version, and of the TLS library that it uses.
    pub(crate) fn version(self) -> String {
        match self {
            // It says so on standard error only.
            Self::Nginx => first_line("sh", &["-c", "nginx -V 2>&1 | head -2 | tr '\\n' ' '"]),
            Self::Haproxy => first_line(
                "sh",
                &[
                    "-c",
                    "haproxy -vv | grep -e '^HAProxy version' -e '^Running on OpenSSL' | sed 's/ - http.*//' | tr '\\n' ' '",
                ],
            ),
            Self::Go => go().map(|program| first_line(&program.to_string_lossy(), &["-version"])).unwrap_or_default(),
        }
    }

    /// Starts it in a world that is [prepared](prepare), and says where it is going to listen.
    pub(crate) fn start(self, world: &World) -> anyhow::Result<(Process, SocketAddr)> {
        let address = free_port(world.address())?;
        let directory = world.fleet.directory();
        let log = |program: &str| directory.join(format!("{program}.log"));
        let process = match self {
            Self::Nginx => {
                let configuration = configure(world, "nginx.conf", address)?;
                Process::start("nginx", &log("nginx"), |command| {
                    command.arg("-p").arg(directory).arg("-c").arg(&configuration);
                })
            }
            Self::Haproxy => {
                configure(world, "haproxy.cfg", address)?;
                start_haproxy(world, None)
            }
            Self::Go => Process::start(go()?, &log("go"), |command| {
                command.current_dir(directory).args(["-listen", &address.to_string(), "-answer", ANSWER]);
            }),
        };
        Ok((process, address))
    }
}

/// Has a peer load the CRLs that [`write_crls`] left. Of HAProxy that is another process, which takes over from the one before: that one
/// is what is left over, and ends when its connections have.
pub(crate) fn reload(peer: Peer, process: &mut Process, world: &World) -> Option<Process> {
    match peer {
        Peer::Nginx | Peer::Go => {
            process.signal(Signal::HUP);
            None
        }
        Peer::Haproxy => {
            let next = start_haproxy(world, Some(process.id()));
            Some(std::mem::replace(process, next))
        }
    }
}

/// Replaces the CRLs of a running HAProxy by its runtime API. It takes no more than one of its buffers (16 KiB).
pub(crate) fn replace_crls_of_haproxy(world: &World) -> anyhow::Result<()> {
    let file = world.fleet.directory().join("crls.pem");
    let (name, text) = (file.display(), fs::read_to_string(&file)?);
    let command = |command: String, expected: &str| -> anyhow::Result<()> {
        let mut socket = UnixStream::connect(world.fleet.directory().join("haproxy.sock"))?;
        socket.write_all(command.as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        ensure!(answer.contains(expected), "HAProxy answered {answer:?}");
        Ok(())
    };
    command(format!("set ssl crl-file {name} <<\n{}\n\n", text.trim_end()), "ransaction")?;
    command(format!("commit ssl crl-file {name}\n"), "Success")
}

fn start_haproxy(world: &World, before: Option<u32>) -> Process {
    let directory = world.fleet.directory();
    Process::start("haproxy", &directory.join("haproxy.log"), |command| {
        command.arg("-db").arg("-f").arg(directory.join("haproxy.cfg"));
        if let Some(before) = before {
            command.args(["-sf", &before.to_string()]);
        }
    })
}

/// Writes a peer's configuration with its blanks filled in.
fn configure(world: &World, file: &str, address: SocketAddr) -> anyhow::Result<PathBuf> {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(file);
    let text = fs::read_to_string(&template).with_context(|| template.display().to_string())?;
    let directory = world.fleet.directory();
    let text = text.replace("@DIRECTORY@", &directory.to_string_lossy());
    let text = text.replace("@LISTEN@", &address.to_string()).replace("@ANSWER@", ANSWER);
    let path = directory.join(file);
    fs::write(&path, text)?;
    Ok(path)
}

/// Where `bench/peers/setup.sh` puts what it builds: two directories above this program.
fn go() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).context("this program lies in a directory of its build")?;
    let program = target.join("peers/go-http");
    ensure!(program.exists(), "{} does not exist; run bench/peers/setup.sh", program.display());
    Ok(program)
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
    command(&["crl", "--root", "--pem", "--out", "above.pem"])?;
    command(&["crl", "--root", "--out", "above.crl"])?;
    write_crls(world, Peer::Nginx, &[])?;
    write_crls(world, Peer::Go, &[])?;
    let file = |name: &str| -> PathBuf { world.fleet.directory().join(name) };
    let authority = |name: &str| -> PathBuf { world.fleet.ca_directory().join(name) };
    let join = |parts: [PathBuf; 2], into: &str| -> anyhow::Result<()> {
        let [first, second] = parts.map(fs::read);
        Ok(fs::write(file(into), [first?, second?].concat())?)
    };
    join([file("peer.crt"), file("peer.key")], "peer.pem")?;
    join([authority("issuing.crt"), authority("root.crt")], "issuers.pem")?;
    fs::copy(authority("root.crt"), file("root.pem"))?;
    Ok(())
}

/// Writes the current CRL where a peer reads it, as an operator's script would.
pub(crate) fn write_crls(world: &World, peer: Peer, more: &[&str]) -> anyhow::Result<()> {
    let (form, file): (&[&str], _) = match peer {
        Peer::Go => (&[], "issuing.crl"),
        Peer::Nginx | Peer::Haproxy => (&["--pem"], "issuing.pem"),
    };
    let output = world.fleet.ca_daemon(&[&["crl", "--out", file], form, more].concat());
    ensure!(output.status.success(), "{output:?}");
    if peer != Peer::Go {
        let [first, second] = ["issuing.pem", "above.pem"].map(|name| fs::read(world.fleet.directory().join(name)));
        fs::write(world.fleet.directory().join("crls.pem"), [first?, second?].concat())?;
    }
    Ok(())
}

/// A port that was free a moment ago; peers cannot say which one they took.
fn free_port(host: Ipv4Addr) -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((host, 0))?.local_addr()?)
}
