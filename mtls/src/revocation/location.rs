//! Fetches CRLs from where they are published. A CRL is at a URL (RFC 5280 section 4.2.1.13), or in a file that another
//! program writes. A URL is queried with conditional requests (RFC 9110 section 13), so an unchanged CRL costs a few
//! hundred bytes. While the feed is open, the authority itself is queried first, over the feed's connection, because an
//! attacker between here and the URL could replay an old CRL.
//!
//! It never trusts a CRL because of its source: a CRL is signed.

use std::{fmt, fs, io, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use pki::{pem, wire::Listing};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tracing::{info, warn};

use super::bound;
use super::link::{AuthorityClient, Link};
use crate::{
    connect::tcp::{self, Lookup},
    errors::error_chain,
};

/// Timeout to connect, and for unacknowledged data. If the network is cut, a poll that hangs would delay the next one,
/// which may get through.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the authority may take to begin its answer before the URL is queried instead.
const AUTHORITY_PATIENCE: Duration = Duration::from_secs(2);
/// Timeout for one request, including its body.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where a CRL is published, in DER or PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// An `http://` URL.
    Url(Uri),
    /// A file that another program replaces or rewrites.
    File(PathBuf),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(uri) => uri.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Where a CRL is fetched from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) location: Location,
    /// The feed's link to the authority, if there is one.
    pub(crate) link: Option<Link>,
}

/// A CRL could not be fetched. The fetch is repeated later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FetchError(String);

/// The result of a fetch.
#[derive(Debug)]
pub(crate) enum Fetched {
    News(Vec<u8>),
    Unchanged,
}

/// Fetches from one source, and remembers the version that it returned last.
#[derive(Debug)]
pub(crate) struct Fetcher {
    origin: Origin,
    client: Client<HttpConnector<Lookup>, Empty<Bytes>>,
    names: Lookup,
    seen: Option<Version>,
    /// The entity tag that the authority itself sent last. A tag from the URL must not be used here: the authority
    /// would answer "not modified" for a CRL that was never fetched from it.
    seen_at_authority: Option<HeaderValue>,
    /// Whether the authority did not answer the last request although the feed is open.
    authority_fails: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Version {
    EntityTag(HeaderValue),
    /// A file's inode, its change time (seconds, nanoseconds) and its length. The modification time is not enough,
    /// because a copy may keep the original's.
    File {
        inode: u64,
        changed: (i64, i64),
        length: u64,
    },
}

impl Version {
    fn of(metadata: &fs::Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self::File { inode: metadata.ino(), changed, length: metadata.len() }
    }
}

impl Fetcher {
    pub(crate) fn new(origin: Origin) -> Self {
        Self::knowing(Lookup::default(), origin)
    }

    /// Fetches from another location, usually of the same host. The resolved names are shared.
    pub(crate) fn beside(&self, location: Location) -> Self {
        Self::knowing(self.names.clone(), Origin { location, link: self.origin.link.clone() })
    }

    /// Fetches from the same source, and has seen no version yet.
    pub(crate) fn afresh(&self) -> Self {
        Self::knowing(self.names.clone(), self.origin.clone())
    }

    fn knowing(names: Lookup, origin: Origin) -> Self {
        let client = Client::builder(TokioExecutor::new()).build(tcp::connector(names.clone(), PATIENCE));
        Self { origin, client, names, seen: None, seen_at_authority: None, authority_fails: false }
    }

    pub(crate) fn location(&self) -> &Location {
        &self.origin.location
    }

    /// Fetches from the authority, if the feed is open and has announced the CRL, and otherwise, or if that fails, from
    /// the location. Returns [`Fetched::Unchanged`] if the source has the same version as before. New data has at most
    /// `most` bytes. It is DER, or something that the live set will refuse.
    pub(crate) async fn fetch(&mut self, announced: Option<&Listing>, most: u64) -> Result<Fetched, FetchError> {
        let fetched = match self.fetch_from_authority(announced, most).await {
            Some(fetched) => Ok(fetched),
            None => self.fetch_from_location(most).await,
        };
        match fetched? {
            Fetched::News(list) if pem::is_crl(&list) => {
                let der = spawn_blocking(move || der_of(list)).await.expect("reading PEM does not panic");
                // Another program may be writing the file at this moment.
                der.map(Fetched::News).inspect_err(|_| self.forget())
            }
            fetched => Ok(fetched),
        }
    }

    /// Forgets the last version, because it could not be used. It must be fetched again even if it does not change. It
    /// may become usable later, such as a CRL from the future on a machine whose clock is not set yet.
    pub(crate) fn forget(&mut self) {
        self.seen = None;
        self.seen_at_authority = None;
    }

    /// Returns `None` if the authority cannot be queried or does not answer.
    async fn fetch_from_authority(&mut self, announced: Option<&Listing>, most: u64) -> Option<Fetched> {
        let link = self.origin.link.clone()?;
        let client = link.client()?;
        let uri = link.uri(&announced?.path)?;
        let fetched = timeout(TIMEOUT, self.ask_authority(&client, uri, most)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(out_of_time(TIMEOUT)));
        match fetched {
            Ok(fetched) => {
                if std::mem::take(&mut self.authority_fails) {
                    info!(source = %self.origin.location, "the authority sends the CRL over HTTPS again");
                }
                Some(fetched)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.authority_fails, true) {
                    let source = &self.origin.location;
                    warn!(%error, %source, "the authority does not send the CRL over HTTPS, so it is fetched in plain \
                         HTTP");
                }
                None
            }
        }
    }

    async fn ask_authority(&mut self, client: &AuthorityClient, uri: Uri, most: u64) -> Result<Fetched, FetchError> {
        let request = conditional(uri, self.seen_at_authority.as_ref(), Full::default())?;
        let response = timeout(AUTHORITY_PATIENCE, client.request(request)).await;
        let response = response.map_err(|_| out_of_time(AUTHORITY_PATIENCE))?.map_err(|error| failed(&error))?;
        let (tag, fetched) = read_answer(response, most, &bound::FROM_AUTHORITY).await?;
        if let Fetched::News(_) = fetched {
            self.seen_at_authority.clone_from(&tag);
            // The URL serves the same list under the same tag.
            self.seen = tag.map(Version::EntityTag);
        }
        Ok(fetched)
    }

    async fn fetch_from_location(&mut self, most: u64) -> Result<Fetched, FetchError> {
        match self.origin.location.clone() {
            Location::Url(uri) => {
                timeout(TIMEOUT, self.ask_location(uri, most)).await.unwrap_or_else(|_| Err(out_of_time(TIMEOUT)))
            }
            Location::File(path) => self.read(path).await.map_err(|error| FetchError(error.to_string())),
        }
    }

    async fn ask_location(&mut self, uri: Uri, most: u64) -> Result<Fetched, FetchError> {
        let tag = match &self.seen {
            Some(Version::EntityTag(tag)) => Some(tag),
            _ => None,
        };
        let request = conditional(uri, tag, Empty::new())?;
        let response = self.client.request(request).await.map_err(|error| failed(&error))?;
        // It may be in PEM, which takes four bytes for three, plus line breaks.
        let most = most.saturating_add(most / 2);
        let (tag, fetched) = read_answer(response, most, &bound::FROM_ELSEWHERE).await?;
        if let Fetched::News(_) = fetched {
            self.seen = tag.map(Version::EntityTag);
        }
        Ok(fetched)
    }

    async fn read(&mut self, path: PathBuf) -> io::Result<Fetched> {
        let seen = self.seen.take();
        let read = spawn_blocking(move || {
            // Before the contents, so that a write in between is noticed by the next fetch.
            let version = Version::of(&fs::metadata(&path)?);
            if seen.as_ref() == Some(&version) {
                return Ok((version, Fetched::Unchanged));
            }
            Ok((version, Fetched::News(fs::read(&path)?)))
        });
        let (version, fetched) =
            read.await.expect("reading a file does not panic").map_err(|error: io::Error| error)?;
        self.seen = Some(version);
        Ok(fetched)
    }
}

/// A request for a CRL, unless it still has this entity tag.
pub(crate) fn conditional<B>(uri: Uri, tag: Option<&HeaderValue>, body: B) -> Result<Request<B>, FetchError> {
    let mut request = Request::get(uri);
    if let Some(tag) = tag {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    request.body(body).map_err(|error| failed(&error))
}

/// Reads the answer to a request for a CRL, in the form in which it was sent. The body has at most `most` bytes. A long
/// one waits for its turn. Returns the entity tag only with a complete body, because a body that broke off must be
/// fetched again.
pub(crate) async fn read_answer(
    response: Response<Incoming>,
    most: u64,
    turns: &Semaphore,
) -> Result<(Option<HeaderValue>, Fetched), FetchError> {
    match response.status() {
        StatusCode::NOT_MODIFIED => Ok((None, Fetched::Unchanged)),
        StatusCode::OK => {
            let entity_tag = response.headers().get(header::ETAG).cloned();
            let mut body = response.into_body();
            let too_long = || FetchError(format!("it is longer than the limit of {most} bytes"));
            let claimed = body.size_hint();
            if claimed.lower() > most {
                return Err(too_long());
            }
            let is_short = claimed.upper().is_some_and(|length| length <= bound::SHORT);
            let _turn = if is_short { None } else { turns.acquire().await.ok() };
            // In one buffer as it arrives: joining pieces would need twice the memory of a long CRL.
            let mut der = Vec::new();
            // There may not be enough memory for it.
            der.try_reserve_exact(usize::try_from(claimed.lower()).unwrap_or(0)).map_err(|error| failed(&error))?;
            while let Some(frame) = body.frame().await {
                if let Ok(bytes) = frame.map_err(|error| failed(&error))?.into_data() {
                    if (der.len() + bytes.len()) as u64 > most {
                        return Err(too_long());
                    }
                    der.extend_from_slice(&bytes);
                }
            }
            Ok((entity_tag, Fetched::News(der)))
        }
        status => Err(FetchError(format!("the server answered {status}"))),
    }
}

/// Converts a CRL to DER, if it is in PEM.
pub(crate) fn der_of(list: Vec<u8>) -> Result<Vec<u8>, FetchError> {
    if !pem::is_crl(&list) {
        return Ok(list);
    }
    pem::read_crl(&list).map_err(|error| failed(&error))
}

fn failed(error: &(dyn std::error::Error + 'static)) -> FetchError {
    FetchError(error_chain(error))
}

fn out_of_time(patience: Duration) -> FetchError {
    FetchError(format!("no answer within {} s", patience.as_secs()))
}
