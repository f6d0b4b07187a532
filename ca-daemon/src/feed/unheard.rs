//! The message about relying parties that have not reported since the daemon started.
//!
//! It never decides which relying parties are waited for.

/// The message for these names.
pub(crate) fn not_heard(names: &[String]) -> String {
    const NAMED: usize = 10;
    let more = names.len().saturating_sub(NAMED);
    let missing = match (names, more) {
        ([], _) => "no relying party was ever on the feed".to_owned(),
        (names, 0) => format!("no report since the start from {}", names.join(", ")),
        (names, more) => format!("no report since the start from {} and {more} more", names[..NAMED].join(", ")),
    };
    format!(
        "{missing}; without a report, the next CRL is signed only near the end of the current one, because a relying \
         party could show that this database is an older copy"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_relying_parties_are_named() {
        let names = |count| (0..count).map(|index| format!("service{index}")).collect::<Vec<_>>();
        assert!(not_heard(&[]).starts_with("no relying party was ever on the feed; "));
        assert!(not_heard(&names(2)).starts_with("no report since the start from service0, service1; "));
        assert!(not_heard(&names(12)).contains("service9 and 2 more; "));
    }
}
