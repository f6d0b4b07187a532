//! TCP connections to an authority, given up soon after the way there is cut: the operating system would go on for minutes, and
//! whoever waits for it would not notice that the way is open again.
//!
//! It never gives up a peer that is slow to answer: what counts is that its operating system acknowledges.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;

use crate::names::Names;

/// Connects within `patience`, and breaks a connection on which nothing was acknowledged for so long, idle or not.
pub(crate) fn connector(names: Names, patience: Duration) -> HttpConnector<Names> {
    let mut tcp = HttpConnector::new_with_resolver(names);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(patience));
    tcp.set_keepalive(Some(patience));
    tcp.set_keepalive_interval(Some(patience));
    tcp.set_tcp_user_timeout(Some(patience));
    tcp
}
