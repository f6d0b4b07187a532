//! The authority's directory: which files there are, and how an authority is founded in it.
//!
//! It never opens the database of an authority that exists.

pub(crate) mod directory;
pub(crate) mod founding;
