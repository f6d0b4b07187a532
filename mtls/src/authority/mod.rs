//! What a certificate holder exchanges with its authority: enrollment and renewal, and for a relying party the feed and
//! its confirmations.
//!
//! It never issues anything, and never trusts unsigned data.

pub(crate) mod backoff;
pub(crate) mod enroll;
pub(crate) mod feed;
pub(crate) mod instance;
pub(crate) mod renew;
pub(crate) mod renewing;

pub use self::{enroll::*, renew::*};
