//! A process's own certificate chain and private key: loaded from its files, checked to belong together, and
//! replaceable while connections are accepted.
//!
//! It never decides whether to trust a peer.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use edge::files::{self, FileError};
use pki::{
    certificate::{CertificateError, CertificateInfo, IssuerId, VerifiedId},
    key::{KeyError, KeyPair},
    pem::{self, PemError},
    serial::Serial,
    time::{Timestamp, Validity},
};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use crate::revocation::LiveSet;

/// A certificate, the ones above it without the root, and the key of the first.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    info: CertificateInfo,
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file with the authority's address is damaged.
    #[error(
        "{} is damaged: it does not hold the authority's https address. Write it there, as in https://HOST:8440; \
         without the file, there is no feed, and no revocation waits for this service", .0.display()
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
    /// The key file has no private key.
    #[error("{path}: {source}")]
    Key {
        /// Which file.
        path: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The certificate cannot be parsed.
    #[error("the certificate cannot be used: {0}")]
    Certificate(#[from] CertificateError),
    /// The certificate exists, but a file that belongs to it does not.
    #[error("{} does not exist, and {} is of no use without it; restore it, or enroll again", path.display(),
        chain.display())]
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
    /// The issuer of a certificate is neither in the chain nor the root.
    #[error("the certificate of {0} is missing from the chain, or one above it is; it has to lead to the root")]
    MissingIssuer(String),
    /// The root is not valid now. The TLS library does not check the dates of a trust anchor.
    #[error("the root certificate {name} is not valid now: it is from {} until {}; put the current one in place, or \
             enroll again",
        validity.not_before, validity.not_after)]
    RootNotValid {
        /// The root's name.
        name: String,
        /// Its validity.
        validity: Validity,
    },
    /// The TLS library refuses it.
    #[error("the identity cannot be used for TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Identity {
    /// Combines a chain (end entity first) and its key, if they belong together.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: KeyPair) -> Result<Self, IdentityError> {
        let first = chain.first().ok_or(CertificateError::NotACertificate)?;
        let info = CertificateInfo::from_der(first)?;
        if !info.is_for_key(&key) {
            return Err(IdentityError::Mismatch(info.display_name()));
        }
        Ok(Self { chain, key, info })
    }

    /// Loads a PEM chain, and a PEM key that others cannot read.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, IdentityError> {
        let text = files::read(chain)?;
        let certificates = pem::read_chain(&text)
            .map_err(|source| IdentityError::Pem { path: chain.display().to_string(), source })?;
        Self::new(certificates, load_key(key)?)
    }

    /// The chain, the end entity first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The end-entity certificate.
    #[must_use]
    pub fn info(&self) -> &CertificateInfo {
        &self.info
    }

    /// The certificates from this identity's own to the root, each signed by the next. The chain may contain others,
    /// such as a cross-certificate.
    pub fn path_to(&self, root: &CertificateDer<'_>) -> Result<Vec<CertificateInfo>, IdentityError> {
        path_of(&self.chain, root)
    }

    /// As rustls presents it.
    pub fn certified_key(&self) -> Result<CertifiedKey, IdentityError> {
        let key = crate::tls::provider::provider()
            .key_provider
            .load_private_key(PrivateKeyDer::Pkcs8(self.key.to_pkcs8()))?;
        Ok(CertifiedKey::new(self.chain.clone(), key))
    }
}

/// Checks that a root is valid at this time.
pub(crate) fn check_root(root: &CertificateDer<'_>, now: Timestamp) -> Result<(), IdentityError> {
    let root = CertificateInfo::from_der(root)?;
    if root.validity.contains(now) {
        return Ok(());
    }
    Err(IdentityError::RootNotValid { name: root.display_name(), validity: root.validity })
}

/// The certificates from the first one of a chain to the root, as in [`Identity::path_to`].
pub(crate) fn path_of(
    chain: &[CertificateDer<'static>],
    root: &CertificateDer<'_>,
) -> Result<Vec<CertificateInfo>, IdentityError> {
    let chain: Vec<_> = chain.iter().filter(|certificate| *certificate != root).collect();
    let Some((own, above)) = chain.split_first() else { return Ok(Vec::new()) };
    let path = path(own, above, root)?;
    match path {
        Some(path) => Ok(path),
        None => Err(IdentityError::MissingIssuer(CertificateInfo::from_der(own)?.id.issuer.to_string())),
    }
}

/// A certificate and those above it up to the root, each signed by the next. `None` if they do not lead to the root.
fn path(
    certificate: &CertificateDer<'_>,
    above: &[&CertificateDer<'_>],
    root: &CertificateDer<'_>,
) -> Result<Option<Vec<CertificateInfo>>, CertificateError> {
    let info = CertificateInfo::from_der(certificate)?;
    let root_info = CertificateInfo::from_der(root)?;
    if root_info.has_signed(certificate) {
        return Ok(Some(vec![info, root_info]));
    }
    for (place, issuer) in above.iter().enumerate() {
        let others = [&above[..place], &above[place + 1..]].concat();
        if CertificateInfo::from_der(issuer)?.has_signed(certificate)
            && let Some(path) = path(issuer, &others, root)?
        {
            return Ok(Some([vec![info], path].concat()));
        }
    }
    Ok(None)
}

/// Loads a PEM private key that others cannot read.
pub fn load_key(path: &Path) -> Result<KeyPair, IdentityError> {
    const MARK: &[u8] = b"PRIVATE KEY";
    let is_key = |bytes: &[u8]| bytes.windows(MARK.len()).any(|part| part == MARK);
    let text = files::read_secret_bytes_if(path, is_key)?;
    KeyPair::from_pem(&*text).map_err(|source| IdentityError::Key { path: path.display().to_string(), source })
}

/// A server's identity that can be replaced at any time. New handshakes present the new one. Clones share it.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    presented: Arc<ArcSwap<Presented>>,
    judged: Option<Judged>,
    /// How many times it was replaced.
    replacements: Arc<watch::Sender<u64>>,
}

/// What is presented in handshakes.
#[derive(Debug)]
struct Presented {
    key: Arc<CertifiedKey>,
    serial: Serial,
    validity: Validity,
}

impl Presented {
    fn new(identity: &Identity) -> Result<Self, IdentityError> {
        let CertificateInfo { id, validity, .. } = identity.info();
        Ok(Self { key: Arc::new(identity.certified_key()?), serial: id.serial, validity: *validity })
    }
}

/// The live set that checks a relying party's own identity.
#[derive(Clone, Debug)]
struct Judged {
    live: LiveSet,
    root: CertificateDer<'static>,
    watched: Arc<Mutex<Watched>>,
}

/// The certificates for which the live set is asked.
#[derive(Debug, Default)]
struct Watched {
    /// Of the presented chain.
    own: Vec<VerifiedId>,
    /// Of the chains before it, under which the authority may still know this relying party.
    before: Vec<VerifiedId>,
    /// Whether there is an authority that has to know it.
    is_registered: bool,
}

impl Judged {
    /// The certificates that may be revoked.
    fn ids(&self, identity: &Identity) -> Result<Vec<VerifiedId>, IdentityError> {
        let path = identity.path_to(&self.root)?;
        let id = |(subject, issuer): (&CertificateInfo, &CertificateInfo)| VerifiedId {
            issuer: IssuerId::of(issuer),
            serial: subject.id.serial,
        };
        Ok(path.iter().zip(path.iter().skip(1)).map(id).collect())
    }

    /// Watches this chain. The chain before it is watched as well until [`ServerIdentity::settle`]: the authority waits for
    /// no relying party whose certificate is revoked, so one that continues with another certificate admits nobody before
    /// it is registered with that.
    fn watch(&self, own: Vec<VerifiedId>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.is_registered {
            let before = std::mem::take(&mut watched.own);
            watched.before.extend(before);
        }
        watched.own = own;
        self.live.watch_own([&watched.own[..], &watched.before].concat());
    }
}

impl ServerIdentity {
    /// Presents this identity from now on.
    pub fn new(identity: &Identity) -> Result<Self, IdentityError> {
        let presented = Arc::new(ArcSwap::from_pointee(Presented::new(identity)?));
        Ok(Self { presented, judged: None, replacements: Arc::default() })
    }

    /// The same for a relying party below this root. While a certificate on the path to the root is revoked, nobody is
    /// admitted.
    pub(crate) fn under(
        identity: &Identity,
        root: &CertificateDer<'static>,
        live: &LiveSet,
    ) -> Result<Self, IdentityError> {
        let judged = Judged { live: live.clone(), root: root.clone(), watched: Arc::default() };
        judged.watch(judged.ids(identity)?);
        Ok(Self { judged: Some(judged), ..Self::new(identity)? })
    }

    /// Presents another identity from now on, and checks that one. If it cannot be used, nothing changes. Sessions of
    /// the previous identity are not resumed.
    pub fn replace(&self, identity: &Identity) -> Result<(), IdentityError> {
        let presented = Arc::new(Presented::new(identity)?);
        let ids = self.judged.as_ref().map(|judged| judged.ids(identity)).transpose()?;
        self.presented.store(presented);
        if let Some((judged, ids)) = self.judged.as_ref().zip(ids) {
            judged.watch(ids);
        }
        self.replacements.send_modify(|count| *count += 1);
        Ok(())
    }

    /// From now on an authority has to know this relying party by the certificate that it presents.
    pub(crate) fn registers(&self) {
        if let Some(judged) = &self.judged {
            judged.watched.lock().unwrap_or_else(PoisonError::into_inner).is_registered = true;
        }
    }

    /// The authority knows this relying party by the presented certificate. The ones before do not matter any more.
    pub(crate) fn settle(&self) {
        let Some(judged) = &self.judged else { return };
        let mut watched = judged.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut watched.before).is_empty() {
            judged.live.watch_own(watched.own.clone());
        }
    }

    /// The validity of the presented certificate.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.presented.load().validity
    }

    /// The serial number of the presented certificate.
    pub(crate) fn serial(&self) -> Serial {
        self.presented.load().serial
    }

    /// Changes when another identity is presented.
    pub(crate) fn replacements(&self) -> watch::Receiver<u64> {
        self.replacements.subscribe()
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.presented.load().key))
    }
}

/// A relying party presents its server certificate as a client of its authority as well.
impl ResolvesClientCert for ServerIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.presented.load().key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
