//! What it means that relying parties did not report since the daemon's start.
//!
//! It never decides who is waited for.

/// What it means that these were not heard since the start.
pub(crate) fn not_heard(names: &[String]) -> String {
    const NAMED: usize = 10;
    let more = names.len().saturating_sub(NAMED);
    let missing = match (names, more) {
        ([], _) => "no relying party was ever on the feed".to_owned(),
        (names, 0) => format!("not heard since the start: {}", names.join(", ")),
        (names, more) => format!("not heard since the start: {} and {more} more", names[..NAMED].join(", ")),
    };
    format!(
        "{missing}; until then each CRL is followed by the next only near its end, because a relying party could tell that this \
         database is an older copy"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_who_is_missing() {
        let names = |count| (0..count).map(|index| format!("service{index}")).collect::<Vec<_>>();
        assert!(not_heard(&[]).starts_with("no relying party was ever on the feed; "));
        assert!(not_heard(&names(2)).starts_with("not heard since the start: service0, service1; "));
        assert!(not_heard(&names(12)).contains("service9 and 2 more; "));
    }
}
