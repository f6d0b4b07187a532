//! What everybody may ask: enrollment, CRLs and certificates of the authorities, health; and what operators may ask.
//!
//! It never asks who the peer is: a token or a signature says all there is to know.

pub(in crate::http) mod conditional;
pub(in crate::http) mod enroll;
pub(in crate::http) mod lists;
pub(in crate::http) mod openapi;
pub(in crate::http) mod operations;
pub(in crate::http) mod publication;
