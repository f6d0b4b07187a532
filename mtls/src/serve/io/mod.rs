//! How bytes leave: requests that are answered without a task of their own, and writes that leave together. It is here for speed only: a
//! reader who wants to know who is served can skip this room. [`IS_ON`] turns it off, for comparing.
//!
//! It never decides who is served. What is held back here is dropped when the connection has to end. One thing is more than speed:
//! [`flights`] counts the bytes that a handshake has received.

/// Off, each request is a task, and what HTTP or TLS flushes leaves at once. Tests of this room need it on.
pub(crate) const IS_ON: bool = true;

pub(crate) mod at_once;
pub(crate) mod corked;
pub(crate) mod flights;
pub(crate) mod frames;
pub(crate) mod held;
