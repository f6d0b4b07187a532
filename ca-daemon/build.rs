//! Rebuilds the crate when a migration is added: cargo does not notice the directory that `sqlx::migrate!` embeds.
//!
//! It never generates code.

fn main() {
    println!("cargo:rerun-if-changed=../migrations/sqlite");
}
