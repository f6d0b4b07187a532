//! How bytes leave: tasks that run at once, writes that leave together, and the buffers behind them. It is here for speed only: a reader who
//! wants to know who is served can skip this room.
//!
//! It never decides who is served. What is held back here is dropped when the connection has to end.

pub(crate) mod at_once;
pub(crate) mod corked;
pub(crate) mod flights;
pub(crate) mod frames;
pub(crate) mod held;
