//! The table of who enforces a revocation, as `ca-daemon revoke` prints it.
//!
//! It never knows more than the daemon said.

use pki::{crl::CrlNumber, time::Timestamp, wire::FEED_HEARTBEAT};
use serde::Serialize;

use super::output;
use crate::{feed::Enforced, settings::Issuer, store::RelyingParty};

/// What is known of one relying party.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    name: String,
    pub(super) enforced: bool,
    /// Absent where it was confirmed before, or is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    after_milliseconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_ended: Option<u64>,
    last_seen: Timestamp,
    /// After that it refuses everybody, unless it gets a CRL that has the revocation.
    admits_until: Option<Timestamp>,
    /// What it enforces instead, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    crl_number: Option<CrlNumber>,
    #[serde(skip)]
    is_connected: bool,
}

/// The rows of the table, by name at first, then whoever came later.
pub(super) struct Rows {
    issuer: Issuer,
    /// Until when the last list is good that does not have what is to be enforced.
    outlasting: Timestamp,
    pub(super) all: Vec<Row>,
}

impl Rows {
    /// Of those who are to enforce a CRL of this issuer, the last one before which is good until `outlasting`.
    pub(super) fn new(issuer: Issuer, outlasting: Timestamp) -> Self {
        Self { issuer, outlasting, all: Vec::new() }
    }

    pub(super) fn expect(&mut self, parties: Vec<RelyingParty>) {
        self.all = parties.into_iter().map(|party| self.missing(party)).collect();
    }

    /// One that was not there when the wait began is added.
    pub(super) fn enforced(&mut self, name: &str, enforced: Enforced) -> Row {
        let index = self.all.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.all.push(Row {
                name: name.to_owned(),
                enforced: false,
                after_milliseconds: None,
                connections_ended: None,
                last_seen: Timestamp::MIN,
                admits_until: None,
                crl_number: None,
                is_connected: true,
            });
            self.all.len() - 1
        });
        let row = &mut self.all[index];
        row.enforced = true;
        row.after_milliseconds = enforced.after_micros.map(|micros| micros.div_ceil(1000));
        row.connections_ended = enforced.after_micros.map(|_| enforced.ended);
        row.crl_number = None;
        row.clone()
    }

    pub(super) fn update(&mut self, missing: Vec<RelyingParty>) {
        for party in missing {
            let row = self.missing(party);
            match self.all.iter_mut().find(|known| known.name == row.name) {
                Some(known) => *known = row,
                None => self.all.push(row),
            }
        }
    }

    fn missing(&self, party: RelyingParty) -> Row {
        let crl_number = match self.issuer {
            Issuer::Root => party.root_crl_number,
            Issuer::Issuing => party.crl_number,
        };
        Row {
            admits_until: party.exposed_until(self.outlasting),
            name: party.name,
            enforced: false,
            after_milliseconds: None,
            connections_ended: None,
            last_seen: party.last_seen,
            crl_number,
            is_connected: party.connected_since.is_some(),
        }
    }

    fn width(&self) -> usize {
        self.all.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max("relying party".len())
    }

    pub(super) fn header(&self) -> String {
        if self.all.is_empty() {
            return String::new();
        }
        format!("  {:<1$}   enforced after   open connections cut\n", "relying party", self.width())
    }

    pub(super) fn line(&self, row: &Row, number: CrlNumber, now: Timestamp) -> String {
        let (name, width) = (&row.name, self.width());
        if !row.enforced {
            return format!("  {name:<width$}         not confirmed: {}\n", row.excuse(number, now));
        }
        let after = row.after_milliseconds.map_or_else(|| "already".to_owned(), |after| format!("{after} ms"));
        let ended = row.connections_ended.map_or_else(|| "-".to_owned(), |ended| ended.to_string());
        format!("  {name:<width$}   {after:>10}{ended:>27}\n")
    }

    pub(super) fn summary(&self) -> String {
        if self.all.is_empty() {
            return "no relying party was ever on the feed; whoever checks CRLs finds it there\n".to_owned();
        }
        let enforced = self.all.iter().filter(|row| row.enforced).count();
        format!("{enforced} of {} relying parties enforce it\n", self.all.len())
    }
}

impl Row {
    /// Why it is not known to enforce the CRL, and until when it can go on without.
    fn excuse(&self, number: CrlNumber, now: Timestamp) -> String {
        let enforces = self.crl_number.map_or_else(
            || "it has never said what it enforces".to_owned(),
            |enforced| {
                let foreign = if enforced >= number { ", which was never issued here" } else { "" };
                format!("it enforces number {enforced}{foreign}")
            },
        );
        let silence = now.since(self.last_seen);
        // It speaks at each heartbeat; one that is cut off looks connected until the operating system gives up.
        let seen = if self.is_connected && silence <= FEED_HEARTBEAT * 2 {
            format!("connected, and {enforces}")
        } else {
            format!("last seen {} ago", output::span(silence))
        };
        let until = match self.admits_until {
            Some(until) if until < now => {
                format!("refuses everyone since {until} (its CRL's nextUpdate and any grace)")
            }
            Some(until) => format!("refuses everyone after {until} (its CRL's nextUpdate and any grace)"),
            None => "until when it goes on without is not known".to_owned(),
        };
        format!("{seen}; {until}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pki::serial::Serial;

    use super::*;

    fn party(name: &str, crl_number: Option<i64>, is_connected: bool) -> RelyingParty {
        let now = Timestamp::from_unix(1_795_510_800);
        RelyingParty {
            name: name.to_owned(),
            serial: Serial::from_random([1; 16]),
            address: "10.0.0.1:1".to_owned(),
            crl_number: crl_number.and_then(CrlNumber::new),
            root_crl_number: None,
            admits_until: Some(now),
            grace: 0,
            open_connections: 0,
            first_seen: now,
            connected_since: is_connected.then_some(now),
            last_seen: now.minus(Duration::from_secs(24 * 3600 + if is_connected { 4 } else { 12 })),
        }
    }

    #[test]
    fn the_table_is_the_one_that_is_documented() {
        let now = Timestamp::from_unix(1_795_510_800).minus(Duration::from_hours(24));
        let number = CrlNumber::new(42).unwrap();
        // It may have found a later list than the one that it spoke of, which has the revocation no more than that one.
        let outlasting = Timestamp::from_unix(1_795_510_800).minus(Duration::from_mins(30));
        let mut rows = Rows::new(Issuer::Issuing, outlasting);
        rows.expect(vec![
            party("service0", Some(41), true),
            party("service1", Some(41), true),
            party("service2", Some(41), false),
            party("service3", Some(57), true),
            party("service4", None, true),
            RelyingParty { grace: 3600, ..party("service5", Some(41), false) },
        ]);
        let enforced = |after_micros, ended| Enforced { after_micros, ended };
        let mut said = rows.header();
        for (name, enforced) in [("service0", enforced(Some(2_400), 1)), ("service1", enforced(None, 0))] {
            let row = rows.enforced(name, enforced);
            said += &rows.line(&row, number, now);
        }
        for row in rows.all.iter().filter(|row| !row.enforced) {
            said += &rows.line(row, number, now);
        }
        said += &rows.summary();
        assert_eq!(
            said,
            "  relying party   enforced after   open connections cut
  service0              3 ms                          1
  service1           already                          -
  service2              not confirmed: last seen 12 s ago; refuses everyone after 2026-11-24 09:00:00Z (its CRL's nextUpdate and any grace)
  service3              not confirmed: connected, and it enforces number 57, which was never issued here; \
             refuses everyone after 2026-11-24 09:00:00Z (its CRL's nextUpdate and any grace)
  service4              not confirmed: connected, and it has never said what it enforces; \
             refuses everyone after 2026-11-24 09:00:00Z (its CRL's nextUpdate and any grace)
  service5              not confirmed: last seen 12 s ago; refuses everyone after 2026-11-24 09:30:00Z (its CRL's nextUpdate and any grace)
2 of 6 relying parties enforce it
"
        );
    }
}
