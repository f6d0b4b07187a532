//! A process's own certificate chain and private key: read from its files, checked to belong together, and
//! replaced while connections are being accepted.
//!
//! It never decides whether to trust anybody else.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use pki::{
    certificate::{CertificateError, CertificateInfo},
    key::{KeyError, KeyPair},
    pem::{self, PemError},
};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::files::{self, FileError};

/// A certificate, those above it up to but without the root, and the key to the first.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    info: CertificateInfo,
}

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// What says where the authority is does not.
    #[error(
        "{} is damaged: it does not hold the authority's https address. Write it there, as in https://HOST:8440; without the file, \
         there is no feed, and no revocation waits for this service", .0.display()
    )]
    Authority(PathBuf),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not PEM.
    #[error("{path}: {source}")]
    Pem {
        /// Which file.
        path: String,
        /// What is missing in it.
        source: PemError,
    },
    /// The key file is no private key.
    #[error("{path}: {source}")]
    Key {
        /// Which file.
        path: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The certificate cannot be read.
    #[error("the certificate cannot be used: {0}")]
    Certificate(#[from] CertificateError),
    /// The certificate is there and something that belongs to it is not.
    #[error("{} does not exist, and {} is of no use without it; restore it, or enroll again", path.display(), chain.display())]
    Lost {
        /// Which file.
        path: PathBuf,
        /// The certificate's file.
        chain: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error(
        "the private key does not belong to the certificate of {0}; put the matching pair in place or enroll again"
    )]
    Mismatch(String),
    /// The TLS library does not take it.
    #[error("the identity cannot be used for TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Identity {
    /// Puts a chain (end entity first) and its key together, if they belong together.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: KeyPair) -> Result<Self, IdentityError> {
        let first = chain.first().ok_or(CertificateError::NotACertificate)?;
        let info = CertificateInfo::from_der(first)?;
        if !info.is_for_key(&key) {
            return Err(IdentityError::Mismatch(info.display_name()));
        }
        Ok(Self { chain, key, info })
    }

    /// Reads a PEM chain and a PEM key that nobody else can read.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, IdentityError> {
        let text = files::read_text(chain)?;
        let certificates = pem::read_chain(&text)
            .map_err(|source| IdentityError::Pem { path: chain.display().to_string(), source })?;
        Self::new(certificates, load_key(key)?)
    }

    /// End entity first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// What the end-entity certificate says.
    #[must_use]
    pub fn info(&self) -> &CertificateInfo {
        &self.info
    }

    /// In the form that rustls presents.
    pub fn certified_key(&self) -> Result<CertifiedKey, IdentityError> {
        let key = crate::provider().key_provider.load_private_key(PrivateKeyDer::Pkcs8(self.key.to_pkcs8()))?;
        Ok(CertifiedKey::new(self.chain.clone(), key))
    }
}

/// Reads a PEM private key that nobody else can read.
pub fn load_key(path: &Path) -> Result<KeyPair, IdentityError> {
    let text = files::read_secret(path)?;
    KeyPair::from_pem(&text).map_err(|source| IdentityError::Key { path: path.display().to_string(), source })
}

/// A server's identity that can be replaced at any time; new handshakes present the new one.
#[derive(Clone, Debug)]
pub struct ServerIdentity(Arc<ArcSwap<CertifiedKey>>);

impl ServerIdentity {
    /// Presents this identity from now on.
    pub fn new(identity: &Identity) -> Result<Self, IdentityError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(identity.certified_key()?))))
    }

    /// Presents another identity from now on. One that cannot be used changes nothing.
    pub fn replace(&self, identity: &Identity) -> Result<(), IdentityError> {
        self.0.store(Arc::new(identity.certified_key()?));
        Ok(())
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}
