//! What else issues certificates: cfssl with its database, and `openssl ca`, with the configurations in `bench/peers`.
//!
//! Nothing is measured here but how long one run of `openssl ca` takes.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use e2e::{Process, run, wait_until};

use crate::world::World;

/// cfssl behind TLS, with a server certificate of the world's authority: the same chain for its clients to verify.
pub(super) struct Cfssl {
    process: Process,
    address: SocketAddr,
    root: PathBuf,
}

impl Cfssl {
    /// Starts it where a CA was [made](make_ca).
    pub(super) fn start(world: &World) -> anyhow::Result<Self> {
        let host = world.address().to_string();
        let issue = ["issue", "--name", "other", "--cert", "other.crt", "--key", "other.key", &host];
        let _ = world.fleet.ca_daemon(&issue).success();
        let directory = world.fleet.directory();
        let read = format!(".read '{}'", peers().join("cfssl.sql").display());
        let made = run(Command::new("sqlite3").arg(directory.join("cfssl.db")).arg(read));
        ensure!(made.status.success(), "no database for cfssl: {made:?}");
        fs::write(directory.join("cfssl.db.json"), r#"{"driver": "sqlite3", "data_source": "cfssl.db"}"#)?;
        let address = TcpListener::bind((world.address(), 0))?.local_addr()?;
        let log = directory.join("cfssl.log");
        let process = Process::start("cfssl", &log, |command| {
            command.current_dir(directory).args(["serve", "-loglevel", "3", "-db-config", "cfssl.db.json"]);
            command.args([
                "-ca",
                "other-ca.pem",
                "-ca-key",
                "other-ca.key",
                "-tls-cert",
                "other.crt",
                "-tls-key",
                "other.key",
            ]);
            command.args(["-address", &host, "-port", &address.port().to_string()]);
            command.arg("-config").arg(peers().join("cfssl.json"));
        });
        wait_until(&format!("cfssl listens; see {}", log.display()), || TcpStream::connect(address).ok());
        Ok(Self { process, address, root: world.fleet.ca_directory().join("root.crt") })
    }

    /// What a client has to know.
    pub(super) fn arguments(&self) -> Vec<String> {
        let root = self.root.display().to_string();
        vec!["--cfssl".to_owned(), self.address.to_string(), "--root".to_owned(), root]
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }
}

/// Makes a CA for both of them, and a request.
pub(super) fn make_ca(world: &World) -> anyhow::Result<()> {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let ca = ["-x509", "-subj", "/CN=Other CA", "-keyout", "other-ca.key", "-out", "other-ca.pem"];
    openssl(world, &[&["req"][..], &key, &ca].concat())?;
    let request = ["-subj", "/CN=host-1", "-keyout", "asking.key", "-out", "asking.csr"];
    openssl(world, &[&["req"][..], &key, &request].concat())?;
    let directory = world.fleet.directory().join("openssl");
    fs::create_dir(&directory)?;
    Ok(fs::write(directory.join("index.txt"), "")?)
}

/// Issues one certificate.
pub(super) fn openssl_ca(world: &World) -> anyhow::Result<Duration> {
    let configuration = peers().join("openssl-ca.cnf");
    let configuration = configuration.to_str().context("the path is UTF-8")?;
    let began = Instant::now();
    openssl(world, &["ca", "-batch", "-notext", "-config", configuration, "-in", "asking.csr", "-out", "asked.crt"])?;
    Ok(began.elapsed())
}

fn openssl(world: &World, arguments: &[&str]) -> anyhow::Result<()> {
    let output = run(Command::new("openssl").current_dir(world.fleet.directory()).args(arguments));
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(())
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}
