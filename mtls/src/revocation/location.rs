//! Where CRLs lie: at a URL (RFC 5280 section 4.2.1.13), asked with conditional requests (RFC 9110 section 13) so that an
//! unchanged list costs a few hundred octets, or in a file that somebody else writes.
//!
//! Neither is trusted: nothing is believed for where it lies, as a CRL is signed.

use std::{fmt, fs, io, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Body as _, Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use pki::pem;
use tokio::{task::spawn_blocking, time::timeout};

use crate::{errors::error_chain, names::Names, tcp};

/// The largest CRL that is taken: several million entries.
const MAX_CRL: usize = 256 * 1024 * 1024;
/// How long it may take to connect, and for how long nothing may be acknowledged: a poll that hangs on a way that is cut would
/// delay the next one, which may find it open.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one request may take, its body included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where a CRL lies, in DER or PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// An `http://` URL.
    Url(Uri),
    /// A file that whoever makes the CRL replaces, or writes anew in its place.
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

/// A CRL could not be fetched; it is asked for again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FetchError(String);

/// What asking brought.
#[derive(Debug)]
pub(crate) enum Fetched {
    News(Vec<u8>),
    Unchanged,
}

/// Asks one location, and remembers what it answered last.
#[derive(Debug)]
pub(crate) struct Fetcher {
    location: Location,
    client: Client<HttpConnector<Names>, Empty<Bytes>>,
    names: Names,
    seen: Option<Version>,
}

#[derive(Debug, PartialEq, Eq)]
enum Version {
    EntityTag(HeaderValue),
    /// A file's inode, when it was changed (seconds, nanoseconds) and its length. The time of the last modification would not
    /// do: a copy may keep that of the original.
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
    pub(crate) fn new(location: Location) -> Self {
        Self::knowing(Names::default(), location)
    }

    /// Asks another location, mostly of the same host, and knows the names that this one knows.
    pub(crate) fn beside(&self, location: Location) -> Self {
        Self::knowing(self.names.clone(), location)
    }

    fn knowing(names: Names, location: Location) -> Self {
        let client = Client::builder(TokioExecutor::new()).build(tcp::connector(names.clone(), PATIENCE));
        Self { location, client, names, seen: None }
    }

    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// Asks; a location that answers the same as before says so. News are DER, or what the live set will refuse.
    pub(crate) async fn fetch(&mut self) -> Result<Fetched, FetchError> {
        let fetched = match self.location.clone() {
            Location::Url(uri) => timeout(TIMEOUT, self.request(uri))
                .await
                .unwrap_or_else(|_| Err(FetchError(format!("no answer within {} s", TIMEOUT.as_secs())))),
            Location::File(path) => self.read(path).await.map_err(|error| FetchError(error.to_string())),
        };
        match fetched? {
            Fetched::News(text) if pem::is_crl(&text) => {
                let der = spawn_blocking(move || pem::read_crl(&text)).await.expect("reading PEM does not panic");
                // Somebody may be writing it at this moment.
                der.map(Fetched::News).map_err(|error| {
                    self.forget();
                    FetchError(error.to_string())
                })
            }
            fetched => Ok(fetched),
        }
    }

    /// What was fetched last could not be used. It is to be brought again even if it does not change: it may be good later,
    /// such as a list from the future on a machine whose clock is yet to be set.
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }

    async fn request(&mut self, uri: Uri) -> Result<Fetched, FetchError> {
        let fail = |error: &dyn std::error::Error| FetchError(error_chain(error));
        let mut request = Request::get(uri);
        if let Some(Version::EntityTag(tag)) = &self.seen {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let request = request.body(Empty::new()).map_err(|error| fail(&error))?;
        let response = self.client.request(request).await.map_err(|error| fail(&error))?;
        match response.status() {
            StatusCode::NOT_MODIFIED => Ok(Fetched::Unchanged),
            StatusCode::OK => {
                let entity_tag = response.headers().get(header::ETAG).cloned();
                let mut body = Limited::new(response.into_body(), MAX_CRL);
                // Into one piece as it comes: a long list in pieces would be there twice before it is whole.
                let mut der = Vec::new();
                // Whoever answers may claim any length, and there may be no room for it.
                der.try_reserve_exact(usize::try_from(body.size_hint().lower()).unwrap_or(0))
                    .map_err(|error| fail(&error))?;
                while let Some(frame) = body.frame().await {
                    if let Ok(octets) = frame.map_err(|error| fail(error.as_ref()))?.into_data() {
                        der.extend_from_slice(&octets);
                    }
                }
                // Only now: a body that broke off must be asked for again.
                self.seen = entity_tag.map(Version::EntityTag);
                Ok(Fetched::News(der))
            }
            status => Err(FetchError(format!("the server answered {status}"))),
        }
    }

    async fn read(&mut self, path: PathBuf) -> io::Result<Fetched> {
        let seen = self.seen.take();
        let read = spawn_blocking(move || {
            // Before the contents: what is written in between is seen the next time.
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
