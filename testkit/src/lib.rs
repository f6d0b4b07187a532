//! Shared code of tests and fuzz targets: temporary authorities, signed structures with any content, and the bytes of
//! HTTP/2 and TLS for test attackers.
//!
//! It never opens a connection, and no program depends on it: `scripts/check-dependencies.sh` asserts that.

pub mod authority;
pub mod http2;
pub mod signed;
pub mod tls;
