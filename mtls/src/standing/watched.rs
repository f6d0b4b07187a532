//! A connector whose connections end when their server is revoked or its certificate expires. It also checks a server
//! after each handshake: a resumed session skips the verifier, and the CRLs may have changed during a full handshake.
//!
//! It never connects by itself.

use std::{
    error::Error,
    fmt,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use pki::certificate::VerifiedId;
use rustls::CertificateError;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{ServerRefusal, ServerStanding};
use crate::revocation::{EndReason, Refusal, Registration};

/// A connector that checks servers. [`ServerStanding::connector`] makes it.
#[derive(Clone, Debug)]
pub struct WatchedConnector<C> {
    connector: C,
    standing: ServerStanding,
}

impl<C> WatchedConnector<C> {
    pub(super) fn new(connector: C, standing: ServerStanding) -> Self {
        Self { connector, standing }
    }
}

impl<C, T> Service<Uri> for WatchedConnector<C>
where
    C: Service<Uri, Response = MaybeHttpsStream<T>, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send + 'static>,
    T: Send + 'static,
{
    type Response = WatchedStream<MaybeHttpsStream<T>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.connector.call(uri);
        let standing = self.standing.clone();
        Box::pin(async move {
            let stream = connecting.await.map_err(Into::into)?;
            let chain = match &stream {
                MaybeHttpsStream::Https(tls) => tls.inner().get_ref().1.peer_certificates().unwrap_or_default(),
                // There is no certificate to check.
                MaybeHttpsStream::Http(_) => return Err("a server without TLS has no certificate to check".into()),
            };
            let watch = standing.watch(chain)?;
            Ok(WatchedStream { stream, watch })
        })
    }
}

/// A connection that is registered with the standing.
pub(super) struct Watch {
    standing: ServerStanding,
    chain: Arc<[VerifiedId]>,
    /// Held for as long as the connection is open.
    registration: Registration,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    has_ended: bool,
}

impl Watch {
    pub(super) fn new(
        standing: ServerStanding,
        chain: Arc<[VerifiedId]>,
        registration: Registration,
        lapse: CancellationToken,
    ) -> Self {
        let revoked = registration.end();
        let end = Box::pin(async move {
            tokio::select! {
                () = revoked.begun() => {}
                () = lapse.cancelled() => {}
            }
        });
        Self { standing, chain, registration, end, has_ended: false }
    }

    /// Returns an error once the connection has to end.
    fn poll(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.has_ended = self.has_ended || self.end.as_mut().poll(context).is_ready();
        if !self.has_ended {
            return Ok(());
        }
        if let Err(refusal) = self.standing.check(&self.chain) {
            return Err(io::Error::other(refusal));
        }
        Err(match self.registration.end().reason() {
            Some(EndReason::Expired) => io::Error::other(rustls::Error::from(CertificateError::Expired)),
            // A newer CRL may have arrived since the CRLs lapsed. The connection ends anyway.
            _ => io::Error::other(ServerRefusal::Unknown(Refusal::NoCrl(self.chain[0].issuer.clone()))),
        })
    }
}

/// A connection that ends when its server is revoked: reads and writes fail with a [`ServerRefusal`].
pub struct WatchedStream<S> {
    stream: S,
    watch: Watch,
}

impl<S> WatchedStream<S> {
    /// The underlying stream.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S> fmt::Debug for WatchedStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchedStream")
    }
}

impl<S: Read + Unpin> Read for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.watch.poll(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.watch.poll(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch.poll(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

impl<S: Connection> Connection for WatchedStream<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}
