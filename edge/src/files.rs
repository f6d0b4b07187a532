//! Files with keys, certificates, tokens and CRLs. They are written completely or not at all, and secret ones are
//! private.
//!
//! It never interprets their contents.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{StatVfsMountFlags, fstatvfs},
    process::{getegid, geteuid, getgroups},
};
use tracing::warn;
use zeroize::Zeroizing;

/// The longest secret that is read, in bytes.
const MAX_SECRET: u64 = 1024 * 1024;
/// The directories for secrets in containers.
const MOUNTED_SECRETS: [&str; 2] = ["/run/secrets", "/var/run/secrets"];

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner only (0600).
    Private,
    /// Everybody (0644).
    Public,
}

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It does not exist.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// The operating system returned an error.
    #[error("{} cannot be {action}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The action: `read`, `written`, ...
        action: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// Others can read a secret, so it is not secret any more.
    #[error("{} can be read by others (mode {mode:04o}); {}", path.display(), advice(path, *is_own))]
    NotPrivate {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Whether it belongs to this process's user, who can change that.
        is_own: bool,
    },
}

fn advice(path: &Path, is_own: bool) -> String {
    if is_own {
        format!("run: chmod 600 {}", quoted(path))
    } else {
        "it belongs to another user: give this user a private copy of it".to_owned()
    }
}

/// Quotes a path as one word for a shell.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-+,:@%=".contains(character);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into_owned();
    }
    let mut word = String::from("'");
    for part in text.split_inclusive('\'') {
        let _ = match part.strip_suffix('\'') {
            Some(plain) => write!(word, "{plain}'\\''"),
            None => write!(word, "{part}"),
        };
    }
    word + "'"
}

impl FileError {
    /// Whether the file does not exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound && action == "read" {
            Self::Missing(path.to_owned())
        } else {
            Self::Io { path: path.to_owned(), action, source }
        }
    }
}

/// Reads a file that is not secret.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|source| FileError::io(path, "read", source))
}

/// Reads a text file that is not secret.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|source| FileError::io(path, "read", source))
}

/// Whether the path exists. If that cannot be determined, because of a failing disk or missing permissions, it is an
/// error.
pub fn exists(path: &Path) -> Result<bool, FileError> {
    path.try_exists().map_err(|source| FileError::io(path, "looked at", source))
}

/// Reads a text file with a secret. Refuses one that others can read, if its permissions can be changed.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, FileError> {
    read_secret_if(path, |_| true)
}

/// As [`read_secret`], for a path that may be another file by mistake. A file without a secret need not be private, and
/// the caller reports what it lacks.
pub fn read_secret_if(path: &Path, is_secret: impl FnOnce(&[u8]) -> bool) -> Result<Zeroizing<String>, FileError> {
    let bytes = read_secret_bytes_if(path, is_secret)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
    text.map(|text| Zeroizing::new(text.to_owned())).map_err(|source| FileError::io(path, "read", source))
}

/// As [`read_secret_if`], for a file that need not be text.
pub fn read_secret_bytes_if(
    path: &Path,
    is_secret: impl FnOnce(&[u8]) -> bool,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let io = |source| FileError::io(path, "read", source);
    let mut file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let mut bytes = Zeroizing::new(Vec::new());
    (&mut file).take(MAX_SECRET).read_to_end(&mut bytes).map_err(io)?;
    // A pipe or a device cannot be read again by others.
    if metadata.is_file() && is_secret(&bytes) {
        let mode = metadata.mode() & 0o7777;
        let place = Place::of(path, &file);
        let groups = getgroups().unwrap_or_default();
        let is_own_group =
            getegid().as_raw() == metadata.gid() || groups.iter().any(|id| id.as_raw() == metadata.gid());
        let is_own = geteuid().as_raw() == metadata.uid();
        match judge(mode, Reader { is_own, is_own_group }, place) {
            Privacy::Private => {}
            Privacy::AsMounted => {
                warn!(path = %path.display(), mode = format_args!("{mode:04o}"), "a secret that others can read, \
                     which this user cannot change");
            }
            Privacy::Exposed => return Err(FileError::NotPrivate { path: path.to_owned(), mode, is_own }),
        }
    }
    Ok(bytes)
}

/// The user who reads a secret.
#[derive(Clone, Copy)]
struct Reader {
    is_own: bool,
    is_own_group: bool,
}

/// Where a secret is stored.
#[derive(Clone, Copy)]
enum Place {
    /// A credential of the service manager (systemd.exec(5), `LoadCredential`). An access control list admits the
    /// service's user, which shows as a permission of the group. The directory admits nobody else.
    Credentials,
    /// On a read-only mount.
    ReadOnly,
    /// In a container's directory for secrets.
    Mounted,
    Elsewhere,
}

impl Place {
    fn of(path: &Path, file: &File) -> Self {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        let real = fs::canonicalize(path).unwrap_or_default();
        if credentials.is_some_and(|directory| path.parent() == Some(Path::new(&directory))) {
            Self::Credentials
        } else if fstatvfs(file).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY)) {
            Self::ReadOnly
        } else if MOUNTED_SECRETS.iter().any(|place| path.starts_with(place) || real.starts_with(place)) {
            Self::Mounted
        } else {
            Self::Elsewhere
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Privacy {
    Private,
    /// Others can read it, but it was mounted like this.
    AsMounted,
    Exposed,
}

fn judge(mode: u32, reader: Reader, place: Place) -> Privacy {
    let is_open = |bits| mode & bits != 0;
    let is_written_by_others = is_open(0o022);
    match place {
        Place::Credentials if !is_open(0o007) => Privacy::Private,
        _ if !is_open(0o077) => Privacy::Private,
        Place::ReadOnly => Privacy::AsMounted,
        Place::Mounted if !is_written_by_others => Privacy::AsMounted,
        // As Kubernetes does with `fsGroup`.
        _ if !reader.is_own && reader.is_own_group && !is_open(0o007) && !is_written_by_others => Privacy::AsMounted,
        _ => Privacy::Exposed,
    }
}

/// Writes a file so that after a crash at any instant it has the old contents or the new ones. On return the new ones
/// are on disk. Steps: temporary file in the same directory, fsync, rename, fsync of the directory.
pub fn write(path: &Path, contents: &[u8], access: Access) -> Result<(), FileError> {
    let directory = directory_of(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    sweep(directory, Some(&name));
    let written = Temporary::beside(path, &name, access).and_then(|mut temporary| {
        temporary.file.write_all(contents)?;
        temporary.file.sync_all()?;
        temporary.put(path)?;
        File::open(directory)?.sync_all()
    });
    written.map_err(|source| FileError::io(path, "written", source))
}

/// Writes to a path that a person gave. A device or a pipe is written to directly, and a symbolic link is followed.
/// Otherwise it writes as [`write()`] does, because a rename would replace these.
pub fn write_where_told(path: &Path, contents: &[u8], access: Access) -> Result<(), FileError> {
    let failed = |source| FileError::io(path, "written", source);
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(failed(io::ErrorKind::IsADirectory.into())),
        Ok(metadata) if !metadata.is_file() || is_descriptor(path) => {
            OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(contents)).map_err(failed)
        }
        Ok(_) => write(&fs::canonicalize(path).map_err(failed)?, contents, access),
        Err(error) if error.kind() == io::ErrorKind::NotFound => write(&pointed_to(path), contents, access),
        Err(error) => Err(failed(error)),
    }
}

/// Whether the path stands for an open file of this process.
#[must_use]
pub fn is_descriptor(path: &Path) -> bool {
    ["/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"].iter().any(|open| path.starts_with(open))
}

/// The target of a symbolic link, which need not exist. Any other path is returned unchanged.
#[must_use]
pub fn pointed_to(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // A chain of links that is longer than the kernel follows is a loop.
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(target) => path = directory_of(&path).join(target),
            Err(_) => break,
        }
    }
    path
}

/// Removes temporary files of killed writers from a directory, because they may contain private keys. Files that are
/// being written stay. Failures are ignored.
pub fn remove_leftovers(directory: &Path) {
    sweep(directory, None);
}

/// As [`remove_leftovers`], for the temporary files of one name if it is given.
fn sweep(directory: &Path, name: Option<&str>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if is_temporary(&entry.file_name().to_string_lossy(), name) {
            // The writer holds the lock.
            let is_left = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
            if is_left && fs::remove_file(entry.path()).is_ok() {
                warn!(file = %entry.path().display(), "removed: left by a write that was cut off");
            }
        }
    }
}

/// `.NAME.` and sixteen hexadecimal digits, as in [`Temporary::beside`].
fn is_temporary(file: &str, name: Option<&str>) -> bool {
    let parts =
        file.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp")).and_then(|rest| rest.rsplit_once('.'));
    parts.is_some_and(|(of, unique)| {
        name.is_none_or(|name| name == of)
            && unique.len() == 16
            && unique.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// A file that replaces another one when it is complete, and is removed otherwise.
struct Temporary {
    /// Locked while it is written, so that it is not removed as a leftover.
    file: File,
    path: PathBuf,
}

impl Temporary {
    /// The name is random, so that two writers do not write into one file.
    fn beside(path: &Path, name: &str, access: Access) -> io::Result<Self> {
        let mode = match access {
            Access::Private => 0o600,
            Access::Public => 0o644,
        };
        loop {
            let unique = u64::from_ne_bytes(crate::random::bytes());
            let path = path.with_file_name(format!(".{name}.{unique:016x}.tmp"));
            let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
            let temporary = Self { file, path };
            // Not every file system has locks.
            let _ = temporary.file.lock();
            // Another process may have removed it before it was locked.
            if temporary.file.metadata()?.nlink() > 0 {
                return Ok(temporary);
            }
        }
    }

    fn put(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename it does not exist. Without a rename, the caller has the error.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a file. A missing file is no error.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FileError::io(path, "removed", source)),
        _ => Ok(()),
    }
}

/// Creates a directory and its parents. An existing one is no error.
pub fn create_directory(path: &Path, access: Access) -> Result<(), FileError> {
    let mode = match access {
        Access::Private => 0o700,
        Access::Public => 0o755,
    };
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    builder.recursive(true).create(path).map_err(|source| FileError::io(path, "created", source))
}

/// Locks a directory, so that no other process does the same work there. The lock lasts while the returned file is
/// open, and no longer than the process. Returns `None` if another process has it.
pub fn lock_directory(path: &Path) -> Result<Option<File>, FileError> {
    let directory = File::open(path).map_err(|source| FileError::io(path, "opened", source))?;
    match directory.try_lock() {
        Ok(()) => Ok(Some(directory)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(FileError::io(path, "locked", source)),
    }
}

/// The directory of a file.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
    const TRACED: &str = "EDGE_TRACED_FILE";

    /// A test cannot simulate a power failure, but it can check the system calls that protect against it.
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
            // Some containers do not permit tracing. The output of a passing test is hidden, so this is written
            // directly.
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
    fn a_mounted_secret_need_not_be_private() {
        let own = Reader { is_own: true, is_own_group: true };
        let group = Reader { is_own: false, ..own };
        let stranger = Reader { is_own: false, is_own_group: false };
        for (mode, reader, place, expected) in [
            (0o600, own, Place::Elsewhere, Privacy::Private),
            (0o400, stranger, Place::Mounted, Privacy::Private),
            // If the owner can correct it, it is refused.
            (0o640, own, Place::Elsewhere, Privacy::Exposed),
            (0o440, group, Place::Elsewhere, Privacy::AsMounted),
            (0o640, group, Place::Elsewhere, Privacy::AsMounted),
            (0o660, group, Place::Elsewhere, Privacy::Exposed),
            (0o444, group, Place::Elsewhere, Privacy::Exposed),
            (0o440, stranger, Place::Elsewhere, Privacy::Exposed),
            (0o444, stranger, Place::Mounted, Privacy::AsMounted),
            (0o666, own, Place::Mounted, Privacy::Exposed),
            (0o444, own, Place::ReadOnly, Privacy::AsMounted),
            (0o777, stranger, Place::ReadOnly, Privacy::AsMounted),
            (0o440, stranger, Place::Credentials, Privacy::Private),
            (0o444, stranger, Place::Credentials, Privacy::Exposed),
        ] {
            assert_eq!(judge(mode, reader, place), expected, "{mode:o}");
        }
    }

    #[test]
    fn only_a_secret_has_to_be_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes of mine");
        write(&path, b"no secret", Access::Public).unwrap();
        assert_eq!(read_secret_if(&path, |bytes| bytes.starts_with(b"KEY")).unwrap().as_str(), "no secret");
        assert_eq!(read_secret(Path::new("/dev/null")).unwrap().as_str(), "");
        let error = read_secret(&path).unwrap_err().to_string();
        assert!(error.ends_with(&format!("chmod 600 '{}'", path.display())), "{error}");
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for path in ["ca", "/srv/my ca", "it's", "$(id)", "a;b", "", "'", "ü"] {
            let echoed = Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(Path::new(path)))).output();
            assert_eq!(String::from_utf8(echoed.unwrap().stdout).unwrap(), path);
        }
        assert_eq!(quoted(Path::new("/srv/ca-1.d")), "/srv/ca-1.d");
    }

    #[test]
    fn leftovers_of_killed_writers_are_removed_and_files_being_written_stay() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let left = [".client.key.0123456789abcdef.tmp", ".server.key.pending.fedcba9876543210.tmp"];
        let not_ours = [".client.key.tmp", "client.key.0123456789abcdef.tmp", ".x.0123456789abcdeg.tmp"];
        for name in left.iter().chain(&not_ours) {
            fs::write(file(name), "secret").unwrap();
        }
        let mut written = Temporary::beside(&file("client.key"), "client.key", Access::Private).unwrap();
        write(&file("client.key"), b"new", Access::Private).unwrap();
        assert!(
            !file(left[0]).exists() && file(left[1]).exists(),
            "each writer removes leftovers of its own file only"
        );
        remove_leftovers(directory.path());
        assert!(left.iter().all(|name| !file(name).exists()) && not_ours.iter().all(|name| file(name).exists()));
        written.file.write_all(b"newer").unwrap();
        written.put(&file("client.key")).unwrap();
        assert_eq!(read_secret(&file("client.key")).unwrap().as_str(), "newer");
    }

    #[test]
    fn devices_and_links_that_a_person_names_are_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let write = |name: &str| write_where_told(&file(name), b"new", Access::Public);
        std::os::unix::fs::symlink("real", file("link")).unwrap();
        write("link").unwrap();
        assert_eq!(fs::read(file("real")).unwrap(), b"new", "the target of the link is created");
        fs::write(file("real"), "old").unwrap();
        write("link").unwrap();
        assert!(fs::read(file("real")).unwrap() == b"new" && file("link").is_symlink());

        rustix::fs::mknodat(rustix::fs::CWD, file("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let pipe = file("pipe");
        let reader = std::thread::spawn(move || fs::read(pipe).unwrap());
        write("pipe").unwrap();
        assert_eq!(reader.join().unwrap(), b"new");
        assert!(write(".").unwrap_err().to_string().contains("directory"));
        std::os::unix::fs::symlink("loop", file("loop")).unwrap();
        assert!(write("loop").is_err() && file("loop").is_symlink());
        assert!(exists(&file("loop")).is_err(), "a path that cannot be examined is not missing");
    }

    #[test]
    fn a_missing_file_is_reported_as_missing() {
        let path = Path::new("/nonexistent/client.key");
        assert!(read(path).unwrap_err().is_missing() && read_secret(path).unwrap_err().is_missing());
        assert!(!write(path, b"", Access::Public).unwrap_err().is_missing());
    }
}
