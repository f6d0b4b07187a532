//! Up from nothing: shares, addresses, and who can see and reach what.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use e2e::{Client, run, wait_until};
use serde_json::Value;

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
    let answer = run(client.command().args(["request", "--url", &fleet.url()])).success();
    let hello: Value = serde_json::from_str(answer.stdout.lines().next().unwrap()).unwrap();
    let gateway = docker(&["network", "inspect", &fleet.network("edge")]).success().json();
    let gateway = gateway[0]["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
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
}

/// Who is not the balancer cannot write an address for itself.
pub(crate) fn foreign_proxy_header(fleet: &Fleet) {
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x7f\0\0\x01\x15\xb3\x20\xfb";
    let mut stream = TcpStream::connect((fleet.address("service0", "fleet"), 8443)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
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
        let mut octets = Vec::new();
        captured.read_to_end(&mut octets).map(|_| octets).unwrap()
    });
    let answer = client.request(30, &fleet.url()).success().json();
    // Everything that was sent has passed by when its answer has.
    let _ = docker(&["stop", &name]).success();
    let octets = reader.join().unwrap();
    let told = capture.wait_with_output().unwrap().stderr;
    let told = String::from_utf8_lossy(&told);

    assert_eq!(answer["answered"], 30);
    assert!(told.contains("\n0 packets dropped by kernel"), "the capture has gaps: {told}");
    let contains = |text: &[u8]| octets.windows(text.len()).any(|window| window == text);
    assert!(contains(b"\r\n\r\n\0\r\nQUIT\n"), "the capture of {} octets has no PROXY header", octets.len());
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
    let request = |service: &str, host: &str, patience: &str| {
        let url = format!("https://{host}:8440/");
        let network = format!("container:{}", fleet.id(service));
        let arguments = ["request", "--json", "--timeout", patience, "--url", &url];
        fleet.client_in(&network, client, &arguments).json()["failures"][0].take()
    };
    assert_eq!(
        request("service0", "ca", "1m")["status"],
        404,
        "a service reaches the authority, which has nothing at /"
    );
    for network in ["authority", "enrollment"] {
        let failure = request("balancer", &fleet.address("ca", network), "3s");
        assert_eq!(failure["status"], Value::Null, "{failure}");
        let kind = failure["kind"].as_str().unwrap();
        assert!(["timed out", "failed"].contains(&kind), "nothing answers there: {failure}");
    }
    let failure = request("balancer", "ca", "1m");
    assert!(failure["first"].as_str().unwrap().contains("dns"), "it does not even know the name: {failure}");
}

pub(crate) fn confinement(fleet: &Fleet) {
    let mut seen = fleet.compose(&["config"]).success().stdout;
    for service in ["ca", "service0", "service1", "service2", "balancer"] {
        let inspected = fleet.inspect(service);
        let host = &inspected["HostConfig"];
        assert_eq!(host["ReadonlyRootfs"], true, "{service}");
        assert_eq!(host["RestartPolicy"]["Name"], "unless-stopped", "{service}");
        assert!(host["Memory"].as_u64() > Some(0) && host["PidsLimit"].as_u64() > Some(0), "{service}: {host}");
        let user = inspected["Config"]["User"].as_str().unwrap();
        assert!(!["", "0", "root"].contains(&user), "{service} runs as {user:?}");
        let image = inspected["Image"].as_str().unwrap();
        seen.push_str(&inspected.to_string());
        seen.push_str(&docker(&["inspect", image]).success().stdout);
        seen.push_str(&docker(&["history", "--no-trunc", image]).success().stdout);
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
