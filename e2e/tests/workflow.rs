//! The CI workflow: it is valid YAML, and it runs the verbs of the Makefile with the promised toolchain and the current
//! one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::run;
use serde_json::Value;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The workflow, read by the YAML library of the virtualenv that `scripts/setup-linter.sh` makes.
fn workflow() -> Value {
    let read = "import json, sys, yaml; json.dump(yaml.load(open(sys.argv[1]), yaml.BaseLoader), sys.stdout)";
    let python = file("target/linter/bin/python");
    assert!(python.exists(), "{} is missing; run: scripts/setup-linter.sh", python.display());
    run(Command::new(python).args(["-c", read]).arg(file(".github/workflows/ci.yml"))).success().json()
}

#[test]
fn the_workflow_runs_the_verbs_of_the_makefile_with_the_promised_toolchain_and_the_current_one() {
    let workflow = workflow();
    assert!(workflow["on"]["pull_request"].is_string() && workflow["permissions"]["contents"] == "read");
    let manifest = fs::read_to_string(file("Cargo.toml")).unwrap();
    let oldest = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("it is promised");
    let makefile = fs::read_to_string(file("Makefile")).unwrap();
    let jobs = workflow["jobs"].as_object().unwrap();
    for (name, job) in jobs {
        let toolchains = job["strategy"]["matrix"]["toolchain"].as_array().unwrap();
        let [pinned, current] = toolchains.as_slice() else { panic!("{toolchains:?}") };
        assert_eq!(pinned.as_str().unwrap(), format!("{}.0", oldest.trim_matches('"')), "{name}");
        assert_eq!(current, "stable");
        assert!(job["timeout-minutes"].is_string() && job["runs-on"].is_string(), "{name}");
        let steps = job["steps"].as_array().unwrap();
        let commands: Vec<_> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
        assert!(commands.contains(&&*format!("make {name}")), "{commands:?}");
        for verb in commands.iter().flat_map(|command| command.split("make ").skip(1)) {
            let verb = verb.split(|character: char| !character.is_ascii_lowercase()).next().unwrap();
            assert!(makefile.contains(&format!("\n{verb}:")), "make {verb} does not exist");
        }
        // Pinned to a release of the action, not to whatever its branch is.
        for uses in steps.iter().filter_map(|step| step["uses"].as_str()) {
            assert!(uses.split_once("@v").is_some_and(|(_, version)| version.parse::<u32>().is_ok()), "{uses}");
        }
    }
    assert_eq!(jobs.keys().collect::<Vec<_>>(), ["check", "test"]);
}

/// Where it is installed: Debian has no package of it.
#[test]
fn actionlint_finds_nothing() {
    let Ok(output) = Command::new("actionlint").arg(file(".github/workflows/ci.yml")).output() else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
