//! The first story of docs/containers.md, typed as it is printed there, on a terminal, with its own ports.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    process::Command,
};

use e2e::{binary, run};

use crate::compose::{Engine, Fleet, Life, repository, say};

/// The ports that everything has where nobody says otherwise.
const PORTS: [u16; 3] = [8443, 8440, 8480];

pub(crate) fn document(engine: &Engine) {
    if let Some(port) = PORTS.iter().find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, **port)).is_err()) {
        say(&format!("\nSKIPPED: docs/containers.md was not typed: port {port} is in use\n"));
        return;
    }
    let fleet = Fleet::new(engine, Life::Long, PORTS);
    // Compose of before it was a plugin is another word.
    let compose = match engine.compose() {
        [command] => format!("docker() {{ shift; {command} \"$@\"; }}\n"),
        _ => String::new(),
    };
    // The images are there, of this build.
    let commands: String =
        section().lines().filter(|line| !line.starts_with("make images")).flat_map(|line| [line, "\n"]).collect();
    let typed = format!("set -e\n{compose}{commands}");
    let script = fleet.directory.path().join("typed.sh");
    fs::write(&script, &typed).unwrap();
    let programs = binary("api-client").parent().unwrap().to_owned();
    let path = std::env::join_paths(
        [programs].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    // A terminal, as `docker compose exec` wants to have one.
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", "bash typed.sh", "/dev/null"]);
    terminal.current_dir(fleet.directory.path()).env_remove("CA_TOKEN");
    let said = run(terminal.envs(fleet.environment()).env("PATH", path.unwrap()));
    assert_eq!(said.code(), 3, "the last request is refused: {said:#?}");
    for part in ["50 of 50 requests answered", "3 of 3 relying parties enforce it", "certificate_revoked"] {
        assert!(said.stdout.contains(part), "{part:?} is not among what was said: {said:#?}");
    }
}

/// The commands of the document's first block that is marked as typed here.
fn section() -> String {
    let document = fs::read_to_string(repository().join("docs/containers.md")).unwrap();
    let marked = document.split_once("<!-- typed by: e2e/tests/containers/typed.rs -->\n```sh\n");
    let commands = marked.and_then(|(_, rest)| rest.split_once("```"));
    commands.expect("the document has a block of commands").0.to_owned()
}
