//! The files of a CRL for the next start: the last good CRLs and the number that was in force. After a restart, a lower
//! number must not be in force again because a file is damaged.
//!
//! It never fetches anything, and it never decides whether a CRL is valid; [`LiveSet`] does.
//!
//! The number is written after the CRLs and before it is confirmed. So after a crash at any instant, the CRLs on disk
//! are at least as new as the stored number, and as any confirmed number.

use std::path::{Path, PathBuf};

use edge::files::{self, Access, FileError};
use pki::{
    certificate::{Fingerprint, IssuerId},
    crl::CrlNumber,
};
use tracing::{info, warn};

use super::{InstallError, Installed, LiveSet, Location};

/// The files of one CRL.
#[derive(Clone, Debug)]
pub(crate) struct ListFiles {
    /// The last good complete CRL, DER.
    pub(crate) complete: PathBuf,
    /// The last good delta to it, DER.
    pub(crate) delta: PathBuf,
    /// [`Settled`], as text.
    settled: PathBuf,
}

/// The CRLs to write. `None` where the file is right already.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) complete: Option<Vec<u8>>,
    pub(super) delta: Option<Vec<u8>>,
}

/// What is in force again.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) installed: Installed,
    /// Whether it includes the delta.
    pub(super) is_extended: bool,
}

/// A CRL that was in force and on disk: its number, and the key of its issuer. The issuer's name alone could belong to
/// two issuers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settled {
    number: CrlNumber,
    key: [u8; 32],
}

impl ListFiles {
    /// The files for the CRL at this location.
    pub(crate) fn new(directory: &Path, location: &Location) -> Self {
        let name = Fingerprint::of(location.to_string().as_bytes()).short();
        let file = |kind| directory.join(format!("{name}.{kind}"));
        Self { complete: file("crl"), delta: file("delta.crl"), settled: file("settled") }
    }

    /// Writes these CRLs and then, if they are in force, the number.
    pub(super) fn write(&self, lists: &Lists, in_force: Option<(&IssuerId, CrlNumber)>) -> Result<(), FileError> {
        let in_force = in_force.map(|(issuer, number)| Settled { number, key: issuer.spki_sha256 });
        if let Some(in_force) = in_force
            && is_missing(&self.settled)
        {
            // CRLs without a number file mean that the file was lost, unless nothing was settled yet. So a number is
            // written before the first CRL.
            let is_new = is_missing(&self.complete) && is_missing(&self.delta);
            self.settle(if is_new { in_force.nothing_yet() } else { in_force })?;
        }
        let write =
            |file, der: &Option<Vec<u8>>| der.as_ref().map_or(Ok(()), |der| files::write(file, der, Access::Public));
        // The complete CRL first: a delta without its base is useless at the next start.
        write(&self.complete, &lists.complete)?;
        write(&self.delta, &lists.delta)?;
        in_force.map_or(Ok(()), |in_force| self.settle(in_force))
    }

    /// Puts the valid ones of these files in force, for a program that only reads who is revoked.
    pub(crate) fn recall(&self, live: &LiveSet) {
        // A missing or damaged file revokes nobody.
        let _ = restore_file(&self.complete, |der| live.restore(der));
        let _ = restore_file(&self.delta, |der| live.restore_delta(der));
    }

    /// Puts in force what was in force when this relying party last ran, if all of it is present and valid. Otherwise
    /// none of it is in force, and the live set reports why until a CRL arrives that is at least as new.
    pub(super) fn restore(&self, live: &LiveSet) -> Option<Restored> {
        let settled = match self.settled() {
            Ok(settled) => settled,
            Err(why) => {
                self.withhold_all(live, &why);
                return None;
            }
        }?;
        // Otherwise nothing was in force yet, or the CRL is of a CA that is not trusted any more.
        let issuer = live.issuers().find(|issuer| issuer.spki_sha256 == settled.key);
        let issuer = issuer.filter(|_| settled.number > CrlNumber::NONE).cloned();
        if let Some(issuer) = &issuer {
            live.withhold(issuer, settled.number, "it is being read");
        }
        let complete = restore_file(&self.complete, |der| live.restore(der));
        let delta = restore_file(&self.delta, |der| live.restore_delta(der));
        if let Some(issuer) = &issuer {
            let lost = lost(&self.complete, &complete).or_else(|| lost(&self.delta, &delta));
            let lost = lost.unwrap_or_else(|| "what is on the disk is older".to_owned());
            let why = format!("number {} was in force, and {lost}; it will be fetched again", settled.number);
            if live.withhold(issuer, settled.number, &why) {
                warn!(%issuer, why, "the stored CRL is not in force");
            }
        }
        let extended = delta.ok().flatten().filter(|delta| *delta != Installed::Unchanged);
        let is_extended = extended.is_some();
        let installed = extended.or(complete.ok().flatten())?;
        if let Installed::Replaced { number, revoked, .. } = &installed {
            info!(%number, revoked, file = %self.complete.display(), "last good CRL restored");
        }
        Some(Restored { installed, is_extended })
    }

    /// The number that was in force is unknown. It was at least that of each stored CRL, and any of them may be older
    /// than it.
    fn withhold_all(&self, live: &LiveSet, why: &str) {
        let mut numbers: Vec<_> = live.issuers().map(|issuer| (issuer.clone(), None)).collect();
        let lists = [&self.complete, &self.delta].map(|file| files::read(file).ok());
        for (issuer, number) in lists.iter().flatten().filter_map(|der| live.identify(der).ok()) {
            if let Some((_, highest)) = numbers.iter_mut().find(|(known, _)| *known == issuer) {
                *highest = (*highest).max(Some(number));
            }
        }
        // A configured location may have CRLs of any issuer. A distribution point has those of one.
        let is_of_one = numbers.len() == 1;
        for (issuer, number) in numbers {
            let number = if is_of_one { number.or(Some(CrlNumber::NONE)) } else { number };
            let Some(number) = number else { continue };
            let why = format!(
                "the number that was in force is not known, because {why}; the CRL will be fetched \
                               again"
            );
            live.withhold(&issuer, number, &why);
            warn!(%issuer, why, "the stored CRL is not in force");
        }
    }

    /// What was settled, or `None` if nothing was. The error says why it is unknown.
    fn settled(&self) -> Result<Option<Settled>, String> {
        match files::read(&self.settled) {
            Ok(text) => Settled::parse(&text).map(Some).ok_or_else(|| format!("{} is damaged", self.settled.display())),
            Err(FileError::Missing(_)) if is_missing(&self.complete) && is_missing(&self.delta) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn settle(&self, settled: Settled) -> Result<(), FileError> {
        // A start that finds everything in order writes nothing, so it works with a full disk.
        if self.settled() == Ok(Some(settled)) {
            return Ok(());
        }
        files::write(&self.settled, settled.to_string().as_bytes(), Access::Public)
    }
}

impl Settled {
    /// The value that is written before the first CRL. Any CRL number satisfies it.
    fn nothing_yet(self) -> Self {
        Self { number: CrlNumber::NONE, ..self }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (number, rest) = text.split_once(' ')?;
        let (key, _) = rest.split_once(' ')?;
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(key.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        let settled = Self { number: CrlNumber::new(number.parse().ok()?)?, key: bytes };
        (settled.to_string() == text).then_some(settled)
    }
}

/// `NUMBER KEY CHECK`. The check is a digest over both, so a damaged number is not mistaken for another one.
impl std::fmt::Display for Settled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        let mut text = self.number.to_string() + " ";
        for byte in self.key {
            write!(text, "{byte:02x}")?;
        }
        writeln!(f, "{text} {}", Fingerprint::of(text.as_bytes()).short())
    }
}

/// Whether the file is missing. A file that cannot be examined is not missing.
fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Restores one file. Returns what was restored, or `None` if the file is obsolete; otherwise why it failed. A damaged
/// file is logged.
fn restore_file(
    file: &Path,
    restore: impl FnOnce(&[u8]) -> Result<Installed, InstallError>,
) -> Result<Option<Installed>, String> {
    match files::read(file).map(|der| restore(&der)) {
        Ok(Ok(installed)) => Ok(Some(installed)),
        // A newer complete CRL already contains the delta.
        Ok(Err(InstallError::LowerNumber { .. })) => Ok(None),
        Ok(Err(error)) => {
            warn!(error = error.to_string(), file = %file.display(), "the stored CRL is refused");
            Err(format!("is refused: {error}"))
        }
        Err(FileError::Missing(_)) => Err("does not exist".to_owned()),
        Err(error) => {
            warn!(%error, "the stored CRL cannot be read");
            Err("cannot be read".to_owned())
        }
    }
}

fn lost(file: &Path, restored: &Result<Option<Installed>, String>) -> Option<String> {
    restored.as_ref().err().map(|why| format!("{} {why}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_number_is_read_back_or_not_at_all() {
        let settled = Settled { number: CrlNumber::new(4711).unwrap(), key: [0xa5; 32] };
        let text = settled.to_string();
        assert_eq!(Settled::parse(text.as_bytes()), Some(settled));
        for length in 0..text.len() {
            assert_eq!(Settled::parse(&text.as_bytes()[..length]), None, "cut at {length}");
        }
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            assert_eq!(Settled::parse(&damaged), None, "changed at {at}");
        }
        assert_eq!(Settled::parse((text + "\n").as_bytes()), None);
    }

    /// If a write fails, the number is not written. If the first CRL cannot be written, that must not look like a lost
    /// CRL.
    #[test]
    fn the_number_is_written_after_the_crls_and_never_without_them() {
        let directory = tempfile::tempdir().unwrap();
        let issuer = IssuerId::of_anchor(b"", b"");
        let number = |number| CrlNumber::new(number).unwrap();
        let lists =
            |delta: Option<&[u8]>| Lists { complete: Some(b"complete".to_vec()), delta: delta.map(<[u8]>::to_vec) };
        let settled = |files: &ListFiles| files.settled().unwrap().map(|settled| settled.number);

        let mut files = ListFiles::new(directory.path(), &Location::File("list.crl".into()));
        assert_eq!(settled(&files), None);
        let good = std::mem::replace(&mut files.complete, directory.path().join("x".repeat(255)));
        assert!(
            files.write(&lists(None), Some((&issuer, number(7)))).is_err(),
            "its temporary file has too long a name"
        );
        assert_eq!(settled(&files), Some(CrlNumber::NONE));

        files.complete = good;
        files.write(&lists(None), Some((&issuer, number(7)))).unwrap();
        assert_eq!(settled(&files), Some(number(7)));
        files.write(&lists(None), None).unwrap();
        assert_eq!(settled(&files), Some(number(7)), "what is withheld settles nothing");

        std::fs::create_dir(&files.delta).unwrap();
        assert!(files.write(&lists(Some(b"delta")), Some((&issuer, number(8)))).is_err());
        assert_eq!(settled(&files), Some(number(7)));
        std::fs::remove_file(&files.settled).unwrap();
        assert!(files.settled().is_err(), "CRLs without a number have lost it");
    }
}
