//! Files that change together, such as a certificate and its key. A reader gets all of the old ones or all of the new
//! ones.
//!
//! They are stored in a directory of their own. A symbolic link leads to it, and one rename (rename(2)) replaces the
//! link. Each file has a stable path beside the link, which is a symbolic link through it.
//!
//! It never interprets their contents.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::{
    files::{self, Access, FileError},
    random,
};

/// How many times a reader retries because the files have changed meanwhile.
const ATTEMPTS: usize = 16;

/// A set of files in a directory.
#[derive(Clone, Debug)]
pub struct FileSet {
    directory: PathBuf,
    name: String,
}

/// One file of a set.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its name in the directory.
    pub name: &'a str,
    /// Its contents.
    pub contents: &'a [u8],
    /// Who may read it.
    pub access: Access,
}

impl FileSet {
    /// The set with this name. The link is `NAME.current`. The directories are `.NAME.` and sixteen hexadecimal digits.
    #[must_use]
    pub fn new(directory: &Path, name: &str) -> Self {
        Self { directory: directory.to_owned(), name: name.to_owned() }
    }

    /// The link, through which all files of one generation can be read.
    #[must_use]
    pub fn current(&self) -> PathBuf {
        self.directory.join(self.link())
    }

    /// Replaces all files of the set at once. After a crash at any instant there are all of the old ones or all of the
    /// new ones. On return the new ones are on disk. If there were none before, the last member appears last.
    ///
    /// The caller must hold the lock of the directory ([`files::lock_directory`]).
    pub fn replace(&self, members: &[Member<'_>]) -> Result<(), FileError> {
        self.remove_leftovers();
        let exist = members.iter().all(|member| self.directory.join(member.name).exists());
        if exist && members.iter().any(|member| self.is_plain(member.name)) {
            self.adopt(members)?;
        }
        self.put(members)?;
        self.remove_leftovers();
        Ok(())
    }

    /// Reads files of the set, all of one generation. `read` receives a function from a name to its path, and is called
    /// again if the files have changed meanwhile.
    pub fn read<T, E>(&self, mut read: impl FnMut(&dyn Fn(&str) -> PathBuf) -> Result<T, E>) -> Result<T, E> {
        for _ in 0..ATTEMPTS {
            let generation = fs::read_link(self.current()).ok();
            let place = |name: &str| match &generation {
                Some(generation) if self.leads_through(name) => self.directory.join(generation).join(name),
                _ => self.directory.join(name),
            };
            let outcome = read(&place);
            // The files may have been removed while they were read.
            if fs::read_link(self.current()).ok() == generation {
                return outcome;
            }
        }
        read(&|name| self.directory.join(name))
    }

    /// Removes earlier generations and interrupted writes, because they contain private keys. Failures are logged and
    /// ignored.
    pub fn remove_leftovers(&self) {
        let current = fs::read_link(self.current()).ok();
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if self.is_generation(&name.to_string_lossy())
                && current.as_deref() != Some(Path::new(&name))
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                warn!(%error, path = %entry.path().display(), "an earlier identity cannot be removed");
            }
        }
    }

    fn link(&self) -> String {
        format!("{}.current", self.name)
    }

    fn new_generation(&self) -> String {
        format!(".{}.{:016x}", self.name, u64::from_ne_bytes(random::bytes()))
    }

    fn is_generation(&self, name: &str) -> bool {
        let unique = name.strip_prefix('.').and_then(|rest| rest.strip_prefix(self.name.as_str())?.strip_prefix('.'));
        unique.is_some_and(|unique| unique.len() == 16 && unique.bytes().all(|digit| digit.is_ascii_hexdigit()))
    }

    /// Whether it exists as a plain file and not through the link. Another program has written it, or an older version
    /// of this one.
    fn is_plain(&self, name: &str) -> bool {
        self.directory.join(name).exists() && !self.leads_through(name)
    }

    fn leads_through(&self, name: &str) -> bool {
        fs::read_link(self.directory.join(name)).is_ok_and(|target| target == Path::new(&self.link()).join(name))
    }

    /// Makes a generation of the plain files, so that they can be replaced together.
    fn adopt(&self, members: &[Member<'_>]) -> Result<(), FileError> {
        let mut contents = Vec::with_capacity(members.len());
        for Member { name, .. } in members {
            let path = self.directory.join(name);
            let is_open =
                fs::metadata(&path).map_err(|source| FileError::io(&path, "read", source))?.mode() & 0o077 != 0;
            let access = if is_open { Access::Public } else { Access::Private };
            contents.push((*name, files::read(&path)?, access));
        }
        let old: Vec<_> =
            contents.iter().map(|(name, contents, access)| Member { name, contents, access: *access }).collect();
        self.put(&old)
    }

    /// Writes a generation, and makes the link lead to it and the stable paths through the link.
    fn put(&self, members: &[Member<'_>]) -> Result<(), FileError> {
        let name = self.new_generation();
        let generation = self.directory.join(&name);
        files::create_directory(&generation, Access::Public)?;
        for Member { name, contents, access } in members {
            files::write(&generation.join(name), contents, *access)?;
        }
        sync(&generation)?;
        self.point(&self.link(), Path::new(&name))?;
        sync(&self.directory)?;
        for Member { name, .. } in members {
            self.lead_through(name)?;
        }
        sync(&self.directory)
    }

    /// Makes a file's stable path lead through the link.
    fn lead_through(&self, name: &str) -> Result<(), FileError> {
        if self.leads_through(name) {
            return Ok(());
        }
        self.point(name, &Path::new(&self.link()).join(name))
    }

    /// Creates a symbolic link in place of an existing file.
    fn point(&self, name: &str, target: &Path) -> Result<(), FileError> {
        let path = self.directory.join(name);
        if path.is_dir() && !path.is_symlink() {
            // A copy that followed the links. Under this name it is removed as a leftover.
            let aside = self.directory.join(self.new_generation());
            fs::rename(&path, aside).map_err(|source| FileError::io(&path, "moved aside", source))?;
        }
        let temporary = self.directory.join(format!(".{name}.{:016x}.tmp", u64::from_ne_bytes(random::bytes())));
        let pointed = symlink(target, &temporary).and_then(|()| fs::rename(&temporary, &path));
        pointed.map_err(|source| {
            let _ = fs::remove_file(&temporary);
            FileError::io(&path, "written", source)
        })
    }
}

fn sync(directory: &Path) -> Result<(), FileError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| FileError::io(directory, "written", source))
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    fn members<'a>(chain: &'a [u8], key: &'a [u8]) -> [Member<'a>; 2] {
        [
            Member { name: "client.key", contents: key, access: Access::Private },
            Member { name: "client.crt", contents: chain, access: Access::Public },
        ]
    }

    fn read(set: &FileSet) -> (String, String) {
        set.read(|place| {
            let text = |name| fs::read_to_string(place(name));
            Ok::<_, io::Error>((text("client.crt")?, text("client.key")?))
        })
        .unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_have_stable_paths_and_old_ones_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let set = FileSet::new(directory.path(), "client");
        for (chain, key) in [("chain 1", "key 1"), ("chain 2", "key 2")] {
            set.replace(&members(chain.as_bytes(), key.as_bytes())).unwrap();
            assert_eq!(read(&set), (chain.to_owned(), key.to_owned()));
            assert_eq!(fs::read_to_string(directory.path().join("client.crt")).unwrap(), chain);
            assert_eq!(fs::read_to_string(set.current().join("client.key")).unwrap(), key);
            let key = fs::metadata(directory.path().join("client.key")).unwrap();
            assert_eq!(key.mode() & 0o777, 0o600);
            let names = names(directory.path());
            assert!(names[0].starts_with(".client.") && names.len() == 4, "{names:?}");
        }
    }

    #[test]
    fn plain_files_are_taken_over_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let set = FileSet::new(directory.path(), "client");
        for Member { name, contents, access } in members(b"old chain", b"old key") {
            files::write(&directory.path().join(name), contents, access).unwrap();
        }
        set.adopt(&members(b"", b"")).unwrap();
        assert_eq!(read(&set), ("old chain".to_owned(), "old key".to_owned()));
        assert!(directory.path().join("client.key").is_symlink());
        set.replace(&members(b"chain", b"key")).unwrap();
        assert_eq!(read(&set), ("chain".to_owned(), "key".to_owned()));
    }

    #[test]
    fn files_that_were_placed_by_hand_are_used() {
        let directory = tempfile::tempdir().unwrap();
        let set = FileSet::new(directory.path(), "client");
        set.replace(&members(b"chain", b"key")).unwrap();
        files::write(&directory.path().join("client.crt"), b"by hand", Access::Public).unwrap();
        assert_eq!(read(&set), ("by hand".to_owned(), "key".to_owned()));
        set.replace(&members(b"chain", b"key")).unwrap();
        assert_eq!(read(&set), ("chain".to_owned(), "key".to_owned()));
    }

    #[test]
    fn a_reader_finds_files_that_belong_together_while_they_change() {
        let directory = tempfile::tempdir().unwrap();
        let set = FileSet::new(directory.path(), "client");
        set.replace(&members(b"0", b"0")).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let (chain, key) = read(&set);
                    assert_eq!(chain, key);
                    seen += 1;
                }
                seen
            });
            for generation in 1..200 {
                let text = format!("{generation}");
                set.replace(&members(text.as_bytes(), text.as_bytes())).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
            assert!(reader.join().unwrap() > 0);
        });
    }

    #[test]
    fn leftovers_of_a_killed_writer_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let set = FileSet::new(directory.path(), "client");
        set.replace(&members(b"chain", b"key")).unwrap();
        let left = directory.path().join(".client.0123456789abcdef");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("client.key"), "half a key").unwrap();
        let not_ours = [".client.d", ".server.0123456789abcdef"].map(|name| directory.path().join(name));
        for path in &not_ours {
            fs::create_dir(path).unwrap();
        }
        set.remove_leftovers();
        assert!(!left.exists() && not_ours.iter().all(|path| path.exists()));
        assert_eq!(read(&set), ("chain".to_owned(), "key".to_owned()));
    }

    #[test]
    fn a_copy_that_follows_links_can_be_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let set = FileSet::new(directory.path(), "client");
        set.replace(&members(b"chain", b"key")).unwrap();
        let copy = tempfile::tempdir().unwrap();
        let target = copy.path().join("d");
        let ok = std::process::Command::new("cp").arg("-rL").arg(directory.path()).arg(&target).status().unwrap();
        assert!(ok.success());
        let set = FileSet::new(&target, "client");
        assert_eq!(read(&set), ("chain".to_owned(), "key".to_owned()));
        set.replace(&members(b"chain 2", b"key 2")).unwrap();
        assert_eq!(read(&set), ("chain 2".to_owned(), "key 2".to_owned()));
    }

    #[test]
    fn a_pair_that_was_put_in_place_by_hand_is_taken_over_with_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let set = FileSet::new(directory.path(), "client");
        let root = Member { name: "ca.crt", contents: b"root", access: Access::Public };
        let with_root = |chain, key| {
            let [key, chain] = members(chain, key);
            [root, key, chain]
        };
        set.replace(&with_root(b"A", b"A")).unwrap();
        files::write(&directory.path().join("client.key"), b"B", Access::Private).unwrap();
        files::write(&directory.path().join("client.crt"), b"B", Access::Public).unwrap();
        set.adopt(&with_root(b"", b"")).unwrap();
        assert_eq!(read(&set), ("B".to_owned(), "B".to_owned()));
        set.replace(&with_root(b"C", b"C")).unwrap();
        assert_eq!(read(&set), ("C".to_owned(), "C".to_owned()));
    }
}
