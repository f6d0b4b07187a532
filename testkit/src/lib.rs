//! What tests of several crates, and fuzz targets, share: throw-away authorities, signed structures of any content, and
//! the bytes of HTTP/2 and TLS that an attacker puts together by hand.
//!
//! It never opens a connection, and no program depends on it: `scripts/check-dependencies.sh` asserts that.

pub mod authority;
pub mod http2;
pub mod signed;
pub mod tls;
