//! The authority's use cases, one method each: enroll, issue, revoke, publish, and what tokens need.
//!
//! It never knows SQL or HTTP, never reads the clock and never draws randomness.

mod enroll;
mod issue;
mod publish;
mod recover;
mod renew;
mod request;
mod revoke;
#[cfg(test)]
pub(crate) mod tests;
mod tokens;

use std::sync::Arc;

use edge::files;
use pki::{
    certificate::{CertificateInfo, Fingerprint},
    issuing::CertificateAuthority,
    policy::Policy,
};
use rustls_pki_types::CertificateDer;
use tokio::sync::Mutex;

pub(crate) use self::{
    enroll::{EnrollDenial, EnrollError},
    issue::IssueError,
    publish::PublishError,
    recover::{TakeBackError, read_pem},
    renew::{RenewDenial, RenewError},
    request::RequestError,
    tokens::{TokenOrder, new_token},
};
use crate::{
    home::directory::{Directory, DirectoryError},
    issuer::Issuer,
    settings::Settings,
    store::{Store, StoreError},
};

/// A certificate authority that is ready to work.
#[derive(Debug)]
pub(crate) struct Authority {
    store: Store,
    settings: Settings,
    policy: Policy,
    root: CertificateDer<'static>,
    /// The root with its key, unless the key is kept elsewhere.
    root_signer: Option<Arc<CertificateAuthority>>,
    issuing: Arc<CertificateAuthority>,
    /// SHA-256 of the `SubjectPublicKeyInfo` of the root and of the issuing CA.
    own_keys: [[u8; 32]; 2],
    /// Held while a key is judged that takes long.
    slow_keys: Mutex<()>,
}

/// Why an authority cannot start to work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Authority {
    /// Opens the authority in this directory.
    pub(crate) async fn open(directory: &Directory) -> Result<Self, OpenError> {
        directory.check()?;
        let store = Store::open(&directory.database()).await?;
        let settings = store.settings().await?;
        let root = directory.load_certificate(Issuer::Root)?;
        if Fingerprint::of(&root) != settings.root {
            return Err(DirectoryError::OtherRoot(directory.certificate(Issuer::Root)).into());
        }
        let load = |issuer| directory.load_authority(issuer, &directory.key(issuer), &settings).map(Arc::new);
        let issuing = load(Issuer::Issuing)?;
        let root_signer = if files::exists(&directory.key(Issuer::Root)).map_err(DirectoryError::from)? {
            Some(load(Issuer::Root)?)
        } else {
            None
        };
        let policy = Policy { trust_domain: settings.trust_domain.clone() };
        let root_info = CertificateInfo::from_der(&root).map_err(|error| DirectoryError::Authority {
            path: directory.certificate(Issuer::Root),
            source: error.into(),
        })?;
        let own_keys = [root_info.spki_sha256, issuing.info().spki_sha256];
        Ok(Self { store, settings, policy, root, root_signer, issuing, own_keys, slow_keys: Mutex::default() })
    }

    /// The store. Certificates, tokens and CRLs are changed by the use cases only.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The issuer's own certificate.
    pub(crate) fn certificate(&self, issuer: Issuer) -> &CertificateDer<'static> {
        match issuer {
            Issuer::Root => &self.root,
            Issuer::Issuing => self.issuing.certificate(),
        }
    }

    /// The certificate and those above it, up to but without the root.
    pub(crate) fn chain(&self, end_entity: CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        vec![end_entity, self.issuing.certificate().clone()]
    }

    /// The root with its key, if that is in the authority's directory.
    pub(crate) fn root_signer(&self) -> Option<Arc<CertificateAuthority>> {
        self.root_signer.clone()
    }

    /// Whether this process can sign the issuer's CRLs.
    pub(crate) fn can_publish(&self, issuer: Issuer) -> bool {
        issuer == Issuer::Issuing || self.root_signer.is_some()
    }
}
