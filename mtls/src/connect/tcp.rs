//! TCP connections of HTTP clients that fail soon after the network path is cut. The operating system would retransmit
//! for minutes, and the caller would not notice that the path works again.
//!
//! It never fails because a peer is slow to answer: only the acknowledgements of its operating system count.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use edge::net::resolver::Resolver;
use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use tower::Service;

/// The resolver, as a service for hyper's connector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookup(Resolver);

impl Service<Name> for Lookup {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.0.clone();
        Box::pin(async move { Ok(resolver.resolve(name.as_str().to_owned()).await?.into_iter()) })
    }
}

/// Connects within `patience`. An open connection fails when nothing was acknowledged for that long, idle or not.
pub(crate) fn connector(lookup: Lookup, patience: Duration) -> HttpConnector<Lookup> {
    let mut tcp = HttpConnector::new_with_resolver(lookup);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(patience));
    tcp.set_keepalive(Some(patience));
    tcp.set_keepalive_interval(Some(patience));
    tcp.set_tcp_user_timeout(Some(patience));
    tcp
}
