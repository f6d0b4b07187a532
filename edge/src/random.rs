//! Where randomness enters: serials, secrets and jitter are drawn here and handed down as arguments.

/// `N` octets from the operating system's generator (through aws-lc).
///
/// # Panics
/// If the operating system has no randomness to give; nothing that this system does is safe then.
#[must_use]
pub fn octets<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    #[expect(clippy::disallowed_methods, reason = "this is the edge at which randomness enters")]
    aws_lc_rs::rand::fill(&mut octets).expect("the operating system gives random octets");
    octets
}

/// Draws the first randomness of this process, which takes up to 100 ms: aws-lc gathers entropy of its own. To be called before anybody's
/// time counts.
pub fn warm_up() {
    let _: [u8; 1] = octets();
}
