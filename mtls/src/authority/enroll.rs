//! The enrolling side of an enrollment: a key made here, a CSR, a token, and the certificate from the authority.
//!
//! It never sends the private key, and never sends the token's secret to a server other than the authority that the
//! token names.

use std::{
    convert::Infallible,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use edge::{
    clock::Clock,
    errors::find,
    file_set::{FileSet, Member},
    files::{self, Access, FileError},
};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use pki::{
    certificate::{CertificateInfo, Fingerprint},
    csr::{Proposal, ProposalError},
    key::{KeyError, KeyPair},
    name::{Host, Organization},
    pem::{self, PemError},
    profile::Profile,
    token::{Token, TokenError},
    wire::{ENROLL_PATH, EnrollRequest, EnrollResponse, KEY_COMPROMISED, Problem},
};
use rustls_pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    connect::contact::{self, Contact},
    errors::{error_chain, in_words, refusal},
    standing::{self, FirstContactError, KeptLists, ServerRefusal},
    tls::{
        connecting::{self, NotTheAuthority},
        identity::{Identity, IdentityError, load_key},
    },
};

/// Timeout for the authority's answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout to connect, and for unacknowledged data.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes. A chain of three certificates has about 3 KiB.
const MAX_ANSWER: usize = 256 * 1024;

/// The file with a CA's bootstrap token.
pub const BOOTSTRAP_TOKEN: &str = "bootstrap.token";

/// The default directory of a CA.
pub const CA_DIRECTORY: &str = "ca";

/// The environment variable for a token.
pub const TOKEN_VARIABLE: &str = "CA_TOKEN";

/// An unverified token as it was given. It is never shown, and is wiped from memory when dropped.
#[derive(Clone)]
pub struct TokenText(Zeroizing<String>);

impl TokenText {
    /// The value of the environment variable, unless it is empty.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let text = Zeroizing::new(std::env::var(TOKEN_VARIABLE).ok()?);
        (!text.is_empty()).then_some(Self(text))
    }
}

impl FromStr for TokenText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(redacted)")
    }
}

/// Where to look for a token. The first one that is given is used. A CA in [`CA_DIRECTORY`] comes last.
#[derive(Clone, Debug, Default)]
pub struct TokenSources {
    /// The token itself.
    pub text: Option<TokenText>,
    /// A file with the token.
    pub file: Option<PathBuf>,
    /// The directory of a CA on the same machine, with a bootstrap token.
    pub ca_directory: Option<PathBuf>,
    /// The token from the environment.
    pub environment: Option<TokenText>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum FindTokenError {
    /// None was found.
    #[error(
        "no enrollment token: give one with --token-file FILE or in the environment variable CA_TOKEN, \
         or name the directory of a CA on this machine with --ca-dir (there is no {})",
        .0.display()
    )]
    None(PathBuf),
    /// Its file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The text is not a token.
    #[error("{place}: {source}")]
    Token {
        /// Where it was found.
        place: String,
        /// What is wrong with it.
        source: TokenError,
    },
}

impl TokenSources {
    /// Finds the token.
    pub fn find(&self) -> Result<Token, FindTokenError> {
        let (place, text) = match (&self.text, &self.file, &self.ca_directory, &self.environment) {
            (Some(TokenText(text)), ..) => ("--token".to_owned(), text.clone()),
            (None, Some(file), ..) => (file.display().to_string(), files::read_secret_if(file, is_token)?),
            (None, None, None, Some(TokenText(text))) => (TOKEN_VARIABLE.to_owned(), text.clone()),
            (None, None, directory, _) => {
                let file = directory.as_deref().unwrap_or(Path::new(CA_DIRECTORY)).join(BOOTSTRAP_TOKEN);
                match files::read_secret_if(&file, is_token) {
                    Err(FileError::Missing(path)) => return Err(FindTokenError::None(path)),
                    result => (file.display().to_string(), result?),
                }
            }
        };
        text.parse().map_err(|source| FindTokenError::Token { place, source })
    }
}

fn is_token(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(pki::token::PREFIX.as_bytes())
}

/// The root's file.
const ROOT: &str = "ca.crt";

/// The files of one identity: `NAME.crt` (the chain), `NAME.key` and `ca.crt` (the root), which change together, and
/// `ca.url` (the authority's address).
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    directory: PathBuf,
    profile: Profile,
    set: FileSet,
    chain: PathBuf,
    key: PathBuf,
    pending_key: PathBuf,
    next_key: PathBuf,
    root: PathBuf,
    authority: PathBuf,
    crl_directory: PathBuf,
}

/// An identity and the root above it, from disk.
#[derive(Debug)]
pub struct Enrolled {
    /// Chain and key.
    pub identity: Identity,
    /// The trust anchor.
    pub root: CertificateDer<'static>,
    /// The HTTPS address of the authority that it was enrolled with, if that is known.
    pub authority: Option<Url>,
}

impl IdentityFiles {
    /// The files of a client (`client.crt`, ...) or of a server (`server.crt`, ...) in a directory.
    #[must_use]
    pub fn new(directory: &Path, profile: Profile) -> Self {
        let file = |suffix: &str| directory.join(format!("{profile}.{suffix}"));
        Self {
            directory: directory.to_owned(),
            profile,
            set: FileSet::new(directory, profile.as_str()),
            chain: file("crt"),
            key: file("key"),
            pending_key: file("key.pending"),
            next_key: file("key.next"),
            root: directory.join(ROOT),
            authority: directory.join("ca.url"),
            crl_directory: directory.join("crl"),
        }
    }

    /// The file of the chain.
    #[must_use]
    pub fn chain(&self) -> &Path {
        &self.chain
    }

    /// The file of the private key.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// What the files are read from: another path after each enrollment and renewal.
    pub(crate) fn generation(&self) -> Option<PathBuf> {
        std::fs::read_link(self.set.current()).ok()
    }

    /// The file of the root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file of the authority's address.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// Where the CRLs that cover servers are stored.
    #[must_use]
    pub fn crl_directory(&self) -> &Path {
        &self.crl_directory
    }

    /// Loads the files. `None` if nothing was enrolled here yet.
    pub fn load(&self) -> Result<Option<Enrolled>, IdentityError> {
        // A failing disk must not lead to a new enrollment.
        if !files::exists(&self.chain)? {
            // A symbolic link that leads nowhere: a copy that left out the hidden directory, for example.
            if self.chain.is_symlink() {
                let path = self.set.current();
                return Err(IdentityError::Lost { path, chain: self.chain.clone() });
            }
            return Ok(None);
        }
        let read = self.set.read(|place| self.read_set(place));
        // An error names the stable path of the file, so that a person can find it.
        let (identity, root) = read.or_else(|_| self.read_set(&|name| self.directory.join(name)))?;
        let authority = match files::read_text(&self.authority) {
            // Without the address there would be no feed, and `revoke` would not wait for this relying party. So it is
            // not guessed.
            Ok(text) => Some(authority_url(&text).ok_or_else(|| IdentityError::Authority(self.authority.clone()))?),
            Err(FileError::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Enrolled { identity, root, authority }))
    }

    /// Reads the chain, key and root at the paths from `place`.
    fn read_set(&self, place: &dyn Fn(&str) -> PathBuf) -> Result<(Identity, CertificateDer<'static>), IdentityError> {
        // The chain is written last, so the other files existed once.
        let lost = |error, path: &Path| match error {
            FileError::Missing(_) => IdentityError::Lost { path: path.to_owned(), chain: self.chain.clone() },
            error => error.into(),
        };
        let [chain, key] = self.names().map(|name| place(&name));
        let identity = Identity::load(&chain, &key).map_err(|error| match error {
            IdentityError::File(error) => {
                let is_key = matches!(&error, FileError::Missing(path) if *path == key);
                lost(error, if is_key { &self.key } else { &self.chain })
            }
            error => error,
        })?;
        let text = files::read(&place(ROOT)).map_err(|error| lost(error, &self.root))?;
        // It is unclear which of several roots would be trusted.
        let root = pem::read_certificate(&text)
            .map_err(|source| IdentityError::Pem { path: self.root.display().to_string(), source })?;
        Ok((identity, root))
    }

    /// The names of the chain and of the key.
    fn names(&self) -> [String; 2] {
        ["crt", "key"].map(|suffix| format!("{}.{suffix}", self.profile))
    }

    /// How the certificate in these files differs from the options `--name`, `--org` and `--host`.
    #[must_use]
    pub fn differences(&self, proposal: &Proposal, certificate: &CertificateInfo) -> Vec<String> {
        let chain = self.chain().display();
        let Proposal { common_name, organization, hosts } = proposal;
        let missing = hosts.iter().map(Host::to_string).filter(|host| !certificate.names.contains(host));
        let mut differences: Vec<_> =
            missing.map(|host| format!("the certificate in {chain} is not for --host {host}")).collect();
        if certificate.common_name.as_deref() != Some(common_name.as_str()) {
            let name = certificate.display_name();
            differences.push(format!("the certificate in {chain} is for {name}, and --name says {common_name}"));
        }
        if let Some(wanted) = organization.as_ref().map(Organization::as_str)
            && certificate.organization.as_deref() != Some(wanted)
        {
            differences
                .push(format!("the certificate in {chain} is not of the organization that --org says, {wanted}"));
        }
        differences
    }

    /// Whether an enrollment was interrupted while it stored its files. The next one repeats it.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.pending_key.exists()
    }

    /// Removes leftovers of an interrupted enrollment: incomplete files, and the pending key of the identity in place.
    pub fn tidy(&self, enrolled: &Enrolled) -> Result<(), IdentityError> {
        files::remove_leftovers(&self.directory);
        if let Some(_lock) = files::lock_directory(&self.directory)? {
            self.set.remove_leftovers();
        }
        for left in [&self.pending_key, &self.next_key] {
            if load_key(left).is_ok_and(|key| enrolled.identity.info().is_for_key(&key)) {
                files::remove(left)?;
            }
        }
        Ok(())
    }

    /// The key to enroll with. It is written before the request is sent. If the answer is lost, the next attempt sends
    /// the same key and gets the same certificate.
    fn key_to_enroll(&self) -> Result<KeyPair, EnrollError> {
        match load_key(&self.pending_key) {
            Err(IdentityError::Key { source, .. }) => {
                Err(EnrollError::PendingKey { path: self.pending_key.clone(), source })
            }
            Err(IdentityError::File(FileError::Missing(_))) => Ok(new_key(&self.pending_key)?),
            result => Ok(result?),
        }
    }

    /// The key of the next certificate, stored in the same way. A damaged one is replaced, because the current identity
    /// still works; and so is the key of that identity, whose file an interrupted renewal did not remove.
    pub(crate) fn key_to_renew(&self, current: &Identity) -> Result<KeyPair, IdentityError> {
        match load_key(&self.next_key) {
            Ok(key) if current.info().is_for_key(&key) => new_key(&self.next_key),
            Err(IdentityError::Key { .. } | IdentityError::File(FileError::Missing(_))) => new_key(&self.next_key),
            result => result,
        }
    }

    /// Stores the successor with the key from [`Self::key_to_renew`].
    pub(crate) fn succeed(&self, enrolled: &Enrolled, key: &KeyPair) -> Result<(), FileError> {
        self.store(enrolled, key)?;
        files::remove(&self.next_key)
    }

    /// Removes the key of a denied renewal, for which nothing was issued.
    pub(crate) fn forget_next_key(&self) -> Result<(), FileError> {
        files::remove(&self.next_key)
    }

    /// The directory of all these files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Stores an identity, all files at once. The pending key is removed last: while it exists, the next attempt
    /// repeats this one.
    fn store(&self, enrolled: &Enrolled, key: &KeyPair) -> Result<(), FileError> {
        if let Some(authority) = &enrolled.authority {
            files::write(&self.authority, format!("{authority}\n").as_bytes(), Access::Public)?;
        }
        let (chain, root) = (pem::chain(enrolled.identity.chain()), pem::certificate(&enrolled.root));
        let [chain_name, key_name] = self.names();
        self.set.replace(&[
            Member { name: ROOT, contents: root.as_bytes(), access: Access::Public },
            Member { name: &key_name, contents: key.to_pem().as_bytes(), access: Access::Private },
            Member { name: &chain_name, contents: chain.as_bytes(), access: Access::Public },
        ])?;
        files::remove(&self.pending_key)
    }
}

fn new_key(path: &Path) -> Result<KeyPair, IdentityError> {
    let key = KeyPair::generate().map_err(|source| IdentityError::Key { path: path.display().to_string(), source })?;
    files::write(path, key.to_pem().as_bytes(), Access::Private)?;
    Ok(key)
}

fn authority_url(text: &str) -> Option<Url> {
    text.trim().parse().ok().filter(|url: &Url| url.scheme() == "https" && url.has_host())
}

/// Why an enrollment failed.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process is enrolling here.
    #[error("another enrollment is running in {}; wait until it ends", .0.display())]
    Underway(PathBuf),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The pending key of an interrupted attempt is damaged.
    #[error("{} was left by an earlier attempt and cannot be used: {source}; remove it and enroll again",
        path.display())]
    PendingKey {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A key or the received certificate cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The names cannot be put into a CSR.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// Another authority answers at the token's address.
    #[error(
        "{url} is not the authority that the token is for: {source}. The token was not sent. \
         Check the address, or get a token of the authority that runs there now"
    )]
    OtherAuthority {
        /// The token's address.
        url: String,
        /// What was expected.
        source: NotTheAuthority,
    },
    /// The server at the token's address has a certificate of the right root, but it is not valid for the address.
    #[error(
        "{url} shows a certificate that cannot be trusted: {cause}. The token was not sent. \
         Check this machine's clock, and with `ca-daemon init --host` by which names the authority is reached"
    )]
    NotTrusted {
        /// The token's address.
        url: String,
        /// What is wrong with the certificate.
        cause: String,
    },
    /// The server at the token's address is the authority, but its certificate or one above it is revoked.
    #[error(
        "{url} cannot be trusted: {source}. The token was not sent. An attacker may have the key of that certificate; \
         ask whoever runs the authority"
    )]
    Revoked {
        /// The token's address.
        url: String,
        /// The reason, from its CRLs.
        source: ServerRefusal,
    },
    /// Whether the authority's own certificate is revoked is unknown.
    #[error(
        "whether {url} can be trusted is not known, because it sends no current CRL about its own certificate: \
         {source}. \
         The token was not sent. Check this machine's clock and the authority's, and its log"
    )]
    UnknownStanding {
        /// The token's address.
        url: String,
        /// What is wrong with its CRLs.
        source: Box<FirstContactError>,
    },
    /// The authority could not be reached.
    #[error("the authority at {url} cannot be reached: {cause}; is `ca-daemon serve` running there?")]
    Unreachable {
        /// The token's address.
        url: String,
        /// What happened.
        cause: String,
    },
    /// The authority denied it.
    #[error("the authority denied the enrollment: {}", .0.detail)]
    Denied(Problem),
    /// The answer of the authority is not a certificate.
    #[error("the authority at {url} gave no usable answer: {cause}")]
    Answer {
        /// The token's address.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// Enrolls: makes a key, or takes the one of an interrupted attempt, sends the request, and stores the answer.
pub async fn enroll(
    files: &IdentityFiles,
    token: &Token,
    profile: Profile,
    proposal: &Proposal,
    clock: &Clock,
) -> Result<Enrolled, EnrollError> {
    files::create_directory(&files.directory, Access::Public)?;
    // Two at once would store the key of one beside the certificate of the other.
    let lock = files::lock_directory(&files.directory)?;
    let _lock = lock.ok_or_else(|| EnrollError::Underway(files.directory.clone()))?;
    files::remove_leftovers(&files.directory);
    let is_repeated = files.is_interrupted();
    let key = files.key_to_enroll()?;
    let request = EnrollRequest { profile, csr: pem::csr(&proposal.sign(&key)?) };
    let kept = match profile {
        Profile::Client => KeptLists::OfClient(&files.crl_directory),
        Profile::Server => KeptLists::OfService(&files.crl_directory),
    };
    let answer = timeout(TIMEOUT, send(token, &request, kept, clock)).await.unwrap_or_else(|_| {
        let cause = format!("no answer within {} s", TIMEOUT.as_secs());
        Err(EnrollError::Unreachable { url: token.url.to_string(), cause })
    });
    if let Err(EnrollError::Denied(problem)) = &answer
        && (!is_repeated || problem.kind == KEY_COMPROMISED)
    {
        // Nothing was issued for a new key, so there is nothing to repeat. For the key of an earlier attempt, a
        // certificate may have been issued with another token or name, and can still be fetched with this key only. If
        // the key was revoked as compromised, no certificate is issued for it any more, and the next attempt makes
        // another.
        files::remove(&files.pending_key)?;
    }
    let answer = answer?;
    let unusable = |cause: String| EnrollError::Answer { url: token.url.to_string(), cause };
    let read = |pem: &str| pem::read_chain(pem).map_err(|error: PemError| unusable(error.to_string()));
    let root = read(&answer.root)?.swap_remove(0);
    if Fingerprint::of(&root) != token.root {
        return Err(unusable("the root in it is not the one that the token names".to_owned()));
    }
    let stored_key = KeyPair::from_pem(key.to_pem())?;
    let identity = Identity::new(read(&answer.chain)?, key)?;
    let enrolled = Enrolled { identity, root, authority: Some(token.url.clone()) };
    files.store(&enrolled, &stored_key)?;
    Ok(enrolled)
}

/// Sends one request to the authority, over TLS that is pinned to the token's root, after the authority was checked by
/// its own CRLs.
async fn send(
    token: &Token,
    request: &EnrollRequest,
    kept: KeptLists<'_>,
    clock: &Clock,
) -> Result<EnrollResponse, EnrollError> {
    let url = token.url.to_string();
    let unreachable = |cause: String| EnrollError::Unreachable { url: url.clone(), cause };
    let unusable = |cause: String| EnrollError::Answer { url: url.clone(), cause };

    let tls = connecting::pinned(token.root, clock).map_err(|error| unreachable(error.to_string()))?;
    let target = token.url.join(ENROLL_PATH).map_err(|error| unreachable(error.to_string()))?;
    let body = serde_json::to_vec(request).map_err(|error| unreachable(error.to_string()))?;
    let mut bearer = http::HeaderValue::from_str(&format!("Bearer {}", *token.secret.to_bearer()))
        .map_err(|error| unreachable(error.to_string()))?;
    bearer.set_sensitive(true);
    let request = Request::builder()
        .method(Method::POST)
        .uri(target.as_str())
        .header(header::AUTHORIZATION, bearer)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::<Bytes>::from(body))
        .map_err(|error| unreachable(error.to_string()))?;

    let mut connector = contact::connector(tls, PATIENCE);
    connector.enforce_https();
    let mut contact =
        Contact::open(&connector, request.uri()).await.map_err(|error| match find::<rustls::Error>(&error) {
            Some(tls @ rustls::Error::InvalidCertificate(_)) => match not_the_authority(tls) {
                Some(source) => EnrollError::OtherAuthority { url: url.clone(), source },
                None => EnrollError::NotTrusted { url: url.clone(), cause: in_words(tls) },
            },
            Some(tls) => unreachable(in_words(tls)),
            None => unreachable(error_chain(&error)),
        })?;
    // The secret is sent last, over the checked connection.
    let judged = standing::first_contact(&mut contact, token.root, &token.url, kept, clock).await;
    judged.map_err(|error| match error {
        FirstContactError::Refused(source @ ServerRefusal::Revoked(_)) => {
            EnrollError::Revoked { url: url.clone(), source }
        }
        source => EnrollError::UnknownStanding { url: url.clone(), source: Box::new(source) },
    })?;
    let response = contact.send(request).await.map_err(|error| unreachable(error_chain(&error)))?;
    match read_answer(response).await {
        Answer::Given(answer) => Ok(answer),
        Answer::Denied(problem) => Err(EnrollError::Denied(problem)),
        Answer::Unusable(cause) => Err(unusable(cause)),
    }
}

/// An answer of the authority.
pub(crate) enum Answer<T> {
    Given(T),
    /// A denial.
    Denied(Problem),
    /// An unusable answer, in words.
    Unusable(String),
}

pub(crate) async fn read_answer<T: DeserializeOwned>(response: Response<Incoming>) -> Answer<T> {
    let status = response.status();
    let body = match Limited::new(response.into_body(), MAX_ANSWER).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Answer::Unusable(error_chain(error.as_ref())),
    };
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_or_else(|error| Answer::Unusable(error.to_string()), Answer::Given);
    }
    match serde_json::from_slice(&body) {
        // A request that timed out was not denied, and may have succeeded.
        Ok(problem) if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => Answer::Denied(problem),
        Ok(Problem { detail, .. }) => Answer::Unusable(format!("{status}: {detail}")),
        Err(_) => Answer::Unusable(format!("status {status}")),
    }
}

fn not_the_authority(error: &rustls::Error) -> Option<NotTheAuthority> {
    refusal(error)?.downcast_ref().copied()
}
