//! Founds an authority: root, issuing CA, database, first CRLs and first token. All of it is put in place, or nothing.
//!
//! It never touches an authority that exists.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use edge::files::{self, Access, FileError};
use pki::{
    certificate::Fingerprint,
    crl::{CrlDraft, CrlNumber, DeltaDraft},
    issuing::{AuthoritySubject, CertificateAuthority, IssuingError},
    key::{KeyError, KeyPair},
    name::{AuthorityName, Host, HostPattern, NamePattern, Organization, TrustDomain},
    pem,
    policy::{Grant, ProfileGrant},
    serial::Serial,
    time::Timestamp,
    token::Secret,
};
use url::Url;

use crate::{
    authority::{TokenOrder, new_token},
    home::directory::Directory,
    issuer::Issuer,
    settings::{self, Settings},
    store::{CrlHead, CrlRecord, Founding, Store, StoreError},
};

/// The bootstrap token is enough for the first day of a small fleet.
const BOOTSTRAP_LIFETIME: Duration = Duration::from_hours(24);
const BOOTSTRAP_USES: std::num::NonZeroU32 = std::num::NonZeroU32::new(100).expect("a hundred is not zero");

/// What to found.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) organization: Organization,
    pub(crate) name: AuthorityName,
    pub(crate) url: Url,
    pub(crate) crl_url: Url,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) hosts: Vec<Host>,
    pub(crate) crl_lifetime: Duration,
}

/// The random bytes that a founding needs.
#[derive(Clone, Copy)]
pub(crate) struct FoundingRandomness {
    pub(crate) root_serial: [u8; 16],
    pub(crate) issuing_serial: [u8; 16],
    pub(crate) bootstrap_secret: [u8; 32],
}

/// Why no authority was founded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FoundingError {
    /// There is an authority already.
    #[error(
        "{} already holds an authority ({} is there); nothing was changed. \
         Use it, or name another directory with --dir",
        directory.display(),
        file.display()
    )]
    Exists {
        /// The directory.
        directory: PathBuf,
        /// The first of its files that was found.
        file: PathBuf,
    },
    /// Another process is running `init` here.
    #[error("another init is running in {}", .0.display())]
    Underway(PathBuf),
    /// The file system refused.
    #[error("{} cannot be {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Issuing(#[from] IssuingError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Founds an authority in this directory, and returns its settings.
///
/// Everything is made in a staging directory and moved into place, and the staging directory is removed last. While it
/// exists, no other command works with the directory. So nothing of an interrupted `init` was ever used, and the next
/// one starts from the beginning.
pub(crate) async fn found(
    directory: &Directory,
    plan: Plan,
    randomness: FoundingRandomness,
    now: Timestamp,
) -> Result<Settings, FoundingError> {
    files::create_directory(directory.path(), Access::Private)?;
    // Two at once would each remove the other's staging directory as a leftover.
    let lock = files::lock_directory(directory.path())?;
    let _lock = lock.ok_or_else(|| FoundingError::Underway(directory.path().to_owned()))?;
    let staging = directory.staging();
    if files::exists(staging.path())? {
        clear(directory, &staging)?;
    }
    for file in directory.files() {
        if files::exists(&file)? {
            return Err(FoundingError::Exists { directory: directory.path().to_owned(), file });
        }
    }
    files::create_directory(staging.path(), Access::Private)?;
    let settings = write_all(&staging, plan, randomness, now).await?;
    for (from, to) in staging.files().iter().zip(directory.files()) {
        fs::rename(from, &to).map_err(io_error(&to, "put in place"))?;
    }
    sync(directory.path())?;
    fs::remove_dir_all(staging.path()).map_err(io_error(staging.path(), "removed"))?;
    sync(directory.path())?;
    Ok(settings)
}

async fn write_all(
    staging: &Directory,
    plan: Plan,
    randomness: FoundingRandomness,
    now: Timestamp,
) -> Result<Settings, FoundingError> {
    let subject = AuthoritySubject { organization: plan.organization.clone(), name: plan.name.clone() };
    let root_key = KeyPair::generate()?;
    let issuing_key = KeyPair::generate()?;
    files::write(&staging.key(Issuer::Root), root_key.to_pem().as_bytes(), Access::Private)?;
    files::write(&staging.key(Issuer::Issuing), issuing_key.to_pem().as_bytes(), Access::Private)?;

    // The URLs in what an issuer signs are those of that issuer's own certificate and CRL.
    let publication = |issuer| settings::publication(&plan.crl_url, issuer);
    let serial = Serial::from_random(randomness.root_serial);
    let root = CertificateAuthority::new_root(&subject, root_key, serial, now, publication(Issuer::Root))?;
    let serial = Serial::from_random(randomness.issuing_serial);
    let issuing = root.new_issuing(&subject, issuing_key, serial, now, publication(Issuer::Issuing))?;
    for (issuer, authority) in [(Issuer::Root, &root), (Issuer::Issuing, &issuing)] {
        let text = pem::certificate(authority.certificate());
        files::write(&staging.certificate(issuer), text.as_bytes(), Access::Public)?;
    }

    let settings = Settings {
        organization: plan.organization,
        name: plan.name,
        url: plan.url,
        crl_url: plan.crl_url,
        trust_domain: plan.trust_domain,
        hosts: plan.hosts,
        crl_lifetime: plan.crl_lifetime,
        root: Fingerprint::of(root.certificate()),
    };
    let crls = [first_crl(&settings, Issuer::Root, &root, now)?, first_crl(&settings, Issuer::Issuing, &issuing, now)?];
    let delta = first_delta(&crls[1].head, &issuing)?;
    let servers = first_servers_list(&crls[1].head, &issuing)?;
    let order = TokenOrder {
        grant: Grant { profile: ProfileGrant::Any, names: NamePattern::any(), hosts: vec![HostPattern::Any] },
        lifetime: BOOTSTRAP_LIFETIME,
        uses: BOOTSTRAP_USES,
    };
    let (token, bootstrap) = new_token(&settings, order, Secret::from_bytes(randomness.bootstrap_secret), now);
    let text = zeroize::Zeroizing::new(format!("{}\n", *token.encode()));
    files::write(&staging.bootstrap_token(), text.as_bytes(), Access::Private)?;

    // SQLite creates files that everybody may read, and gives its write-ahead log the permissions of the database.
    files::write(&staging.database(), b"", Access::Private)?;
    let store = Store::open(&staging.database()).await?;
    let founding =
        Founding { settings: &settings, crls: &crls, delta: &delta, servers: &servers, bootstrap: &bootstrap };
    let founded = store.found(&founding).await;
    store.close().await;
    founded?;
    Ok(settings)
}

fn first_crl(
    settings: &Settings,
    issuer: Issuer,
    authority: &CertificateAuthority,
    now: Timestamp,
) -> Result<CrlRecord, IssuingError> {
    let head = CrlHead {
        issuer,
        number: CrlNumber::FIRST,
        this_update: now,
        next_update: now.plus(settings.crl_lifetime(issuer)),
        previous_update: None,
    };
    let draft = CrlDraft {
        number: head.number,
        this_update: head.this_update,
        next_update: head.next_update,
        revoked: Vec::new(),
    };
    Ok(CrlRecord { head, der: authority.sign_crl(&draft)? })
}

/// An empty delta. It exists because the first CRL refers to it.
fn first_delta(base: &CrlHead, authority: &CertificateAuthority) -> Result<CrlRecord, IssuingError> {
    let CrlHead { number, this_update, next_update, .. } = *base;
    let draft = DeltaDraft { number, base: number, this_update, next_update, revoked: Vec::new() };
    Ok(CrlRecord { head: *base, der: authority.sign_delta(&draft)? })
}

/// Exists from the start, because every enrolling client downloads it.
fn first_servers_list(complete: &CrlHead, authority: &CertificateAuthority) -> Result<CrlRecord, IssuingError> {
    let CrlHead { number, this_update, next_update, .. } = *complete;
    let draft = CrlDraft { number, this_update, next_update, revoked: Vec::new() };
    Ok(CrlRecord { head: *complete, der: authority.sign_servers_crl(&draft)? })
}

/// Removes what an interrupted init left. The staging directory is removed last, because it marks the authority as
/// incomplete.
fn clear(directory: &Directory, staging: &Directory) -> Result<(), FoundingError> {
    for file in directory.files() {
        files::remove(&file)?;
    }
    sync(directory.path())?;
    fs::remove_dir_all(staging.path()).map_err(io_error(staging.path(), "removed"))
}

fn sync(directory: &Path) -> Result<(), FoundingError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(io_error(directory, "written"))
}

fn io_error(path: &Path, action: &'static str) -> impl Fn(io::Error) -> FoundingError {
    move |source| FoundingError::Io { path: path.to_owned(), action, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, tests::plan};

    const RANDOMNESS: FoundingRandomness =
        FoundingRandomness { root_serial: [1; 16], issuing_serial: [2; 16], bootstrap_secret: [3; 32] };

    fn now() -> Timestamp {
        Timestamp::from_unix(1_795_510_800)
    }

    #[tokio::test]
    async fn an_authority_is_founded_once() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::new(parent.path().join("ca"));
        found(&directory, plan(), RANDOMNESS, now()).await.unwrap();
        let before = files::read(&directory.key(Issuer::Root)).unwrap();
        let again = found(&directory, plan(), RANDOMNESS, now()).await;
        assert!(matches!(again, Err(FoundingError::Exists { .. })), "{again:?}");
        assert_eq!(files::read(&directory.key(Issuer::Root)).unwrap(), before);
        assert!(Authority::open(&directory).await.is_ok());
    }

    #[tokio::test]
    async fn an_interrupted_founding_starts_over() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::new(parent.path().join("ca"));
        found(&directory, plan(), RANDOMNESS, now()).await.unwrap();
        // As after a power failure between the last move and the removal of the staging directory.
        fs::create_dir(directory.staging().path()).unwrap();
        let error = Authority::open(&directory).await.unwrap_err();
        assert!(error.to_string().contains("run ca-daemon init again"), "{error}");
        found(&directory, plan(), RANDOMNESS, now()).await.unwrap();
        assert!(!directory.staging().path().exists());
        assert!(Authority::open(&directory).await.is_ok());
    }
}
