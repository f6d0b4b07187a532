//! How bytes are sent: requests that are answered without a task of their own, and writes that are sent together. This
//! module exists only for speed, so it can be skipped by a reader who wants to know who is served. [`IS_ON`] turns it
//! off, for comparison. One part is more than speed: [`flights`] counts the bytes that a handshake has received.
//!
//! It never decides who is served. Data that is held back here is dropped when the connection has to end.

/// If off, each request is a task, and each flush of HTTP or TLS is sent at once. The tests of this module need it on.
pub(crate) const IS_ON: bool = true;

pub(crate) mod at_once;
pub(crate) mod corked;
pub(crate) mod flights;
pub(crate) mod frames;
pub(crate) mod held;
