//! What a service of a fleet needs to speak mutual TLS so that a revocation takes effect while it runs:
//! a live set of what is revoked, a verifier, an acceptor and a guard that ask it, an identity that can be replaced,
//! and enrollment.
//!
//! It never issues anything, holds no CA key and knows no database.
//!
//! # Rooms
//!
//! Each uses only those below it:
//!
//! ```text
//! relying_party          a service that authenticates its clients, put together
//! authority   serve      enrollment, the feed          | accepting, the guard, HTTP
//! standing    metrics    a client's judgement of servers | what is counted
//! tls                    identity, verifiers, sessions
//! revocation             the live set and its keepers
//! connect     errors     HTTP connections to other hosts | TLS errors in words
//! ```
//!
//! # A service with live revocation
//!
//! The whole of `examples/service.rs`, which the tests run as the program that it is:
//!
//! ```no_run
#![doc = include_str!("../examples/service.rs")]
//! ```
//!
//! # With the CRLs of another CA
//!
//! Nothing of this needs our authority. Where the certificates name `http://` distribution points, only [`feed`](relying_party::Options::feed)
//! stays empty. Where CRLs lie elsewhere, say where: in files that some other program writes, or at URLs.
//!
//! ```no_run
//! use std::path::{Path, PathBuf};
//!
//! use edge::files;
//! use mtls::{
//!     relying_party::{CrlLocations, Options, RelyingParty},
//!     revocation::Location,
//!     tls::Identity,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let identity = Identity::load(Path::new("server.crt"), Path::new("server.key"))?;
//! let root = pki::pem::read_certificate(&files::read(Path::new("root.crt"))?)?;
//! let issuing = Location::File(PathBuf::from("/etc/pki/issuing.crl"));
//! let above = Location::Url("http://crl.example/root.crl".parse()?);
//! let crls = CrlLocations::Given(vec![issuing, above]);
//! let options = Options { crls, ..Options::new(PathBuf::from("/var/lib/service")) };
//! let (relying_party, upkeep) = RelyingParty::new(&identity, &root, options)?;
//! let _tasks = upkeep.start();
//! # Ok(())
//! # }
//! ```
//!
//! What is expected of such a CA:
//!
//! - A CRL in DER or PEM for every authority in the service's own chain, the root's included, with a nextUpdate and a CRL number of at
//!   most 63 bits (in an OpenSSL configuration: `crlnumber`). CRLs without a number, as easy-rsa 3.1 and cfssl write them, are in the order
//!   of their thisUpdate; an authority that begins to number them has to begin above the present time in seconds since 1970. Clients come from the same authorities: one whose chain leads through another
//!   one is refused, as nothing is known of that one's revocations.
//! - CRLs that are direct and complete, or deltas that a complete one names in `freshestCRL`. A CRL with an issuing distribution point is
//!   refused: it may say nothing of the certificate in question.
//! - None of these in a certificate above the clients', as no client beneath it would be let in: name constraints on URIs, mail addresses
//!   or directory names, policies in a critical extension, an extended key usage without `clientAuth` (`anyExtendedKeyUsage` does not
//!   stand for it). A service says so in its log when it starts. The clients' own certificates, too, need `clientAuth` where they have an
//!   extended key usage.
//! - Keys of RSA (2048 bits or more), ECDSA on P-256, P-384 or P-521, or Ed25519, with SHA-256 or better.
//! - A CRL file may be replaced by renaming or written in place; it is looked at once an [interval](relying_party::Options::crl_refresh). A server that sends an
//!   entity tag is asked with a conditional request; one that does not sends the whole CRL each time.

pub mod authority;
pub mod errors;
pub mod metrics;
pub mod relying_party;
pub mod revocation;
pub mod serve;
pub mod standing;
pub mod tls;

mod connect;
