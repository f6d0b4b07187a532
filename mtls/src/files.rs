//! Files that hold keys, certificates, tokens and CRLs: written whole or not at all, private where they are secret.
//!
//! It never looks into what it reads and writes.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner only (0600).
    Private,
    /// Everybody (0644).
    Public,
}

/// What could not be done with which file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// The operating system said no.
    #[error("{} cannot be {action}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried: `read`, `written`, ...
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A secret that others can read is not secret any more.
    #[error("{} can be read by others (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    NotPrivate {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl FileError {
    /// Whether the file simply is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound && action == "read" {
            Self::Missing(path.to_owned())
        } else {
            Self::Io { path: path.to_owned(), action, source }
        }
    }
}

/// Reads a file that anybody may read.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|source| FileError::io(path, "read", source))
}

/// Reads a text file that anybody may read.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|source| FileError::io(path, "read", source))
}

/// Reads a text file that holds a secret. Refuses one that its group or others can access.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let octets = read_secret_octets(path)?;
    let text = std::str::from_utf8(&octets).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
    text.map(|text| Zeroizing::new(text.to_owned())).map_err(|source| FileError::io(path, "read", source))
}

/// As [`read_secret`], of a file that need not be text.
pub fn read_secret_octets(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let io = |source| FileError::io(path, "read", source);
    let mut file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.mode() & 0o7777;
    let shared = if is_credential(path) { 0o007 } else { 0o077 };
    if mode & shared != 0 {
        return Err(FileError::NotPrivate { path: path.to_owned(), mode });
    }
    let mut octets = Zeroizing::new(Vec::new());
    file.read_to_end(&mut octets).map_err(io)?;
    Ok(octets)
}

/// Writes a file so that a crash at any instant leaves the old contents or the new, and that the new are on the disk
/// on return: temporary file in the same directory, fsync, rename, fsync of the directory.
pub fn write(path: &Path, contents: &[u8], access: Access) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    let result = write_new(&temporary, contents, access)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_directory(path));
    if result.is_err() {
        // The error that is returned says what went wrong; a left-over temporary file would only confuse.
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(|source| FileError::io(path, "written", source))
}

/// Removes a file; that it is not there is no error.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FileError::io(path, "removed", source)),
        _ => Ok(()),
    }
}

/// Makes a directory and those above it; that it exists already is no error.
pub fn create_directory(path: &Path, access: Access) -> Result<(), FileError> {
    let mode = match access {
        Access::Private => 0o700,
        Access::Public => 0o755,
    };
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    builder.recursive(true).create(path).map_err(|source| FileError::io(path, "created", source))
}

/// Keeps others from doing the same work in a directory for as long as the file that is returned is open, and no longer than the
/// process lives; `None` if somebody else does it.
pub fn lock_directory(path: &Path) -> Result<Option<File>, FileError> {
    let directory = File::open(path).map_err(|source| FileError::io(path, "opened", source))?;
    match directory.try_lock() {
        Ok(()) => Ok(Some(directory)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(FileError::io(path, "locked", source)),
    }
}

/// Whether the service manager passed this file on (systemd.exec(5), `LoadCredential`). It lets the service's user in by an access
/// control list, which shows as a permission of the group; the directory admits nobody else.
fn is_credential(path: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|directory| path.parent() == Some(Path::new(&directory)))
}

fn write_new(path: &Path, contents: &[u8], access: Access) -> io::Result<()> {
    let mode = match access {
        Access::Private => 0o600,
        Access::Public => 0o644,
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// A name that no other process uses, so that two writers at once do not write into one file.
fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = u64::from_ne_bytes(crate::random::octets());
    path.with_file_name(format!(".{name}.{unique:016x}.tmp"))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, process::Command};

    use super::*;

    #[test]
    fn a_secret_is_private_from_the_first_moment_and_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("client.key");
        write(&path, b"one", Access::Private).unwrap();
        write(&path, b"two", Access::Private).unwrap();
        assert_eq!(read_secret(&path).unwrap().as_str(), "two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    /// The file that [`what_is_traced`] writes.
    const TRACED: &str = "MTLS_TRACED_FILE";

    /// What a power failure takes cannot be seen here. The system calls that prevent it can.
    #[test]
    fn contents_are_on_the_disk_before_they_take_their_place_and_the_place_before_it_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let (file, trace) = (directory.path().join("client.key"), directory.path().join("trace"));
        let traced = Command::new("strace")
            .args(["-f", "-y", "-qq", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2", "-o"])
            .arg(&trace)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "files::tests::what_is_traced", "--ignored"])
            .env(TRACED, &file)
            .output()
            .expect("strace is there; if not, run: make setup");
        if !file.exists() {
            // Not every container lets a process be traced. What a test prints is hidden where it passes; this is not.
            let why = String::from_utf8_lossy(&traced.stderr);
            writeln!(io::stderr(), "\nNOT TESTED: whether files are synced, as nothing can be traced here: {why}")
                .unwrap();
            return;
        }
        let trace = fs::read_to_string(&trace).unwrap();
        let calls: Vec<_> = trace.lines().filter(|line| line.contains(directory.path().to_str().unwrap())).collect();
        let is_sync = |call: &str| call.contains("sync(") && call.ends_with("= 0");
        let [contents, place, directory] = calls.as_slice() else { panic!("{trace}") };
        assert!(is_sync(contents) && contents.contains(".client.key."), "{trace}");
        assert!(place.contains("rename") && place.contains("client.key\""), "{trace}");
        assert!(is_sync(directory) && !directory.contains("client.key"), "{trace}");
    }

    #[test]
    #[ignore = "another test runs this one under strace"]
    fn what_is_traced() {
        if let Some(file) = std::env::var_os(TRACED) {
            write(Path::new(&file), b"secret", Access::Private).unwrap();
        }
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("client.key");
        write(&path, b"one", Access::Private).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_secret(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn what_is_missing_is_said_to_be() {
        let path = Path::new("/nonexistent/client.key");
        assert!(read(path).unwrap_err().is_missing() && read_secret(path).unwrap_err().is_missing());
        assert!(!write(path, b"", Access::Public).unwrap_err().is_missing());
    }
}
