//! A fleet under Docker Compose: a project, images, ports and networks of its own, and nothing left behind.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use e2e::{Client, Output, binary, run, wait_until};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const SERVICES: [&str; 3] = ["service0", "service1", "service2"];

/// Says something whatever the test's outcome is; what tests print is shown for failed ones only.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// An engine that answers, with images of this build's programs; they are removed in the end.
pub(crate) struct Engine {
    compose: Vec<&'static str>,
    /// The images' tag.
    tag: String,
    /// Made by this test, and removed by it.
    stand_in: Option<String>,
}

impl Engine {
    /// None where there is no engine, or where the programs would not run in images of their own; that is said.
    pub(crate) fn ready() -> Option<Self> {
        let skipped = |why: &str| {
            say(&format!("\nSKIPPED: the fleet in containers was not tested: {why}\n"));
            None
        };
        let version = Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
        if !version.is_ok_and(|output| output.status.success()) {
            return skipped("no Docker engine answers");
        }
        let Some(compose) = compose_command() else {
            return skipped("there is neither `docker compose` nor `docker-compose`");
        };
        let linked = run(Command::new("ldd").arg(binary("ca-daemon")));
        if !format!("{}{}", linked.stdout, linked.stderr).contains("static") {
            return skipped("the programs are not static; run: make test");
        }

        let mut engine = Self { compose, tag: format!("test-{}", std::process::id()), stand_in: None };
        let programs = binary("ca-daemon").parent().unwrap().to_owned();
        let packed = run(Command::new(script("images.sh")).arg(&programs).arg(&engine.tag)).success();
        let made = run(&mut Command::new(script("haproxy-stand-in.sh"))).success();
        engine.stand_in = made.stdout.split_once(' ').map(|(image, _)| image.to_owned());
        say(&format!("\nimages of this build:\n{}{}", packed.stdout, made.stdout));
        Some(engine)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let images = ["ca-daemon", "api-server", "api-client"].map(|name| format!("localhost/{name}:{}", self.tag));
        for image in images {
            let removed = docker(&["rmi", &image]);
            assert!(removed.status.success() || std::thread::panicking(), "{removed:#?}");
        }
        // Another run on this engine may have found it there, and use it.
        if let Some(image) = &self.stand_in {
            let _ = docker(&["rmi", image]);
        }
    }
}

/// What the engine keeps until it is removed, as this does when it goes out of scope.
#[derive(Debug)]
pub(crate) enum Made {
    Container(String),
    Image(String),
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = match self {
            Self::Container(name) => docker(&["rm", "--force", name]),
            Self::Image(tag) => docker(&["rmi", tag]),
        };
    }
}

fn compose_command() -> Option<Vec<&'static str>> {
    [vec!["docker", "compose"], vec!["docker-compose"]].into_iter().find(|words| {
        let version = Command::new(words[0]).args(&words[1..]).arg("version").output();
        version.is_ok_and(|output| output.status.success())
    })
}

/// How long a CRL is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Long,
    /// Seconds: the authority signs a new one every third of it.
    Short,
}

impl Life {
    fn as_str(self) -> &'static str {
        match self {
            Self::Long => "24h",
            Self::Short => "45s",
        }
    }
}

/// A running fleet.
pub(crate) struct Fleet<'a> {
    engine: &'a Engine,
    life: Life,
    pub(crate) project: String,
    ports: [u16; 3],
    /// The first three octets of the balancer's and the services' network.
    pub(crate) network: String,
    pub(crate) directory: TempDir,
}

impl<'a> Fleet<'a> {
    /// Brings everything up; returns when every service is healthy, and the balancer knows.
    pub(crate) fn up(engine: &'a Engine, life: Life) -> Self {
        let fleet = Self {
            engine,
            life,
            // In a container of its own, a run has the process id of the one before it, which may have been killed.
            project: format!("fleet-test-{}-{}", std::process::id(), random()),
            ports: free_ports(),
            network: free_network(),
            directory: tempfile::tempdir().unwrap(),
        };
        let began = Instant::now();
        let _ = fleet.compose(&["up", "-d"]).success();
        say(&format!("cold start, from nothing to three healthy services: {:.1} s", began.elapsed().as_secs_f64()));
        fleet.wait_balanced();
        fleet
    }

    /// A command of Docker Compose on this fleet.
    pub(crate) fn compose(&self, arguments: &[&str]) -> Output {
        let words = &self.engine.compose;
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["-p", &self.project]).args(arguments).current_dir(repository());
        let [balancer, ca, crl] = self.ports.map(|port| port.to_string());
        command.envs([("BALANCER_PORT", balancer), ("CA_PORT", ca), ("CRL_PORT", crl)]).envs([
            ("IMAGE_TAG", &*self.engine.tag),
            ("FLEET_NETWORK", &self.network),
            ("CRL_LIFETIME", self.life.as_str()),
        ]);
        run(&mut command)
    }

    /// `ca-daemon` in the authority's container.
    pub(crate) fn ca_daemon(&self, arguments: &[&str]) -> Output {
        self.compose(&[&["exec", "-T", "ca", "/ca-daemon"], arguments].concat())
    }

    /// Where clients on this host reach the services.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/hello", self.ports[0])
    }

    /// A file that the authority publishes.
    pub(crate) fn published(&self, path: &str) -> Vec<u8> {
        let url = format!("http://127.0.0.1:{}/{path}", self.ports[2]);
        let output = Command::new("curl").args(["-sSf", "--max-time", "60", &url]).output().unwrap();
        assert!(output.status.success(), "{url}: {output:?}");
        output.stdout
    }

    /// Enrolls a client on this host, as a person would: a token out of the authority's container, in a file.
    pub(crate) fn enroll(&self, name: &str) -> Client {
        let token = self.ca_daemon(&["token", "create", "--name", name]).success().stdout;
        let file = self.directory.path().join(format!("{name}.token"));
        let mut options = fs::File::options();
        options.write(true).create_new(true).mode(0o600).open(&file).unwrap().write_all(token.as_bytes()).unwrap();
        let client = Client { directory: self.directory.path().join(name) };
        fs::create_dir(&client.directory).unwrap();
        let _ = run(client.command().args(["enroll", "--name", name, "--token-file"]).arg(&file)).success();
        client
    }

    /// The id of a service's container, running or not.
    pub(crate) fn id(&self, service: &str) -> String {
        let [project, service_label] = [("project", &*self.project), ("service", service)]
            .map(|(label, value)| format!("label=com.docker.compose.{label}={value}"));
        let ids =
            docker(&["ps", "--all", "--quiet", "--filter", &project, "--filter", &service_label]).success().stdout;
        ids.lines().next().unwrap_or_else(|| panic!("{service} has no container")).to_owned()
    }

    /// What a service wrote.
    pub(crate) fn log(&self, service: &str) -> String {
        let output = docker(&["logs", &self.id(service)]);
        format!("{}{}", output.stdout, output.stderr)
    }

    /// What Docker knows of a service's container.
    pub(crate) fn inspect(&self, service: &str) -> Value {
        docker(&["inspect", &self.id(service)]).success().json()[0].take()
    }

    /// A network's name.
    pub(crate) fn network(&self, name: &str) -> String {
        format!("{}_{name}", self.project)
    }

    /// The address of a service in a network.
    pub(crate) fn address(&self, service: &str, network: &str) -> String {
        let inspected = self.inspect(service);
        inspected["NetworkSettings"]["Networks"][self.network(network)]["IPAddress"].as_str().unwrap().to_owned()
    }

    pub(crate) fn wait_healthy(&self, service: &str) {
        let ask = ["inspect", "--format", "{{.State.Health.Status}}", &self.id(service)];
        wait_until(&format!("{service} is healthy"), || (patient(&ask).stdout.trim() == "healthy").then_some(()));
    }

    /// Waits until the balancer uses all services: it says so in its statistics, on a network of operators.
    pub(crate) fn wait_balanced(&self) {
        self.wait_for_services(&SERVICES);
    }

    /// Waits until the balancer uses these services and no others.
    pub(crate) fn wait_for_services(&self, services: &[&str]) {
        let statistics = format!("{}:9600", self.address("balancer", "stats"));
        wait_until(&format!("the balancer uses {services:?}"), || {
            let up = services_up(&statistics)?;
            up.iter().map(|(name, _)| name).eq(services).then_some(())
        });
    }

    /// Waits until each service gets all of its share: one that has just come back gets less for a while.
    pub(crate) fn wait_evenly_balanced(&self) {
        let statistics = format!("{}:9600", self.address("balancer", "stats"));
        wait_until("the balancer uses all services alike", || {
            let up = services_up(&statistics)?;
            (up.len() == SERVICES.len() && up.iter().all(|(_, is_throttled)| !is_throttled)).then_some(())
        });
    }

    /// Runs `api-client` out of its image, with a client's identity, in a network (or `container:ID`).
    pub(crate) fn client_in(&self, network: &str, client: &Client, arguments: &[&str]) -> Output {
        docker(
            &[&["run", "--rm"][..], &self.client_container(network, client).each_ref().map(|s| &**s), arguments]
                .concat(),
        )
    }

    /// The arguments of `docker run` for that.
    pub(crate) fn client_container(&self, network: &str, client: &Client) -> [String; 7] {
        // The identity's files are its owner's only.
        let owner = fs::metadata(&client.directory).unwrap();
        [
            "--network".to_owned(),
            network.to_owned(),
            "--user".to_owned(),
            format!("{}:{}", owner.uid(), owner.gid()),
            "--volume".to_owned(),
            format!("{}:/data:ro", client.directory.display()),
            format!("localhost/api-client:{}", self.engine.tag),
        ]
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&self.compose(&["logs", "--no-color", "--tail", "40"]).stdout);
        }
        let down = self.compose(&["down", "--volumes", "--remove-orphans", "--timeout", "2"]);
        assert!(down.status.success() || std::thread::panicking(), "{down:#?}");
    }
}

/// The services that the balancer uses, out of its statistics, and whether it spares them yet (slow start).
fn services_up(statistics: &str) -> Option<Vec<(String, bool)>> {
    let mut stream = TcpStream::connect(statistics).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    stream.write_all(b"show stat\n").ok()?;
    let mut table = String::new();
    stream.read_to_string(&mut table).ok()?;
    let mut lines = table.lines();
    let columns: Vec<_> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let column = |name| columns.iter().position(|column| *column == name);
    let (name, status, throttle) = (column("svname")?, column("status")?, column("throttle")?);
    let up = lines
        .map(|line| line.split(',').collect::<Vec<_>>())
        .filter(|fields| fields.len() > throttle && fields[status] == "UP" && SERVICES.contains(&fields[name]))
        .map(|fields| (fields[name].to_owned(), !fields[throttle].is_empty()))
        .collect();
    Some(up)
}

pub(crate) fn docker(arguments: &[&str]) -> Output {
    run(Command::new("docker").args(arguments))
}

/// The same, for asking until an answer comes: the asking costs more than what is waited for.
pub(crate) fn patient(arguments: &[&str]) -> Output {
    std::thread::sleep(Duration::from_millis(200));
    docker(arguments)
}

/// A script of this repository.
pub(crate) fn script(name: &str) -> PathBuf {
    repository().join("scripts").join(name)
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Ports that are free, and not of those that the kernel gives to connections: they have to be free again after a `down`.
fn free_ports() -> [u16; 3] {
    let first = 20_000 + u16::try_from(random() % 10_000).unwrap();
    let mut free = (first..32_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    [(); 3].map(|()| free.next().expect("some of thousands of ports are free"))
}

/// The first three octets of a network that the engine does not use.
fn free_network() -> String {
    let networks = docker(&["network", "ls", "--quiet"]).success().stdout;
    let inspect: Vec<_> = ["network", "inspect"].into_iter().chain(networks.split_whitespace()).collect();
    let used = docker(&inspect).stdout;
    let mut networks = (random()..).map(|number| format!("10.99.{}", number % 256));
    networks.find(|network| !used.contains(&format!("\"{network}."))).expect("the numbers do not end")
}

/// A number that another run does not have.
fn random() -> u32 {
    u32::from_ne_bytes(mtls::random::octets())
}
