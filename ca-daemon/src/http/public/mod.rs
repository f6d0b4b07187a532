//! The public routes: enrollment, CRLs, certificates of the authorities, health; and the routes for operators.
//!
//! They never authenticate the peer. What they serve is public, or authorised by a token.

pub(in crate::http) mod conditional;
pub(in crate::http) mod enroll;
pub(in crate::http) mod lists;
pub(in crate::http) mod openapi;
pub(in crate::http) mod operations;
pub(in crate::http) mod publication;
