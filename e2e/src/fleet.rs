//! The fleet of a test: its processes, directories and addresses.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    memory::MemoryLimit,
    network::Network,
    process::{Output, Process, binary, interrupt_when, run, wait_until},
};

/// The port that reserves an address. Nothing else listens on it.
const RESERVED: u16 = 8400;

/// An authority, services, a balancer and clients in a temporary directory, on a loopback address of their own.
///
/// Because the address is unique, fixed ports are free. They are needed: an authority's URL is fixed before it listens
/// for the first time, so port 0 cannot be used. Services listen on port 0.
#[derive(Debug)]
pub struct Fleet {
    // Fields are dropped in this order: processes stop before the directory is removed.
    balancer: Option<Process>,
    services: Vec<Service>,
    ca: Option<Process>,
    address: Ipv4Addr,
    directory: TempDir,
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Where clients connect.
    pub https: SocketAddr,
    /// Where operators connect.
    pub operations: SocketAddr,
    /// The process.
    pub process: Process,
}

/// A client with an identity on disk.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its directory.
    pub directory: PathBuf,
}

impl Fleet {
    /// `ca-daemon init` and `ca-daemon serve`.
    #[must_use]
    pub fn new() -> Self {
        Self::with_init(&[])
    }

    /// The same, with further arguments for `init`.
    #[must_use]
    pub fn with_init(arguments: &[&str]) -> Self {
        Self::at(own_address(), arguments)
    }

    /// The same, on an address that is this machine's and nobody else's.
    #[must_use]
    pub fn at(address: Ipv4Addr, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let mut fleet = Self { balancer: None, services: Vec::new(), ca: None, address, directory };
        let (url, crl_url) = (fleet.ca_url(), fleet.crl_url());
        let mut init = vec!["init", "--url", &url, "--crl-url", &crl_url];
        init.extend(arguments);
        let _ = fleet.ca_daemon(&init).success();
        fleet.start_ca();
        fleet
    }

    /// The directory of the whole fleet.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The loopback address of the whole fleet.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The authority's directory.
    #[must_use]
    pub fn ca_directory(&self) -> PathBuf {
        self.directory().join("ca")
    }

    /// The authority's HTTPS address.
    #[must_use]
    pub fn ca_url(&self) -> String {
        format!("https://{}:8440", self.address)
    }

    /// The authority's plain HTTP address.
    #[must_use]
    pub fn crl_url(&self) -> String {
        format!("http://{}:8480", self.address)
    }

    /// The authority's plain HTTP address for operators.
    #[must_use]
    pub fn ca_operations_url(&self) -> String {
        format!("http://{}:8481", self.address)
    }

    /// Status and text of a path of the authority's operations listener; status 0 if there is no answer.
    #[must_use]
    pub fn ca_operations(&self, path: &str) -> (u16, String) {
        http_get(&format!("{}/{path}", self.ca_operations_url()))
    }

    /// The balancer's address for clients.
    #[must_use]
    pub fn balancer_url(&self) -> String {
        format!("https://{}:8443/hello", self.address)
    }

    /// Runs `ca-daemon` with these arguments in the fleet's directory.
    #[must_use]
    pub fn ca_daemon(&self, arguments: &[&str]) -> Output {
        run(self.command("ca-daemon").args(arguments))
    }

    /// A command of this workspace in the fleet's directory.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binary(name));
        command.current_dir(self.directory()).env_remove("CA_TOKEN").env_remove("CA_DIR");
        command
    }

    /// `ca-daemon serve`.
    pub fn start_ca(&mut self) {
        self.start_ca_as(Command::new(binary("ca-daemon")));
    }

    /// Kills the authority.
    pub fn stop_ca(&mut self) {
        drop(self.ca.take());
    }

    /// Restarts the authority with a memory limit.
    pub fn restart_ca_within(&mut self, limit: &MemoryLimit) {
        drop(self.ca.take());
        self.start_ca_as(limit.command(binary("ca-daemon")));
    }

    fn start_ca_as(&mut self, program: Command) {
        let [https, http, operations] = [8440, 8480, 8481].map(|port| format!("{}:{port}", self.address));
        let process = Process::launch(program, &self.directory().join("ca.log"), |command| {
            command.current_dir(self.directory()).env_remove("CA_DIR").args([
                "serve",
                "--json",
                "--listen",
                &https,
                "--http-listen",
                &http,
                "--ops-listen",
                &operations,
            ]);
        });
        let ready: Value = serde_json::from_str(&process.line()).expect("the ready line is JSON");
        assert_eq!((ready["https"].as_str(), ready["http"].as_str()), (Some(&*https), Some(&*http)));
        self.ca = Some(process);
    }

    /// The authority's process.
    pub fn ca(&mut self) -> &mut Process {
        self.ca.as_mut().expect("the authority runs")
    }

    /// Starts a service, which enrolls if it has no identity, and returns when it is ready.
    pub fn start_service(&mut self, name: &str, arguments: &[&str]) -> &mut Service {
        let service = self.launch_service(name, arguments);
        service.wait_ready();
        self.services.push(service);
        self.services.last_mut().expect("one was just pushed")
    }

    /// Starts a service and returns when it listens, whether or not it is ready. The caller keeps it.
    #[must_use]
    pub fn launch_service(&self, name: &str, arguments: &[&str]) -> Service {
        self.launch(Command::new(binary("api-server")), self.address, name, arguments)
    }

    /// The same with a memory limit.
    #[must_use]
    pub fn launch_service_within(&self, limit: &MemoryLimit, name: &str, arguments: &[&str]) -> Service {
        self.launch(limit.command(binary("api-server")), self.address, name, arguments)
    }

    /// The same on the far side of a network.
    #[must_use]
    pub fn launch_service_in(&self, network: &Network, name: &str, arguments: &[&str]) -> Service {
        self.launch(network.command(binary("api-server").as_os_str()), network.there, name, arguments)
    }

    fn launch(&self, program: Command, address: Ipv4Addr, name: &str, arguments: &[&str]) -> Service {
        let listen = format!("{address}:0");
        let host = address.to_string();
        let process = Process::launch(program, &self.directory().join(format!("{name}.log")), |command| {
            command.current_dir(self.directory()).env_remove("CA_TOKEN").args([
                "--json",
                "--name",
                name,
                "--host",
                &host,
                "--host",
                "localhost",
            ]);
            if !arguments.contains(&"--crl-refresh") {
                command.args(["--crl-refresh", "200ms"]);
            }
            if !arguments.contains(&"--listen") {
                command.args(["--listen", &listen, "--ops-listen", &listen]);
            }
            command.args(arguments);
        });
        let listening: Value = serde_json::from_str(&process.line()).expect("the listening line is JSON");
        let address = |field: &str| listening[field].as_str().and_then(|text| text.parse().ok()).expect("an address");
        Service { name: name.to_owned(), https: address("https"), operations: address("operations"), process }
    }

    /// Waits until this number of relying parties is registered and all of them are on the feed.
    pub fn wait_connected(&self, count: usize) {
        wait_until("every service is on the feed", || {
            let listed = self.ca_daemon(&["relying-parties", "--json"]).success().json();
            let parties = listed.as_array().cloned().unwrap_or_default();
            let is_enforcing = |party: &Value| party["connectedSince"].is_string() && party["crlNumber"].is_number();
            (parties.len() == count && parties.iter().all(is_enforcing)).then_some(())
        });
    }

    /// A service by its start order.
    pub fn service(&mut self, index: usize) -> &mut Service {
        &mut self.services[index]
    }

    /// Stops a service and starts it again on the same addresses; returns when it is ready.
    pub fn restart_service(&mut self, index: usize, arguments: &[&str]) {
        let service = self.services.remove(index);
        let (https, operations) = (service.https.to_string(), service.operations.to_string());
        let name = service.name.clone();
        drop(service);
        let mut all = vec!["--listen", &*https, "--ops-listen", &*operations];
        all.extend(arguments);
        let restarted = self.launch_service(&name, &all);
        restarted.wait_ready();
        self.services.insert(index, restarted);
    }

    /// Three services behind HAProxy with the shipped configuration. Returns when a client reaches all three.
    pub fn start_balanced_services(&mut self) {
        for name in ["service0", "service1", "service2"] {
            self.start_service(name, &["--proxy-protocol-from", "127.0.0.0/8"]);
        }
        self.start_balancer();
    }

    /// HAProxy in front of the three services that were started first.
    pub fn start_balancer(&mut self) {
        let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("../haproxy/haproxy.cfg");
        let process = Process::start("haproxy", &self.directory().join("haproxy.log"), |command| {
            command.arg("-db").arg("-f").arg(configuration).env("BALANCER_LISTEN", format!("{}:8443", self.address));
            for (index, service) in self.services.iter().take(3).enumerate() {
                command
                    .env(format!("SERVICE{index}"), service.https.to_string())
                    .env(format!("SERVICE{index}_OPS_PORT"), service.operations.port().to_string());
            }
        });
        self.balancer = Some(process);
        let balancer = SocketAddr::from((self.address, 8443));
        wait_until("the balancer listens", || TcpStream::connect(balancer).ok());
    }

    /// Runs `revoke` without a time limit and interrupts it (Ctrl-C) when these services have confirmed, without
    /// waiting for the others. The exit code must be 5, which reports that others have not.
    #[must_use]
    pub fn revoke_but(&self, arguments: &[&str], confirming: &[&str]) -> Output {
        let mut command = self.command("ca-daemon");
        command.arg("revoke").args(arguments).args(["--wait", "1h"]);
        let said = interrupt_when(
            &mut command,
            |line| enforcing(line).is_some_and(|name| confirming.contains(&name)),
            confirming.len(),
        );
        assert_eq!(said.code(), 5, "{said:#?}");
        said
    }

    /// The balancer's process.
    pub fn balancer(&mut self) -> &mut Process {
        self.balancer.as_mut().expect("the balancer runs")
    }

    /// `api-client enroll --name NAME` in a directory of its own, with the bootstrap token.
    #[must_use]
    pub fn enroll(&self, name: &str) -> Client {
        let client = Client { directory: self.directory().join(name) };
        let directory = client.directory.to_str().expect("test directories are UTF-8");
        let _ = run(self.command("api-client").args(["enroll", "--name", name, "--dir", directory])).success();
        client
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

impl Service {
    /// The URL of its own `/hello`, without the balancer.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}/hello", self.https)
    }

    /// Status and text of `/readyz`.
    #[must_use]
    pub fn readiness(&self) -> (u16, String) {
        self.operations("readyz")
    }

    /// Status and text of a path of its operations listener; status 0 if there is no answer.
    #[must_use]
    pub fn operations(&self, path: &str) -> (u16, String) {
        http_get(&format!("http://{}/{path}", self.operations))
    }

    /// Waits until `/readyz` answers 200.
    pub fn wait_ready(&self) {
        wait_until(&format!("{} is ready; its log:\n{}", self.name, self.process.log()), || {
            (self.readiness().0 == 200).then_some(())
        });
    }
}

impl Client {
    /// `api-client request -n N --url URL --json`, with a long timeout because the machine may be busy.
    #[must_use]
    pub fn request(&self, requests: u64, url: &str) -> Output {
        let requests = requests.to_string();
        run(self.command().args(["request", "--json", "--timeout", "1m", "-n", &requests, "--url", url]))
    }

    /// Endless requests over one connection. Returns after the first answer.
    #[must_use]
    pub fn keep_asking(&self, url: &str) -> Process {
        let process = Process::start(binary("api-client"), &self.directory.join("requests.log"), |command| {
            command.current_dir(&self.directory).env_remove("CA_TOKEN");
            command.args(["request", "--timeout", "1m", "-n", "100000000", "-c", "1", "--url", url]);
        });
        let _ = process.line();
        process
    }

    /// `api-client` in the client's directory.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary("api-client"));
        command.current_dir(&self.directory).env_remove("CA_TOKEN");
        command
    }

    /// A file of the client's: `client.crt`, `client.key` or `ca.crt`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// The service that a line of `revoke` reports as enforcing the revocation, if it does.
#[must_use]
pub fn enforcing(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let is_so = !line.contains("not confirmed") && words.any(|word| word == "ms" || word == "already");
    is_so.then_some(name)
}

/// GET over plain HTTP with curl: status (0 without an answer) and body.
fn http_get(url: &str) -> (u16, String) {
    let output = run(Command::new("curl").args(["-sS", "--max-time", "60", "-w", "\n%{http_code}", url]));
    let (body, status) = output.stdout.rsplit_once('\n').unwrap_or_default();
    (status.parse().unwrap_or(0), body.to_owned())
}

/// A loopback address that no other fleet uses, in this process or another. It is reserved by listening on one of its
/// ports until the process ends.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static TAKEN: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());
    // Processes start the search at different addresses, so most find a free one at once.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    loop {
        let index = NEXT.fetch_add(1, Ordering::Relaxed);
        let number = u8::try_from(index % 250 + 2).expect("it is at most 251");
        let address = Ipv4Addr::new(127, 64 | high & 0x3f, low, number);
        if let Ok(listener) = TcpListener::bind((address, RESERVED)) {
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
            return address;
        }
    }
}
