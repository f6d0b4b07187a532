//! A fleet of real processes for tests: an authority, services, a balancer, clients.
//!
//! Everything that it starts it also stops, by process id, when it goes out of scope. It never uses the programs'
//! internals, only their commands and sockets.

mod fleet;
mod memory;
mod network;
mod process;
mod replay;

pub use self::{
    fleet::{Client, Fleet, Service, enforcing},
    memory::{CONTAINER_MEMORY, MemoryLimit},
    network::{Network, run_in},
    process::{Output, PATIENCE, Process, binary, example, run, wait_until},
    replay::Replay,
};
