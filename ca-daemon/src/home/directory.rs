//! The authority's directory on disk: which files it has, and how they are read.
//!
//! It never writes to an existing authority. `founding` creates one, and the database belongs to the store.

use std::{
    io,
    path::{Path, PathBuf},
};

use edge::files::{self, FileError};
use mtls::tls::{IdentityError, load_key};
use pki::{
    issuing::{CertificateAuthority, IssuingError},
    pem::{self, PemError},
};
use rustls_pki_types::CertificateDer;

use crate::{issuer::Issuer, settings::Settings};

/// The directory of an authority.
#[derive(Clone, Debug)]
pub(crate) struct Directory(PathBuf);

/// Why an authority's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    /// It belongs to another user.
    #[error("{} cannot be looked into: {source}; run this as the user who owns the authority", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The disk or file system fails.
    #[error(
        "whether {} holds an authority cannot be found out: {source}; check its disk or file system",
        path.display()
    )]
    Failing {
        /// The directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// There is no authority.
    #[error("{} holds no authority; run: ca-daemon init, or name its directory with --dir", .0.display())]
    Empty(PathBuf),
    /// There are keys but no database.
    #[error(
        "{} does not exist, though the authority's keys do; restore it from a backup, because it has every certificate \
         and revocation",
        .0.display()
    )]
    NoDatabase(PathBuf),
    /// `init` was interrupted, so nothing of this authority was ever used.
    #[error("the authority in {} is not complete: its init was interrupted; run ca-daemon init again", .0.display())]
    Incomplete(PathBuf),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate file is not PEM.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// A certificate file is missing.
    #[error("{} does not exist, and the authority cannot work without it; restore it from a backup", .0.display())]
    NoCertificate(PathBuf),
    /// The key file is missing.
    #[error("{} does not exist, and nothing can be signed without it; restore it from a backup", .0.display())]
    NoKey(PathBuf),
    /// A key file cannot be parsed.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// Certificate and key do not make an authority.
    #[error("{}: {source}", path.display())]
    Authority {
        /// The key's file.
        path: PathBuf,
        /// What is wrong.
        source: IssuingError,
    },
    /// Files of two authorities are mixed.
    #[error("{} is not the root that this authority was founded with; put the original back", .0.display())]
    OtherRoot(PathBuf),
}

impl Directory {
    /// The directory that is used without `--dir`.
    pub(crate) const DEFAULT: &'static str = "ca";

    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("ca.db")
    }

    /// The highest CRL numbers that were used; the store keeps it.
    pub(crate) fn mark(&self) -> PathBuf {
        self.0.join("ca.mark")
    }

    pub(crate) fn certificate(&self, issuer: Issuer) -> PathBuf {
        self.0.join(format!("{issuer}.crt"))
    }

    pub(crate) fn key(&self, issuer: Issuer) -> PathBuf {
        self.0.join(format!("{issuer}.key"))
    }

    pub(crate) fn bootstrap_token(&self) -> PathBuf {
        self.0.join("bootstrap.token")
    }

    /// Where the daemon listens for commands.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("daemon.sock")
    }

    /// The daemon holds this lock while it runs.
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("daemon.lock")
    }

    /// Where a new authority is assembled before it is moved into place.
    pub(crate) fn staging(&self) -> Self {
        Self(self.0.join(".init"))
    }

    /// Every file of an authority. The database is the last, because it makes the authority complete.
    pub(crate) fn files(&self) -> [PathBuf; 7] {
        [
            self.certificate(Issuer::Root),
            self.key(Issuer::Root),
            self.certificate(Issuer::Issuing),
            self.key(Issuer::Issuing),
            self.bootstrap_token(),
            self.mark(),
            self.database(),
        ]
    }

    /// Checks that the authority is complete.
    pub(crate) fn check(&self) -> Result<(), DirectoryError> {
        let exists = |file: &Path| {
            file.try_exists().map_err(|source| match (self.0.clone(), source.kind()) {
                // Without permission to look, it is unknown whether an authority is here.
                (path, io::ErrorKind::PermissionDenied) => DirectoryError::Unreadable { path, source },
                (path, _) => DirectoryError::Failing { path, source },
            })
        };
        if exists(self.staging().path())? {
            return Err(DirectoryError::Incomplete(self.0.clone()));
        }
        if exists(&self.database())? {
            return Ok(());
        }
        for file in self.files() {
            if exists(&file)? {
                return Err(DirectoryError::NoDatabase(self.database()));
            }
        }
        Err(DirectoryError::Empty(self.0.clone()))
    }

    pub(crate) fn load_certificate(&self, issuer: Issuer) -> Result<CertificateDer<'static>, DirectoryError> {
        let path = self.certificate(issuer);
        let text = files::read(&path).map_err(|error| match error {
            FileError::Missing(path) => DirectoryError::NoCertificate(path),
            error => error.into(),
        })?;
        let chain = pem::read_chain(&text).map_err(|source| DirectoryError::Pem { path, source })?;
        Ok(chain.into_iter().next().expect("a chain has at least one certificate"))
    }

    /// The authority with its key, which may be stored outside of this directory.
    pub(crate) fn load_authority(
        &self,
        issuer: Issuer,
        key: &Path,
        settings: &Settings,
    ) -> Result<CertificateAuthority, DirectoryError> {
        let certificate = self.load_certificate(issuer)?;
        let pair = load_key(key).map_err(|error| match error {
            IdentityError::File(FileError::Missing(path)) => DirectoryError::NoKey(path),
            error => error.into(),
        })?;
        CertificateAuthority::load(certificate, pair, settings.publication(issuer))
            .map_err(|source| DirectoryError::Authority { path: key.to_owned(), source })
    }
}
