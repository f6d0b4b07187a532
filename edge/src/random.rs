//! Randomness enters the program here: serial numbers, secrets and jitter. Other code receives them as arguments.
//!
//! It never stores what it draws.

/// `N` bytes from the operating system's generator (through aws-lc).
///
/// # Panics
/// If the operating system has no randomness. Nothing that this system does would be safe then.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::disallowed_methods, reason = "this is the edge at which randomness enters")]
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

/// Draws the first randomness of this process, which takes up to 100 ms because aws-lc gathers entropy. Call it before
/// any time limit starts.
pub fn warm_up() {
    let _: [u8; 1] = bytes();
}
