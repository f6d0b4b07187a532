//! Serves HTTP over connections that strangers can open: accept loops, handshake, limits for each connection, and the
//! guard. The guard checks before each request and each piece of an answer whether the client may still be served.
//!
//! It never decides who is revoked: [`revocation`](crate::revocation) does.

pub(crate) mod accept;
pub(crate) mod accepting;
pub(crate) mod farewell;
pub(crate) mod guard;
pub(crate) mod handshake;
pub(crate) mod hosting;
pub(crate) mod io;
pub mod limits;
pub(crate) mod peer;
pub(crate) mod places;
pub mod proxy;
pub(crate) mod requests;
pub(crate) mod service;
pub(crate) mod stalls;
pub(crate) mod unfinished;

pub use self::{
    handshake::{PeerCertificate, Tls},
    hosting::{HostedBody, Known, Requests, host},
    peer::Peer,
};
