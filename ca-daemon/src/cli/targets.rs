//! New files that a command writes: what can be known of them before anything is done is found out before.
//!
//! It never overwrites a file.

use std::path::Path;

use anyhow::Context as _;

use super::Failure;

/// Checks that these files can be made. `otherwise` says what was not done, and what to do instead.
pub(super) fn check(files: &[&Path], otherwise: &str) -> Result<(), Failure> {
    for file in files {
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(missing) = directory.filter(|directory| !directory.is_dir()) {
            return Err(Failure::Usage(format!("the directory {} does not exist", missing.display())));
        }
        if file.exists() {
            return Err(Failure::Refused(format!("{} exists; {otherwise}", file.display())));
        }
    }
    Ok(())
}

/// Removes what was written for nothing; `belongs` says what it is where that fails.
pub(super) fn remove_unused(file: &Path, belongs: &str) -> anyhow::Result<()> {
    std::fs::remove_file(file).with_context(|| format!("{} {belongs} and stays", file.display()))
}
