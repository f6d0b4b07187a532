//! Mutual TLS for the services of a fleet, with revocations that take effect while a service runs: a live set of
//! revocations, a verifier, an acceptor and a guard that check it, a replaceable identity, and enrollment.
//!
//! It never issues a certificate, and uses neither a CA key nor a database.
//!
//! # Modules
//!
//! Each uses only those below it:
//!
//! ```text
//! relying_party          all of this put together, for a service to embed
//! authority   serve      enrollment, the feed          | accepting, the guard, HTTP
//! standing    metrics    whether a server is revoked   | metrics
//! tls                    identity, verifiers, sessions
//! revocation             the live set and its keepers
//! connect     errors     HTTP to other hosts           | TLS errors in words
//! ```
//!
//! # A service with live revocation
//!
//! This is all of `examples/service.rs`. The tests run it as a program:
//!
//! ```no_run
#![doc = include_str!("../examples/service.rs")]
//! ```
//!
//! # With the CRLs of another CA
//!
//! None of this needs our authority. If the certificates have `http://` distribution points, only
//! [`feed`](relying_party::Options::feed) stays empty. If CRLs are published elsewhere, configure their locations:
//! files that another program writes, or URLs.
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
//! Requirements for such a CA:
//!
//! - There is a CRL in DER or PEM for every authority in the service's own chain, including the root. It has a
//!   nextUpdate and a CRL number of at most 63 bits (in an OpenSSL configuration: `crlnumber`). CRLs without a number,
//!   as easy-rsa 3.1 and cfssl write them, are ordered by their thisUpdate. If an authority begins to number them, its
//!   first number must be above the present time in seconds since 1970.
//! - Clients have certificates of the same authorities. If a client's chain contains another authority, the client is
//!   refused, because that authority's revocations are not known.
//! - CRLs are direct and complete, or deltas that a complete CRL names in `freshestCRL`. A CRL with an issuing
//!   distribution point is refused, because it may not cover the certificate in question.
//! - The certificates above the clients' have none of the following, because every client below would be refused: name
//!   constraints on URIs, mail addresses or directory names, policies in a critical extension, an extended key usage
//!   without `clientAuth` (`anyExtendedKeyUsage` does not replace it). A service logs this when it starts. The clients'
//!   own certificates also need `clientAuth` if they have an extended key usage.
//! - Keys are RSA (2048 bits or more), ECDSA on P-256, P-384 or P-521, or Ed25519, with SHA-256 or better.
//! - A CRL file may be replaced by renaming, or rewritten in place. It is checked once an
//!   [interval](relying_party::Options::crl_refresh). If a server sends an entity tag, requests to it are conditional.
//!   Otherwise it sends the whole CRL each time.

pub mod authority;
pub mod errors;
pub mod metrics;
pub mod relying_party;
pub mod revocation;
pub mod serve;
pub mod standing;
pub mod tls;

mod connect;
