//! Up from nothing: shares, addresses, and who can see and reach what.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
};

use e2e::{Client, PATIENCE, run, wait_until};
use serde_json::{Value, json};

use crate::compose::{Fleet, Made, SERVICES, docker, say, script};

/// 300 requests on 30 connections: between 25% and 42% for each.
pub(crate) fn shares(fleet: &Fleet, client: &Client) {
    fleet.wait_evenly_balanced();
    let request = ["request", "--json", "--timeout", "1m", "-n", "300", "-c", "30", "--url", &fleet.url()];
    let summary = run(client.command().args(request)).success().json();
    assert_eq!(summary["answered"], 300, "{summary}");
    let replicas = summary["replicas"].as_object().unwrap();
    assert_eq!(replicas.keys().collect::<Vec<_>>(), SERVICES);
    say(&format!("300 requests on 30 connections: {}", summary["replicas"]));
    assert!(replicas.values().all(|count| (75..=126).contains(&count.as_u64().unwrap())), "{replicas:?}");
}

/// `/hello` answers the address of whoever is in front of the balancer.
pub(crate) fn client_addresses(fleet: &Fleet, client: &Client) {
    let answer = run(client.command().args(["request", "--timeout", "1m", "--url", &fleet.url()])).success();
    let hello: Value = serde_json::from_str(answer.stdout.lines().next().unwrap()).unwrap();
    let gateway = fleet.gateway("edge");
    let address = hello["clientAddress"].as_str().unwrap();
    assert!(
        address.starts_with(&format!("{gateway}:")),
        "from this host it is the bridge's address {gateway}: {hello}"
    );

    // A client in a container of its own has an address of its own, for as long as it runs.
    let name = format!("{}-client", fleet.project);
    let run_it = ["run", "--detach", "--name", &name];
    let _removed = Made::Container(name.clone());
    let container = fleet.client_container(&fleet.network("edge"), client);
    let request = ["request", "-n", "1000000", "-c", "1", "--url", "https://balancer:8443/hello"];
    let _ = docker(&[&run_it[..], &container.each_ref().map(|argument| &**argument), &request].concat()).success();
    let line = wait_until("the client in a container is answered", || {
        docker(&["logs", &name]).stdout.lines().next().map(str::to_owned)
    });
    let inspected = docker(&["inspect", &name]).success().json();
    let hello: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let networks = &inspected[0]["NetworkSettings"]["Networks"];
    let own = networks[fleet.network("edge")]["IPAddress"].as_str().unwrap();
    assert!(hello["clientAddress"].as_str().unwrap().starts_with(&format!("{own}:")), "{own}: {hello}");

    // In logs as well, of whoever is refused.
    let stranger = run(Command::new("curl").args(["-sS", "--insecure", "--max-time", "60", &fleet.url()]));
    assert!(!stranger.status.success(), "{stranger:?}");
    wait_until("the refusal is logged, with the address from in front of the balancer", || {
        let logs = SERVICES.map(|service| fleet.log(service)).concat();
        let mut refusals = logs.lines().filter(|line| line.contains("handshake refused"));
        refusals.any(|line| line.contains(&format!("from={gateway}:"))).then_some(())
    });
}

/// Who is not the balancer cannot write an address for itself.
pub(crate) fn foreign_proxy_header(fleet: &Fleet) {
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x7f\0\0\x01\x15\xb3\x20\xfb";
    let mut stream = TcpStream::connect((fleet.address("service0", "fleet"), 8443)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(header).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.len() < 16, "a TLS alert at most: {answer:?}");
    let own = format!("from={}", stream.local_addr().unwrap());
    wait_until("the refusal is logged, with the address that it came from", || {
        let log = fleet.log("service0");
        log.lines().any(|line| line.contains("handshake refused") && line.contains(&own)).then_some(())
    });
    assert!(!fleet.log("service0").contains("203.0.113.9"), "nobody else's word is taken for it");
}

/// Everything that passes through the balancer's network namespace is captured while a client is answered.
pub(crate) fn end_to_end(fleet: &Fleet, client: &Client) {
    let tag = format!("localhost/capture:{}", fleet.project);
    let context = fleet.directory.path().join("capture");
    let tcpdump = run(Command::new("sh").args(["-c", "PATH=$PATH:/usr/sbin command -v tcpdump"])).success();
    let pack = [context.to_str().unwrap(), tcpdump.stdout.trim(), "/tcpdump"];
    let _ = run(Command::new(script("pack.sh")).args(pack)).success();
    // It gives up being root, unless it is told to stay, and looks both up by name.
    std::fs::create_dir(context.join("etc")).unwrap();
    std::fs::write(context.join("etc/passwd"), "root:x:0:0::/:\n").unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
    let _ = docker(&["build", "--quiet", "--tag", &tag, context.to_str().unwrap()]).success();
    let _image = Made::Image(tag.clone());

    let name = format!("{}-capture", fleet.project);
    let _container = Made::Container(name.clone());
    let balancer = format!("container:{}", fleet.id("balancer"));
    let mut capture = Command::new("docker")
        .args(["run", "--rm", "--name", &name, "--network", &balancer, "--user", "0:0"])
        // The ring has a frame of the snapshot's length for each packet: by default for eight, and the next ones are lost.
        .args([&*tag, "/tcpdump", "-i", "any", "-U", "-w", "-", "-Z", "root", "--immediate-mode"])
        .args(["-s", "65535", "-B", "131072", "tcp port 8443"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut captured = capture.stdout.take().unwrap();
    // The file's header comes when it listens.
    let mut header = [0; 24];
    captured.read_exact(&mut header).unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        captured.read_to_end(&mut bytes).map(|_| bytes).unwrap()
    });
    let answer = client.request(30, &fleet.url()).success().json();
    // Everything that was sent has passed by when its answer has.
    let _ = docker(&["stop", &name]).success();
    let bytes = reader.join().unwrap();
    let told = capture.wait_with_output().unwrap().stderr;
    let told = String::from_utf8_lossy(&told);

    assert_eq!(answer["answered"], 30);
    assert!(told.contains("\n0 packets dropped by kernel"), "the capture has gaps: {told}");
    let contains = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(contains(b"\r\n\r\n\0\r\nQUIT\n"), "the capture of {} bytes has no PROXY header", bytes.len());
    assert!(contains(b"localhost"), "the capture has no TLS handshake, which names the server");
    for secret in ["client_1", "clientAddress", "/hello", "service0", "HTTP/2", "PRI * "] {
        assert!(!contains(secret.as_bytes()), "{secret:?} passed through the balancer in the clear");
    }

    let mounts = fleet.inspect("balancer")["Mounts"].take();
    assert_eq!(mounts.as_array().unwrap().len(), 1, "its configuration is all that it is given: {mounts}");
    let container = Command::new("docker").args(["export", &fleet.id("balancer")]).output().unwrap();
    assert!(container.status.success() && container.stdout.len() > 1_000_000, "the container was exported");
    let begins = b"-----BEGIN PRIVATE KEY-----\n";
    assert!(!container.stdout.windows(begins.len()).any(|window| window == begins), "the balancer holds a key");
}

/// No network leads from the balancer to the authority; from a service, one does.
pub(crate) fn no_way_to_the_authority(fleet: &Fleet, client: &Client) {
    let request = |service: &str, authority: &str, patience: &str| {
        let url = format!("https://{authority}/");
        let network = format!("container:{}", fleet.id(service));
        let arguments = ["request", "--json", "--timeout", patience, "--url", &url];
        fleet.client_in(&network, client, &arguments).json()["failures"][0].take()
    };
    let failure = request("service0", "ca:8440", "1m");
    assert_eq!(failure["status"], 404, "a service reaches the authority, which has nothing at /: {failure}");
    let own = ["authority", "enrollment"].map(|network| format!("{}:8440", fleet.address("ca", network)));
    // The authority's port on the host is for the host itself.
    let hosts = [fleet.gateway("edge"), format!("{}.1", fleet.network)];
    let published = hosts.map(|host| format!("{host}:{}", fleet.ports[1]));
    for authority in own.iter().chain(&published) {
        let failure = request("balancer", authority, "3s");
        let kind = failure["kind"].as_str().unwrap();
        assert!(["timed out", "failed", "connection refused"].contains(&kind), "{authority} is not there: {failure}");
    }
    let failure = request("balancer", "ca:8440", "1m");
    assert!(failure["first"].as_str().unwrap().contains("dns"), "it does not even know the name: {failure}");
}

pub(crate) fn confinement(fleet: &Fleet) {
    let mut seen = fleet.compose(&["config"]).success().stdout;
    // To what each may write.
    let volumes: [(&str, &[&str]); 5] = [
        ("ca", &["/data", "/tokens/service0", "/tokens/service1", "/tokens/service2"]),
        ("service0", &["/data"]),
        ("service1", &["/data"]),
        ("service2", &["/data"]),
        ("balancer", &[]),
    ];
    for (service, volumes) in volumes {
        let inspected = fleet.inspect(service);
        let host = &inspected["HostConfig"];
        assert_eq!(host["ReadonlyRootfs"], true, "{service}");
        let mounts = inspected["Mounts"].as_array().unwrap().iter().filter(|mount| mount["RW"] == true);
        let mut writable: Vec<_> = mounts.map(|mount| mount["Destination"].as_str().unwrap()).collect();
        writable.sort_unstable();
        assert_eq!(writable, volumes, "{service}");
        assert_eq!(host["CapDrop"], json!(["ALL"]), "{service}");
        assert_eq!(host["SecurityOpt"], json!(["no-new-privileges:true"]), "{service}");
        assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped", "{service}");
        assert!(host["Memory"].as_u64() > Some(0) && host["PidsLimit"].as_u64() > Some(0), "{service}: {host}");
        let user = inspected["Config"]["User"].as_str().unwrap();
        assert!(!["", "0", "root"].contains(&user), "{service} runs as {user:?}");
        let image = inspected["Image"].as_str().unwrap();
        seen.push_str(&inspected.to_string());
        seen.push_str(&docker(&["inspect", image]).success().stdout);
        seen.push_str(&docker(&["history", "--no-trunc", image]).success().stdout);
        seen.push_str(&fleet.log(service));
    }
    for secret in ["catoken_", "PRIVATE KEY"] {
        assert!(!seen.contains(secret), "{secret} is to be seen from outside");
    }
    // Each service's token is good for its own name, once, and is used up.
    let tokens = fleet.ca_daemon(&["token", "list", "--json"]).success().json();
    for service in SERVICES {
        let of_service = tokens.as_array().unwrap().iter().filter(|token| token["names"] == service);
        let uses: Vec<_> = of_service.map(|token| (&token["profile"], &token["uses"], &token["used"])).collect();
        assert_eq!(uses, [(&Value::from("server"), &Value::from(1), &Value::from(1))], "{tokens}");
    }
}

/// What is said of an image, and that there is nothing in it but its program and the directories that volumes are mounted on.
pub(crate) fn images(fleet: &Fleet) {
    for program in ["ca-daemon", "api-server", "api-client"] {
        let image = fleet.image(program);
        let config = docker(&["inspect", &image]).success().json()[0]["Config"].take();
        for label in ["title", "description", "licenses", "version", "revision"] {
            let said = config["Labels"][format!("org.opencontainers.image.{label}")].as_str().unwrap_or_default();
            assert!(!said.is_empty(), "{program} has no {label}: {config}");
        }
        let asked = match program {
            "api-client" => json!(["NONE"]),
            _ => json!(["CMD", format!("/{program}"), "healthcheck"]),
        };
        assert_eq!(config["Healthcheck"]["Test"], asked, "{program}");

        let name = format!("{}-{program}", fleet.project);
        let _container = Made::Container(name.clone());
        let _ = docker(&["create", "--name", &name, &image]).success();
        let files = run(Command::new("sh").args(["-c", "docker export \"$1\" | tar -t", "sh", &name])).success();
        // The engine puts these into every container, for what it mounts there.
        let engines = ["dev/", "proc/", "sys/", "etc/", ".dockerenv"];
        let own = files.stdout.lines().filter(|file| !engines.iter().any(|engines| file.starts_with(engines)));
        let own: Vec<_> = own.filter(|file| !file.ends_with('/')).collect();
        assert_eq!(own, [program], "{files:?}");
    }
}
