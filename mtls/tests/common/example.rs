//! The example of the library's documentation as a running program, and its directory.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use edge::files::{self, Access};
use pki::pem;
use tempfile::TempDir;

use super::{Authority, feed::FeedServer};

/// The running example. Dropping this ends it.
pub(crate) struct Example {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
    process: Process,
}

struct Process(Child);

impl Example {
    /// Starts the example in a directory, with this command line in front: a program that executes another one.
    pub(crate) fn start(directory: &Path, prefix: &[&str]) -> Self {
        let program = program();
        let words = prefix.iter().map(OsStr::new).chain([program.as_ref(), directory.as_ref(), "127.0.0.1:0".as_ref()]);
        let mut words = words.collect::<Vec<_>>().into_iter();
        let process =
            Command::new(words.next().unwrap()).args(words).env("NO_COLOR", "1").stderr(Stdio::piped()).spawn();
        let mut process = Process(process.unwrap());
        let log = Arc::<Mutex<String>>::default();
        let (tell, hear) = mpsc::channel();
        let mut lines = BufReader::new(process.0.stderr.take().unwrap()).lines();
        thread::spawn({
            let log = Arc::clone(&log);
            // The thread ends with the program.
            move || {
                while let Some(Ok(line)) = lines.next() {
                    if let Some((_, address)) = line.split_once("listening address=") {
                        let _ = tell.send(address.trim().parse().unwrap());
                    }
                    log.lock().unwrap().push_str(&(line + "\n"));
                }
            }
        });
        let address = hear.recv().unwrap_or_else(|_| panic!("it ended: {}", log.lock().unwrap()));
        Self { address, log, process }
    }

    /// How many lines of its log contain all of these texts.
    pub(crate) fn logged(&self, texts: &[&str]) -> usize {
        self.log.lock().unwrap().lines().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }

    pub(crate) fn process(&self) -> &Child {
        &self.process.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Cargo builds examples together with all tests, but not with selected ones.
fn program() -> PathBuf {
    let test = env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/service");
    let built = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/service.rs");
    assert!(built(&program) >= built(&source), "build the example first: cargo build -p mtls --examples");
    program
}

/// Writes the result of an enrollment.
pub(crate) fn enrolled(authority: &Authority, feed: Option<&FeedServer>) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name, contents: &str, access| {
        files::write(&directory.path().join(name), contents.as_bytes(), access).unwrap();
    };
    let server = authority.server("service0");
    write("server.crt", &pem::chain(&server.chain), Access::Public);
    write("server.key", &server.key.to_pem(), Access::Private);
    write("ca.crt", &pem::certificate(authority.root.certificate()), Access::Public);
    if let Some(feed) = feed {
        write("ca.url", feed.url().as_str(), Access::Public);
    }
    directory
}

/// The CRLs that are stored in a directory. Temporary files are not included.
pub(crate) fn crl_files(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "crl")).collect()
}
