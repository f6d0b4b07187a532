//! What a member of the fleet does with its authority: it enrolls and renews, and a relying party keeps the feed open and confirms on it.
//!
//! It never issues anything, and believes nothing that is not signed.

pub(crate) mod backoff;
pub(crate) mod enroll;
pub(crate) mod feed;
pub(crate) mod instance;
pub(crate) mod renew;
pub(crate) mod renewing;

pub use self::{enroll::*, renew::*};
