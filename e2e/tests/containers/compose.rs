//! A fleet under Docker Compose: a project, images, ports and networks of its own, and nothing left behind.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use e2e::{Client, Output, PATIENCE, binary, run, wait_until};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const SERVICES: [&str; 3] = ["service0", "service1", "service2"];

/// Says something whatever the test's outcome is; what tests print is shown for failed ones only.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// An engine that answers, for as long as a story is told on it.
pub(crate) struct Engine(Option<Arc<Images>>);

/// Images of this build's programs: made once for stories that wait for each other, and removed after the last of them.
#[derive(Debug)]
struct Images {
    compose: Vec<&'static str>,
    /// The images' tag.
    tag: String,
    /// Made by this test, and removed by it.
    stand_in: Option<String>,
}

/// Those that are there; whoever makes or removes them holds this.
static IMAGES: Mutex<Weak<Images>> = Mutex::new(Weak::new());
/// Whoever tells a story holds this.
static TURN: Mutex<()> = Mutex::new(());

/// A story that failed is no reason not to tell the next one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// None where there is no engine, or where the programs would not run in images of their own; that is said.
    pub(crate) fn ready() -> Option<Self> {
        let mut shared = lock(&IMAGES);
        if let Some(images) = shared.upgrade() {
            return Some(Self(Some(images)));
        }
        let images = Arc::new(Images::make()?);
        *shared = Arc::downgrade(&images);
        Some(Self(Some(images)))
    }

    /// Waits until no other story is told.
    #[expect(clippy::unused_self, reason = "only whoever has an engine has a story to tell")]
    pub(crate) fn turn(&self) -> MutexGuard<'static, ()> {
        lock(&TURN)
    }

    fn images(&self) -> &Images {
        self.0.as_deref().expect("they are there until this goes out of scope")
    }

    /// The words of the command that is Docker Compose here.
    pub(crate) fn compose(&self) -> &[&'static str] {
        &self.images().compose
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _nobody_makes_them_meanwhile = lock(&IMAGES);
        self.0 = None;
    }
}

impl Images {
    fn make() -> Option<Self> {
        let skipped = |why: &str| {
            say(&format!("\nSKIPPED: the fleet in containers was not tested: {why}\n"));
            None
        };
        let version = Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
        if std::env::var_os("TEST_WITHOUT_CONTAINERS").is_some() {
            return skipped("TEST_WITHOUT_CONTAINERS is set");
        }
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

        let mut images = Self { compose, tag: format!("test-{}", std::process::id()), stand_in: None };
        let programs = binary("ca-daemon").parent().unwrap().to_owned();
        let packed = run(Command::new(script("images.sh")).arg(&programs).arg(&images.tag)).success();
        let made = run(&mut Command::new(script("haproxy-stand-in.sh"))).success();
        images.stand_in = made.stdout.split_once(' ').map(|(image, _)| image.to_owned());
        let version = run(Command::new(images.compose[0]).args(&images.compose[1..]).args(["version", "--short"]));
        let compose = format!("{} {}", images.compose.join(" "), version.stdout.trim());
        say(&format!("\nimages of this build, for {compose}:\n{}{}", packed.stdout, made.stdout));
        Some(images)
    }
}

impl Drop for Images {
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
            Self::Short => "75s",
        }
    }
}

/// A fleet, running or not.
pub(crate) struct Fleet<'a> {
    engine: &'a Engine,
    life: Life,
    pub(crate) project: String,
    /// On this host: the balancer's, and the authority's for enrollment and for CRLs.
    pub(crate) ports: [u16; 3],
    /// The first three bytes of the balancer's and the services' network.
    pub(crate) network: String,
    pub(crate) directory: TempDir,
}

impl<'a> Fleet<'a> {
    /// One that is not up yet.
    pub(crate) fn new(engine: &'a Engine, life: Life, ports: [u16; 3]) -> Self {
        Self {
            engine,
            life,
            // In a container of its own, a run has the process id of the one before it, which may have been killed.
            project: format!("fleet-test-{}-{}", std::process::id(), random()),
            ports,
            network: free_network(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Brings everything up; returns when every service is healthy, and the balancer knows.
    pub(crate) fn up(engine: &'a Engine, life: Life) -> Self {
        let fleet = Self::new(engine, life, free_ports());
        let began = Instant::now();
        let _ = fleet.compose(&["up", "-d"]).success();
        say(&format!("cold start, from nothing to three healthy services: {:.1} s", began.elapsed().as_secs_f64()));
        fleet.wait_balanced();
        fleet
    }

    /// A command of Docker Compose on this fleet.
    pub(crate) fn compose(&self, arguments: &[&str]) -> Output {
        let words = self.engine.compose();
        run(Command::new(words[0]).args(&words[1..]).args(arguments).envs(self.environment()))
    }

    /// What tells Docker Compose that this fleet is meant, and what is special about it.
    pub(crate) fn environment(&self) -> [(&'static str, String); 8] {
        let [balancer, ca, crl] = self.ports.map(|port| port.to_string());
        [
            ("COMPOSE_FILE", repository().join("docker-compose.yml").display().to_string()),
            ("COMPOSE_PROJECT_NAME", self.project.clone()),
            ("IMAGE_TAG", self.engine.images().tag.clone()),
            ("FLEET_NETWORK", self.network.clone()),
            ("CRL_LIFETIME", self.life.as_str().to_owned()),
            ("BALANCER_PORT", balancer),
            ("CA_PORT", ca),
            ("CRL_PORT", crl),
        ]
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

    /// This host's address in a network.
    pub(crate) fn gateway(&self, network: &str) -> String {
        let inspected = docker(&["network", "inspect", &self.network(network)]).success().json();
        inspected[0]["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned()
    }

    /// The image of a program of this build.
    pub(crate) fn image(&self, program: &str) -> String {
        format!("localhost/{program}:{}", self.engine.images().tag)
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

    /// How many connections the balancer has open to clients.
    pub(crate) fn balanced_connections(&self) -> u64 {
        let statistics = format!("{}:9600", self.address("balancer", "stats"));
        let rows = rows(&statistics, ["pxname", "svname", "scur"]).unwrap_or_default();
        let of_clients = rows.iter().find(|[proxy, name, _]| proxy == "clients" && name == "FRONTEND");
        of_clients.map_or(0, |[_, _, connections]| connections.parse().unwrap())
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
            self.image("api-client"),
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

/// The services that the balancer uses, and whether it spares them yet (slow start).
fn services_up(statistics: &str) -> Option<Vec<(String, bool)>> {
    let rows = rows(statistics, ["svname", "status", "throttle"])?.into_iter();
    let up = rows.filter(|[name, status, _]| status == "UP" && SERVICES.contains(&&**name));
    Some(up.map(|[name, _, throttle]| (name, !throttle.is_empty())).collect())
}

/// These columns of the balancer's statistics.
fn rows<const N: usize>(statistics: &str, columns: [&str; N]) -> Option<Vec<[String; N]>> {
    let mut stream = TcpStream::connect(statistics).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"show stat\n").ok()?;
    let mut table = String::new();
    stream.read_to_string(&mut table).ok()?;
    let mut lines = table.lines().map(|line| line.trim_start_matches("# ").split(',').collect::<Vec<_>>());
    let names = lines.next()?;
    let columns = columns.map(|column| names.iter().position(|name| *name == column).expect(column));
    let full = lines.filter(|fields| fields.len() == names.len());
    Some(full.map(|fields| columns.map(|column| fields[column].to_owned())).collect())
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

/// The first three bytes of a network that the engine does not use.
fn free_network() -> String {
    let networks = docker(&["network", "ls", "--quiet"]).success().stdout;
    let inspect: Vec<_> = ["network", "inspect"].into_iter().chain(networks.split_whitespace()).collect();
    let used = docker(&inspect).stdout;
    let mut networks = (random()..).map(|number| format!("10.99.{}", number % 256));
    networks.find(|network| !used.contains(&format!("\"{network}."))).expect("the numbers do not end")
}

/// A number that another run does not have.
fn random() -> u32 {
    u32::from_ne_bytes(edge::random::bytes())
}
