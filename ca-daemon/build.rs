//! Has the crate rebuilt when a migration is added: `sqlx::migrate!` embeds the directory, which cargo does not see.
//!
//! It never generates code.

fn main() {
    println!("cargo:rerun-if-changed=../migrations/sqlite");
}
