//! Where a process meets the operating system: time, randomness, files, logs, signals, memory and file limits, TCP
//! listeners, name resolution and the service manager. Every program of this system and the relying-party library use
//! it.
//!
//! It never uses TLS or HTTP, and has no code for certificates or revocation. The readiness probe is the one exception:
//! it writes one HTTP/1.0 request by hand.

pub mod clock;
pub mod errors;
pub mod file_set;
pub mod files;
pub mod listen;
pub mod log;
pub mod memory;
pub mod net;
pub mod notify;
pub mod probe;
pub mod random;
pub mod signals;
