//! The certificate holder's side of a renewal: the time for it, and the successor, which is fetched over a connection
//! with the certificate itself.
//!
//! It never needs a token, and changes no files before the successor has arrived.

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use edge::{
    clock::Clock,
    errors::find,
    files::{self, FileError},
};
use http::{Method, Request, header};
use http_body_util::Full;
use hyper::body::Bytes;
use pki::{
    certificate::Fingerprint,
    csr::{Proposal, ProposalError},
    key::KeyPair,
    name::NameError,
    pem,
    renewal::Window,
    wire::{EnrollResponse, Problem, RENEW_PATH, RENEWAL_PATH, RenewRequest, RenewalAnswer},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;

use super::enroll::{Answer, Enrolled, IdentityFiles, read_answer};
use crate::{
    connect::contact::{self, Contact},
    errors::{error_chain, in_words},
    revocation::LiveSet,
    standing::{AuthorityStanding, ServerStanding},
    tls::{Identity, IdentityError, connecting},
};

/// Timeout for the authority's answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout to connect, and for unacknowledged data.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stored successor, and when to renew it.
#[derive(Debug)]
pub struct Renewed {
    /// The stored identity.
    pub enrolled: Enrolled,
    /// When to renew it.
    pub window: Window,
}

/// Why a certificate was not renewed. The current one stays in use.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process is enrolling or renewing here.
    #[error("another enrollment or renewal is at work in {}; wait for its end", .0.display())]
    Underway(PathBuf),
    /// The current identity or the answer cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The authority's address is unknown.
    #[error(
        "{} does not exist, so it is not known which authority renews it; write its address there, as in \
         https://HOST:8440",
        .0.display()
    )]
    NoAuthority(PathBuf),
    /// The certificate's name cannot be put into a request.
    #[error("the certificate's name cannot be put into a request: {0}")]
    Name(#[from] NameError),
    /// The same.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// The authority could not be reached, or is not trusted.
    #[error("the authority at {url} cannot be reached: {cause}; is `ca-daemon serve` running there?")]
    Unreachable {
        /// Its address.
        url: Url,
        /// What happened.
        cause: String,
    },
    /// The authority denied it.
    #[error("the authority denied the renewal: {}", .0.detail)]
    Denied(Problem),
    /// The answer of the authority is not a certificate.
    #[error("the authority at {url} gave no usable answer: {cause}")]
    Answer {
        /// Its address.
        url: Url,
        /// What is wrong with it.
        cause: String,
    },
}

/// Renews the certificate in some files. Clones do the same.
#[derive(Clone, Debug)]
pub struct Renewer {
    files: IdentityFiles,
    standing: AuthorityStanding,
    clock: Clock,
}

impl Renewer {
    /// For a client, which refuses an authority that its own CRLs revoke.
    #[must_use]
    pub fn of_client(files: IdentityFiles, servers: &ServerStanding) -> Self {
        Self::new(files, servers.live_set().clone(), servers.clock().clone())
    }

    pub(crate) fn new(files: IdentityFiles, live: LiveSet, clock: Clock) -> Self {
        Self { files, standing: AuthorityStanding::new(live, clock.clone()), clock }
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &IdentityFiles {
        &self.files
    }

    /// Queries when this certificate is to be renewed.
    pub async fn window(&self, enrolled: &Enrolled) -> Result<Window, RenewError> {
        let answer: RenewalAnswer = self.holder(enrolled)?.ask(Method::GET, RENEWAL_PATH, Bytes::new()).await?;
        Ok(answer.renewal)
    }

    /// Renews the certificate. Makes a key, or takes the one of an attempt whose answer was lost. Requests the
    /// successor, and stores it, all files at once.
    pub async fn renew(&self) -> Result<Renewed, RenewError> {
        let files = &self.files;
        // Two at once would each get a successor, and one of them would be useless.
        let lock = files::lock_directory(files.directory())?;
        let _lock = lock.ok_or_else(|| RenewError::Underway(files.directory().to_owned()))?;
        let enrolled = files.load()?.ok_or_else(|| FileError::Missing(files.chain().to_owned()))?;
        let holder = self.holder(&enrolled)?;
        let key = files.key_to_renew(&enrolled.identity)?;
        let name = enrolled.identity.info().display_name();
        let proposal = Proposal { common_name: name.parse()?, organization: None, hosts: Vec::new() };
        let request = RenewRequest { csr: pem::csr(&proposal.sign(&key)?) };
        let body = serde_json::to_vec(&request).expect("a request is text");
        let answer: EnrollResponse = match holder.ask(Method::POST, RENEW_PATH, body.into()).await {
            Err(RenewError::Denied(problem)) => {
                // Nothing was issued for this key, unless an earlier answer was lost. That certificate is not needed.
                files.forget_next_key()?;
                return Err(RenewError::Denied(problem));
            }
            answer => answer?,
        };
        let (identity, window) = holder.successor(&answer, &key)?;
        let renewed = Enrolled { identity, root: enrolled.root.clone(), authority: enrolled.authority.clone() };
        files.succeed(&renewed, &key)?;
        Ok(Renewed { enrolled: renewed, window })
    }

    fn holder<'a>(&'a self, enrolled: &'a Enrolled) -> Result<Holder<'a>, RenewError> {
        let url = enrolled.authority.clone();
        let url = url.ok_or_else(|| RenewError::NoAuthority(self.files.authority().to_owned()))?;
        Ok(Holder { enrolled, url, clock: &self.clock, standing: self.standing.clone() })
    }
}

/// A certificate holder's client for its authority.
#[derive(Debug)]
struct Holder<'a> {
    enrolled: &'a Enrolled,
    url: Url,
    clock: &'a Clock,
    standing: AuthorityStanding,
}

impl Holder<'_> {
    /// One request to the authority itself, over its own connection.
    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, RenewError> {
        let asked = timeout(TIMEOUT, self.ask_in_time(method, path, body)).await;
        asked.unwrap_or_else(|_| Err(self.unreachable(format!("no answer within {} s", TIMEOUT.as_secs()))))
    }

    async fn ask_in_time<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, RenewError> {
        let root = Fingerprint::of(&self.enrolled.root);
        let judge = Arc::new(self.standing.clone());
        let tls = connecting::to_authority(connecting::one(&self.enrolled.identity)?, root, self.clock, judge)
            .map_err(IdentityError::from)?;
        let target = self.url.join(path).map_err(|error| self.unreachable(error.to_string()))?;
        let request = Request::builder().method(method).uri(target.as_str());
        let request = request.header(header::CONTENT_TYPE, "application/json").body(Full::new(body));
        let request = request.map_err(|error| self.unreachable(error.to_string()))?;
        let mut connector = contact::connector(tls, PATIENCE);
        connector.enforce_https();
        let broken = |error: &(dyn Error + 'static)| {
            self.unreachable(find::<rustls::Error>(error).map_or_else(|| error_chain(error), in_words))
        };
        let mut contact = Contact::open(&connector, request.uri()).await.map_err(|error| broken(&error))?;
        let response = contact.send(request).await.map_err(|error| broken(&error))?;
        match read_answer(response).await {
            Answer::Given(answer) => Ok(answer),
            Answer::Denied(problem) => Err(RenewError::Denied(problem)),
            Answer::Unusable(cause) => Err(self.unusable(cause)),
        }
    }

    /// Checks that the answer is the requested successor: for this key, with the same subject and names, below the
    /// trusted root.
    fn successor(&self, answer: &EnrollResponse, key: &KeyPair) -> Result<(Identity, Window), RenewError> {
        let chain = pem::read_chain(&answer.chain).map_err(|error| self.unusable(error.to_string()))?;
        let key = KeyPair::from_pem(key.to_pem())
            .map_err(|source| IdentityError::Key { path: "the new key".to_owned(), source })?;
        let identity = Identity::new(chain, key)?;
        identity.path_to(&self.enrolled.root)?;
        let (new, old) = (identity.info(), self.enrolled.identity.info());
        if (&new.subject, &new.names, new.profile) != (&old.subject, &old.names, old.profile) {
            return Err(self.unusable("the certificate in it is somebody else's".to_owned()));
        }
        let window = answer.renewal.unwrap_or_else(|| Window::of(new.validity));
        Ok((identity, window))
    }

    fn unreachable(&self, cause: String) -> RenewError {
        RenewError::Unreachable { url: self.url.clone(), cause }
    }

    fn unusable(&self, cause: String) -> RenewError {
        RenewError::Answer { url: self.url.clone(), cause }
    }
}
