//! Stores the TLS alert that ended a connection, and counts handshakes.
//!
//! It never interprets the alert. In TLS 1.3 a server verifies the client's certificate after the client has completed
//! the handshake (RFC 8446 section 4.4), so the refusal arrives as an error of the first read. The HTTP layers turn
//! that error into text; this layer below them keeps the alert itself.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use edge::errors::find;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use mtls::standing::{WatchedConnector, WatchedStream};
use rustls::{AlertDescription, HandshakeKind};
use tokio::net::TcpStream;
use tower::Service;

/// The last alert of a server, and the number of handshakes. Clones share both.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastAlert(Arc<Noticed>);

#[derive(Debug, Default)]
struct Noticed {
    alert: Mutex<Option<AlertDescription>>,
    full: AtomicU64,
    resumed: AtomicU64,
}

impl LastAlert {
    /// Takes the alert, so that it is reported once.
    pub(crate) fn take(&self) -> Option<AlertDescription> {
        self.0.alert.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The number of handshakes: full ones, and resumed ones.
    pub(crate) fn handshakes(&self) -> (u64, u64) {
        (self.0.full.load(Ordering::Relaxed), self.0.resumed.load(Ordering::Relaxed))
    }

    fn note(&self, error: &io::Error) {
        if let Some(rustls::Error::AlertReceived(alert)) = find(error) {
            *self.0.alert.lock().unwrap_or_else(PoisonError::into_inner) = Some(*alert);
        }
    }

    fn count<T>(&self, stream: &WatchedStream<MaybeHttpsStream<T>>) {
        let MaybeHttpsStream::Https(tls) = stream.get_ref() else { return };
        let count = match tls.inner().get_ref().1.handshake_kind() {
            Some(HandshakeKind::Resumed) => &self.0.resumed,
            _ => &self.0.full,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The name of an alert in RFC 8446 section 6, such as `certificate_revoked`.
pub(crate) fn name(alert: AlertDescription) -> String {
    let camel = format!("{alert:?}");
    let mut name = String::with_capacity(camel.len() + 4);
    let mut previous_is_lower = false;
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && previous_is_lower {
            name.push('_');
        }
        previous_is_lower = letter.is_ascii_lowercase();
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// A connector whose connections store the alert that ends them.
#[derive(Clone, Debug)]
pub(crate) struct Noting {
    pub(crate) connector: WatchedConnector<HttpsConnector<HttpConnector>>,
    pub(crate) last: LastAlert,
}

impl Service<http::Uri> for Noting {
    type Response = Noted<WatchedStream<MaybeHttpsStream<TokioIo<TcpStream>>>>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let connecting = self.connector.call(uri);
        let last = self.last.clone();
        Box::pin(async move {
            let stream = connecting.await?;
            last.count(&stream);
            Ok(Noted { stream, last })
        })
    }
}

/// A connection that stores the alert that ends it.
#[derive(Debug)]
pub(crate) struct Noted<T> {
    stream: T,
    last: LastAlert,
}

impl<T: Read + Unpin> Read for Noted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &result {
            self.last.note(error);
        }
        result
    }
}

impl<T: Write + Unpin> Write for Noted<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
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
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

impl<T: Connection> Connection for Noted<T> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_standard() {
        assert_eq!(name(AlertDescription::CertificateRevoked), "certificate_revoked");
        assert_eq!(name(AlertDescription::UnknownCA), "unknown_ca");
        assert_eq!(name(AlertDescription::CertificateRequired), "certificate_required");
        assert_eq!(name(AlertDescription::AccessDenied), "access_denied");
    }
}
