//! Somebody between a service and the authority's plain HTTP plays signed lists again that were good yesterday.

use std::{collections::HashMap, fs, net::SocketAddr, process::Command};

use e2e::{Fleet, Process, Replay, binary, run};

#[test]
fn a_service_that_lost_its_lists_takes_them_from_the_authority_and_not_from_yesterday() {
    let mut fleet = Fleet::new();
    fleet.start_service("service0", &[]);
    fleet.wait_connected(1);
    let (client, bystander) = (fleet.enroll("client_1"), fleet.enroll("client_2"));
    let yesterday: HashMap<_, _> = ["/crl/root.crl", "/crl/issuing.crl", "/crl/issuing-delta.crl"]
        .into_iter()
        .map(|path| {
            let file = fleet.directory().join("yesterday.crl");
            let url = format!("{}{path}", fleet.crl_url());
            let _ = run(Command::new("curl").args(["-sSf", "-o"]).arg(&file).arg(url)).success();
            (path.to_owned(), fs::read(&file).expect("curl wrote it"))
        })
        .collect();
    let _ = fleet.ca_daemon(&["revoke", "client_1", "--wait", "1m"]).success();

    // The authority's plain HTTP is not where it was; somebody else is.
    fleet.ca().kill();
    fleet.service(0).process.kill();
    let plain = |port| SocketAddr::from((fleet.address(), port));
    let (https, elsewhere) = (plain(8440).to_string(), plain(8482).to_string());
    let _replay = Replay::start(plain(8480), yesterday);
    let authority = Process::start(binary("ca-daemon"), &fleet.directory().join("elsewhere.log"), |command| {
        let listen =
            ["serve", "--json", "--listen", &https, "--http-listen", &elsewhere, "--ops-listen", "127.0.0.1:0"];
        command.current_dir(fleet.directory()).env_remove("CA_DIR").args(listen);
    });
    let _ = authority.line();
    fs::remove_dir_all(fleet.directory().join("service0/crl")).expect("the service keeps its CRLs there");
    fleet.restart_service(0, &[]);

    let url = fleet.service(0).url();
    let refused = client.request(1, &url).json();
    assert_eq!(refused["failures"][0]["alert"], "certificate_revoked", "{refused}");
    let _ = bystander.request(1, &url).success();
}
