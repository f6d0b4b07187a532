//! The rules of the certificate authority as pure functions: what a name, a request, a certificate,
//! a revocation list and a token may be, and how each is made and judged.
//!
//! It never reads the clock, draws serials or secrets, opens a file or a socket: the time and the
//! random octets are arguments. (Key generation and ECDSA's per-signature nonce are the one exception:
//! they stay inside of aws-lc, which offers no safe way to hand them in.)

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
pub mod serial;
pub mod time;
pub mod token;
pub mod wire;

mod der;
mod digest;
mod signature;
