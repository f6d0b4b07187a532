//! Where a command writes: new files, which are checked before anything is done; standard output; or another device or
//! pipe.
//!
//! It never overwrites a file, and never replaces what is not a regular file.

use std::{
    convert::Infallible,
    ffi::OsString,
    fmt, fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context as _;
use edge::files::{self, Access, FileError};

use crate::cli::{Failure, ui::output::Output};

/// An output; `-` is standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Target {
    Output,
    File(PathBuf),
}

impl From<OsString> for Target {
    fn from(given: OsString) -> Self {
        if given == "-" { Self::Output } else { Self::File(given.into()) }
    }
}

impl FromStr for Target {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(OsString::from(text).into())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output => f.write_str("standard output"),
            Self::File(file) => file.display().fmt(f),
        }
    }
}

impl Target {
    /// Writes all of it.
    pub(in crate::cli) fn write(&self, output: &Output, contents: &[u8], access: Access) -> anyhow::Result<()> {
        match self {
            Self::Output => output.raw(contents),
            Self::File(file) => Ok(files::write_where_told(file, contents, access)?),
        }
    }

    /// Whether it is a terminal.
    pub(in crate::cli) fn is_terminal(&self) -> bool {
        match self {
            Self::Output => io::stdout().is_terminal(),
            // Only a device is opened: opening a pipe would wait for its reader.
            Self::File(file) => {
                use std::os::unix::fs::FileTypeExt as _;
                let is_device = fs::metadata(file).is_ok_and(|metadata| metadata.file_type().is_char_device());
                is_device && fs::File::options().write(true).open(file).is_ok_and(|device| device.is_terminal())
            }
        }
    }

    /// Removes what was written in vain. `belongs` describes it if that fails.
    pub(in crate::cli) fn remove_unused(&self, belongs: &str) -> anyhow::Result<()> {
        match self {
            Self::Output => Ok(()),
            Self::File(file) => remove_unused(file, belongs),
        }
    }
}

/// Checks that these can be created. `otherwise` is the end of the error: what was not done, and what to do instead.
pub(in crate::cli) fn check(targets: &[&Target], otherwise: &str) -> Result<(), Failure> {
    for target in targets {
        let Target::File(file) = target else { continue };
        match fs::metadata(file) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(Failure::Usage(format!("{} is a directory; {otherwise}", file.display())));
            }
            Ok(metadata) if metadata.is_file() && !files::is_descriptor(file) => {
                return Err(Failure::Refused(format!("{} exists; {otherwise}", file.display())));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = files::pointed_to(file);
                let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
                if let Some(missing) = directory.filter(|directory| !directory.is_dir()) {
                    return Err(Failure::Usage(format!("the directory {} does not exist", missing.display())));
                }
            }
            Err(error) => return Err(Failure::Usage(format!("{} cannot be written: {error}", file.display()))),
        }
    }
    Ok(())
}

/// Removes a file that was written in vain. What is not a regular file stays.
pub(in crate::cli) fn remove_unused(file: &Path, belongs: &str) -> anyhow::Result<()> {
    let file = files::pointed_to(file);
    if fs::metadata(&file).is_ok_and(|metadata| metadata.is_file()) && !files::is_descriptor(&file) {
        fs::remove_file(&file).with_context(|| format!("{} {belongs} and stays", file.display()))?;
    }
    Ok(())
}

/// Writes a secret to the file that was given.
pub(in crate::cli) fn write_secret(file: &Path, text: &[u8]) -> Result<(), FileError> {
    files::write_where_told(file, text, Access::Private)
}
