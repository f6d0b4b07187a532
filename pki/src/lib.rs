//! The rules of the certificate authority as pure functions: the form of names, requests, certificates, CRLs and
//! tokens, and how each is made and verified.
//!
//! It never reads the clock, opens a file or a socket, or draws serial numbers or secrets: the time and random bytes
//! are arguments. The exceptions are key generation and the nonces of ECDSA signatures. Both stay inside aws-lc, which
//! has no safe way to pass randomness in.

pub mod certificate;
pub mod crl;
pub mod csr;
pub mod excerpt;
pub mod instance;
pub mod issuing;
pub mod key;
pub mod name;
pub mod pem;
pub mod policy;
pub mod profile;
pub mod publication;
pub mod renewal;
pub mod serial;
pub mod time;
pub mod token;
pub mod wire;

mod der;
mod digest;
mod signature;
