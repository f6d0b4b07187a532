//! The help of the programs: each command has examples that the parser accepts, and a manual page without errors.

use std::{fs, path::Path, process::Command as Process};

use clap::{Command, CommandFactory as _};
use e2e::{example, run};

fn programs() -> [Command; 3] {
    [ca_daemon::cli::command(), api_server::config::Arguments::command(), api_client::cli::Arguments::command()]
        .map(|program| program.disable_help_subcommand(true))
}

/// A command and all commands beneath it, by what is typed for each.
fn commands(typed: &str, command: &Command) -> Vec<(String, Command)> {
    let beneath =
        command.get_subcommands().flat_map(|command| commands(&format!("{typed} {}", command.get_name()), command));
    [(typed.to_owned(), command.clone())].into_iter().chain(beneath).collect()
}

/// The words of a line, as a shell would have them; without what is done with the output.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" > ").next().unwrap_or(line);
    line.split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect()
}

#[test]
fn every_command_has_examples_and_the_parser_accepts_them() {
    let mut count = 0;
    for program in programs() {
        for (typed, command) in commands(program.get_name(), &program) {
            let after = command.get_after_help().unwrap_or_else(|| panic!("{typed} has no examples")).to_string();
            let (_, examples) = after.split_once("Examples:\n").unwrap_or_else(|| panic!("{typed} has no examples"));
            let examples: Vec<_> = examples.lines().take_while(|line| line.starts_with("  ")).collect();
            assert!(!examples.is_empty(), "{typed}");
            for line in examples {
                let line = line.trim();
                assert!(line.starts_with(&typed), "{line:?} is not an example of {typed}");
                let parsed = program.clone().try_get_matches_from(words(line));
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                count += 1;
            }
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn every_command_has_a_manual_page_without_errors() {
    let directory = tempfile::tempdir().unwrap();
    let _ = run(Process::new(example("man")).arg(directory.path()).arg("2026-11-24")).success();
    let mut pages: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let mut expected: Vec<_> = programs()
        .iter()
        .flat_map(|program| commands(program.get_name(), program))
        .map(|(typed, _)| typed.replace(' ', "-"))
        .collect();
    expected.sort();
    let mut names: Vec<_> = pages.iter().map(|path| name(path)).collect();
    names.sort();
    assert_eq!(names, expected);
    let linted = run(Process::new("mandoc").args(["-T", "lint", "-W", "error"]).args(&pages));
    assert!(linted.status.success() && linted.stdout.is_empty(), "{linted:?}");
    let shown = run(Process::new("mandoc").args(["-T", "utf8"]).arg(directory.path().join("ca-daemon-revoke.1")));
    assert!(shown.success().stdout.contains("ca-daemon revoke client_1 --reason key-compromise"));
}
