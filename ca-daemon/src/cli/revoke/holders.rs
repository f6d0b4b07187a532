//! Who holds a valid server certificate of which nothing is known: no instance with it is on the feed, or expected there. Such a service
//! may judge clients, and nobody waits for it.
//!
//! It never decides whether that matters.

use pki::{certificate::CertificateInfo, serial::Serial, time::Timestamp};
use serde::Serialize;

use crate::{cli::ui::output::NAMED, store::Store};

/// Those holders.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(in crate::cli) struct Holders(Vec<Holder>);

#[derive(Debug, Serialize)]
struct Holder {
    name: String,
    serial: Serial,
}

impl Holders {
    /// Those whom the database knows now; the authority itself is none.
    pub(in crate::cli) async fn find(store: &Store, now: Timestamp) -> anyhow::Result<Self> {
        let mut holders = Vec::new();
        for holder in store.unknown_holders(now).await? {
            let info = holder.unclaimed_der.map(|der| CertificateInfo::from_der(&der)).transpose()?;
            if !info.is_some_and(|info| info.is_of_authority()) {
                holders.push(Holder { name: holder.name, serial: holder.serial });
            }
        }
        Ok(Self(holders))
    }

    pub(in crate::cli) fn count(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(in crate::cli) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|holder| holder.name.as_str())
    }

    /// A line for people; nothing if there are none.
    pub(in crate::cli) fn text(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let named = self.0.iter().take(NAMED).map(|Holder { name, serial }| format!("{name} (serial {serial})"));
        let named = named.collect::<Vec<_>>().join(", ");
        let more = match self.count().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more, {} altogether; --json names them", self.count()),
        };
        format!("nothing is known of: {named}{more}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_named_and_the_rest_is_counted() {
        let holders = |count| {
            let holder = |index| Holder { name: format!("service{index}"), serial: Serial::from_random([index; 16]) };
            Holders((0..count).map(holder).collect())
        };
        assert_eq!(holders(0).text(), "");
        let two = holders(2).text();
        assert!(
            two.starts_with("nothing is known of: service0 (serial ") && two.contains("), service1 (serial "),
            "{two}"
        );
        let many = holders(30).text();
        assert!(
            many.ends_with(" and 10 more, 30 altogether; --json names them\n") && !many.contains("service20 "),
            "{many}"
        );
    }
}
