//! Every command in a document is typed by a test, or marked with the reason why not. Owns the rules for blocks of commands; never adds
//! a command of its own.
//!
//! A fenced block with the language `sh` is one of three:
//!
//! - in a story, between `<!-- story -->` and `<!-- end of story -->`: `scripts/type-story.sh` types it here;
//! - behind `<!-- typed by: FILE -->`: another test types it, which has to name the document;
//! - behind `<!-- not typed: REASON -->`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{binary, run, wait_until};

/// The documents with stories, and how many stories each has. One test below for each.
const STORIES: [(&str, usize); 2] = [("README.md", 1), ("docs/operations.md", 1)];

/// Parts of commands of other programs, and of names that only look like flags.
const FOREIGN: [&str; 6] = ["--crlfile", "--profile dist", "cargo ", "docker", "curl ", "openssl "];

/// The default ports, on which stories listen: a story is typed as it is printed.
const PORTS: [u16; 10] = [8440, 8443, 8450, 8451, 8452, 8480, 8481, 8081, 8082, 8083];

/// What becomes of the blocks of a document.
#[derive(Debug, Default)]
struct Blocks {
    stories: usize,
    typed: usize,
    /// By the file of the test.
    typed_elsewhere: Vec<String>,
    /// The reasons.
    not_typed: Vec<String>,
}

#[test]
fn every_block_of_commands_is_typed_or_says_why_not() {
    let mut stories = BTreeMap::new();
    for document in documents() {
        let blocks = blocks(&document).unwrap_or_else(|problem| panic!("{document}: {problem}"));
        say(&format!(
            "{document}: {} blocks typed here in {} stories, {} typed by another test, {} not typed",
            blocks.typed,
            blocks.stories,
            blocks.typed_elsewhere.len(),
            blocks.not_typed.len()
        ));
        for reason in &blocks.not_typed {
            say(&format!("    not typed: {reason}"));
        }
        for test in &blocks.typed_elsewhere {
            let source = fs::read_to_string(repository().join(test)).unwrap_or_else(|error| panic!("{test}: {error}"));
            let name = document.rsplit('/').next().unwrap_or_default();
            assert!(source.contains(name), "{document} is not typed by {test}, which does not name it");
        }
        if blocks.stories > 0 {
            stories.insert(document, blocks.stories);
        }
    }
    let tested = STORIES.iter().map(|(document, count)| ((*document).to_owned(), *count)).collect();
    assert_eq!(stories, tested, "each story has a test, and each test a story");
}

/// Prose and tables name commands and flags, too. They are not typed, but they have to exist.
#[test]
fn commands_and_flags_in_prose_exist() {
    let helps: BTreeMap<String, BTreeSet<String>> =
        ["ca-daemon", "api-server", "api-client"].into_iter().flat_map(|program| helps(program, &[])).collect();
    let all: BTreeSet<&str> = helps.values().flatten().map(String::as_str).collect();
    let mut unknown = Vec::new();
    // The changelog names what older versions had.
    for document in documents().iter().filter(|document| *document != "CHANGELOG.md") {
        let source = fs::read_to_string(repository().join(document)).expect("the document can be read");
        for span in code_spans(&source) {
            if FOREIGN.iter().any(|foreign| span.contains(foreign)) {
                continue;
            }
            // The longest command that the span begins with; without one, a flag may be any command's.
            let command =
                helps.keys().filter(|command| begins_with(&span, command)).max_by_key(|command| command.len());
            let known = |flag: &String| command.map_or(all.contains(&**flag), |command| helps[command].contains(flag));
            unknown
                .extend(flags(&span).filter(|flag| !known(flag)).map(|flag| format!("{document}: {flag} in `{span}`")));
        }
    }
    assert!(unknown.is_empty(), "there are no such flags:\n{}", unknown.join("\n"));
}

#[test]
fn the_readmes_story_is_typed() {
    let transcript = type_story("README.md", 1);
    for part in ["50 of 50 requests answered", "3 of 3 relying parties enforce it", "TLS alert certificate_revoked"] {
        assert!(transcript.contains(part), "{part:?} is missing:\n{transcript}");
    }
}

/// The picture is a recording, so it cannot be mended by hand: `make story-picture`.
#[test]
fn the_picture_shows_the_readmes_story() {
    let readme = fs::read_to_string(repository().join("README.md")).expect("the README can be read");
    let picture = fs::read_to_string(repository().join("docs/story.svg")).expect("the picture can be read");
    let rows = picture.split("<text ").skip(1).filter_map(|row| row.split_once('>')?.1.split_once("</text>"));
    let without_spaces = |text: &str| text.split_whitespace().collect::<String>();
    let shown: String = rows.map(|(row, _)| without_spaces(row)).collect();
    let story = readme.split_once("<!-- story -->").and_then(|(_, rest)| rest.split_once("<!-- end of story -->"));
    let mut rest = &*shown;
    for line in story.expect("the README has a story").0.lines().filter(|line| !line.starts_with("```")) {
        let line = without_spaces(line).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let place = rest.find(&line).unwrap_or_else(|| panic!("run make story-picture: docs/story.svg lacks {line}"));
        rest = &rest[place + line.len()..];
    }
}

#[test]
fn the_operators_story_is_typed() {
    let transcript = type_story("docs/operations.md", 1);
    for part in [
        "revoked laptop-7",
        "1 of 1 relying parties enforce it",
        "TLS alert certificate_revoked",
        "not known here otherwise",
    ] {
        assert!(transcript.contains(part), "{part:?} is missing:\n{transcript}");
    }
}

/// Types a story in a fresh directory, and returns what was typed and answered. Panics where a command ends otherwise than the document
/// says.
///
/// A network namespace keeps the fixed ports apart from everything else. Where none can be made, stories follow each other on the ports
/// of this machine.
fn type_story(document: &str, number: usize) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let typist = repository().join("scripts/type-story.sh");
    let (mut command, _turn) = match namespace() {
        Some(unshare) => {
            let mut command = Command::new("unshare");
            command.args(unshare).args(["sh", "-c", r#"ip link set lo up && exec "$@""#, "sh"]).arg(typist);
            (command, None)
        }
        None => (Command::new(typist), Some(turn())),
    };
    let programs = binary("ca-daemon").parent().expect("programs are in a directory").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = [programs].into_iter().chain(std::env::split_paths(&path)).chain(["/usr/sbin".into(), "/sbin".into()]);
    command
        .arg(repository().join(document))
        .arg(number.to_string())
        .current_dir(directory.path())
        .env("PATIENCE", "1m")
        .env("PATH", std::env::join_paths(path).expect("no directory has a colon in its name"));
    for name in ["CA_TOKEN", "CA_DIR", "CA_LOG", "API_LOG"] {
        command.env_remove(name);
    }
    let output = run(&mut command);
    assert!(output.status.success(), "{}\n{}", output.stdout, output.stderr);
    output.stdout
}

/// The arguments with which `unshare` makes a network namespace for this user, where it can.
fn namespace() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];
    let works = |way: &&&[&str]| {
        let mut probe = Command::new("unshare");
        probe.args(**way).args(["sh", "-c", "ip link set lo up"]);
        probe.output().is_ok_and(|output| output.status.success())
    };
    WAYS.iter().find(works).copied()
}

/// Each command beneath this one, itself included, and the flags that its help names.
fn helps(program: &str, subcommands: &[&str]) -> Vec<(String, BTreeSet<String>)> {
    let help = run(Command::new(binary(program)).args(subcommands).arg("--help")).success().stdout;
    let name = [&[program], subcommands].concat().join(" ");
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Descriptions that are wrapped are indented further.
    let names = listed.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let beneath: Vec<&str> = names.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help").collect();
    let mut all = vec![(name, flags(&help).collect())];
    for subcommand in beneath {
        all.extend(helps(program, &[subcommands, &[subcommand]].concat()));
    }
    all
}

/// The long flags in a text.
fn flags(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 3 && word.as_bytes()[2] != b'-').map(str::to_owned)
}

/// Whether the words of `span` begin with those of `command`.
fn begins_with(span: &str, command: &str) -> bool {
    span.strip_prefix(command).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// What stands between backticks outside of fenced blocks, in one line each.
fn code_spans(document: &str) -> Vec<String> {
    let mut prose = String::new();
    let mut fenced = false;
    for line in document.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.extend([line, "\n"]);
        }
    }
    prose.split('`').skip(1).step_by(2).map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Waits until no other test types a story on this machine's ports; the turn ends when the listener is dropped.
fn turn() -> TcpListener {
    let turn = wait_until("no other story is typed", || TcpListener::bind((Ipv4Addr::LOCALHOST, 8400)).ok());
    wait_until("the default ports are free", || {
        PORTS.iter().all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).then_some(())
    });
    turn
}

/// The documents for people, from the repository's root.
fn documents() -> Vec<String> {
    let mut documents = Vec::new();
    for directory in ["", "docs/", "bench/"] {
        let entries = fs::read_dir(repository().join(directory)).expect("the directory can be read");
        for entry in entries {
            let name = entry.expect("the directory can be read").file_name().into_string().expect("names are UTF-8");
            if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
                documents.push(format!("{directory}{name}"));
            }
        }
    }
    documents.sort();
    documents
}

/// What becomes of each block of a document, or what is wrong with it.
fn blocks(document: &str) -> Result<Blocks, String> {
    let source = fs::read_to_string(repository().join(document)).map_err(|error| error.to_string())?;
    let (mut blocks, mut story, mut marker, mut fence) = (Blocks::default(), false, None, None);
    for (index, line) in source.lines().enumerate() {
        let wrong = |problem: &str| Err(format!("line {}: {problem}", index + 1));
        if let Some(language) = fence {
            match line {
                "```" => fence = None,
                _ if language != "sh" && line.starts_with("$ ") => {
                    return wrong("a command belongs into a block of ```sh, where a test types it");
                }
                _ => {}
            }
            continue;
        }
        if let Some(language) = line.strip_prefix("```") {
            fence = Some(language);
            match (language, marker.take(), story) {
                ("sh", None, true) => blocks.typed += 1,
                ("sh", Some(Marker::NotTyped(reason)), _) => blocks.not_typed.push(reason),
                ("sh", Some(Marker::TypedBy(test)), _) => blocks.typed_elsewhere.push(test),
                ("sh", None, false) => {
                    return wrong("this block is in no story, and has no reason why it is not typed");
                }
                ("bash" | "shell" | "console", ..) => return wrong("blocks of commands are ```sh"),
                _ => {}
            }
            continue;
        }
        match line {
            "<!-- story -->" if !story => (story, blocks.stories) = (true, blocks.stories + 1),
            "<!-- end of story -->" if story => story = false,
            "" => {}
            _ => marker = Marker::read(line),
        }
    }
    if story || fence.is_some() { Err("a story or a block has no end".to_owned()) } else { Ok(blocks) }
}

/// The comment before a block that is not in a story.
enum Marker {
    TypedBy(String),
    NotTyped(String),
}

impl Marker {
    fn read(line: &str) -> Option<Self> {
        let comment = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
        let typed = comment.strip_prefix("typed by: ").map(|test| Self::TypedBy(test.to_owned()));
        typed.or_else(|| comment.strip_prefix("not typed: ").map(|reason| Self::NotTyped(reason.to_owned())))
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[expect(clippy::print_stderr, reason = "the counts are for whoever runs the test")]
fn say(line: &str) {
    eprintln!("{line}");
}
