//! The table of who enforces a revocation, as `ca-daemon revoke` prints it: a line for each name, and the instances beneath it where
//! they differ.
//!
//! It never knows more than the daemon said.

use std::collections::BTreeSet;

use pki::{crl::CrlNumber, instance::InstanceId, serial::Serial, time::Timestamp, wire::FEED_HEARTBEAT};
use serde::Serialize;

use crate::{
    cli::ui::{columns, output},
    feed::Enforced,
    issuer::Issuer,
    store::{InstanceKey, RelyingParty},
};

/// How many instances are listed beneath a name.
const LISTED: usize = 20;
/// The columns of a row after its label: two numbers, the spaces around them and before the label.
const NUMBERS: usize = 42;

/// What is known of one instance.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Row {
    name: String,
    instance: InstanceId,
    /// Of its certificate.
    serial: Serial,
    enforced: bool,
    /// Absent where it was confirmed before, or is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    after_milliseconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_ended: Option<u64>,
    /// Absent where it is not on the feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    connected_since: Option<Timestamp>,
    last_seen: Timestamp,
    /// After that it refuses everybody, unless it gets a CRL that has the revocation.
    admits_until: Option<Timestamp>,
    /// What it enforces instead, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    crl_number: Option<CrlNumber>,
    /// A number that it says it enforces and that was never given.
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<CrlNumber>,
    /// Its own certificate is revoked, so it is not waited for.
    certificate_revoked: bool,
}

/// The rows of the table, by name at first, then whoever came later.
pub(in crate::cli) struct Rows {
    issuer: Issuer,
    /// Until when the last list is good that does not have what is to be enforced.
    outlasting: Timestamp,
    /// Whether a row has to fit a terminal.
    fits: bool,
    pub(in crate::cli) all: Vec<Row>,
    /// The names that were printed already.
    printed: BTreeSet<String>,
}

impl Rows {
    /// Of those who are to enforce a CRL of this issuer, the last one before which is good until `outlasting`.
    pub(in crate::cli) fn new(issuer: Issuer, outlasting: Timestamp, fits: bool) -> Self {
        Self { issuer, outlasting, fits, all: Vec::new(), printed: BTreeSet::new() }
    }

    pub(in crate::cli) fn expect(&mut self, parties: Vec<RelyingParty>) {
        self.all = parties.into_iter().map(|party| self.missing(party)).collect();
    }

    /// Notes that an instance enforces it. One that was not there when the wait began is added. What there is to print by now: its
    /// name's line, once all instances of that name enforce it.
    pub(in crate::cli) fn enforced(&mut self, party: RelyingParty, enforced: Enforced, now: Timestamp) -> String {
        let mut row = self.missing(party);
        row.enforced = true;
        row.after_milliseconds = enforced.after_micros.map(|micros| micros.div_ceil(1000));
        row.connections_ended = enforced.ended;
        row.crl_number = None;
        let name = row.name.clone();
        match self.all.iter_mut().find(|known| known.key() == row.key()) {
            Some(known) => *known = row.clone(),
            None => self.all.push(row.clone()),
        }
        if self.printed.contains(&name) {
            return self.line(&format!("{name} {}", row.instance.short()), &[&row], now);
        }
        let rows: Vec<_> = self.all.iter().filter(|row| row.name == name).collect();
        if !rows.iter().all(|row| row.enforced) {
            return String::new();
        }
        let line = self.line(&label(&name, rows.len()), &rows, now);
        self.printed.insert(name);
        line
    }

    /// The wait is over, and these do not enforce it. Whoever is neither among them nor has confirmed has said goodbye meanwhile, or was
    /// forgotten.
    pub(in crate::cli) fn update(&mut self, missing: Vec<RelyingParty>) {
        let keys: BTreeSet<_> = missing.iter().map(RelyingParty::key).collect();
        self.all.retain(|row| row.enforced || row.certificate_revoked || keys.contains(&row.key()));
        for party in missing {
            let row = self.missing(party);
            match self.all.iter_mut().find(|known| known.key() == row.key()) {
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
            instance: party.instance,
            serial: party.serial,
            enforced: false,
            after_milliseconds: None,
            connections_ended: None,
            connected_since: party.connected_since,
            last_seen: party.last_seen,
            crl_number,
            claims: party.claims,
            certificate_revoked: party.certificate_revoked,
        }
    }

    fn width(&self) -> usize {
        let labels = self.names().into_iter().map(|name| columns::columns_of(&label(name, self.of(name).len())));
        let width = labels.max().unwrap_or(0).max("relying party".len());
        if self.fits { width.min(columns::WIDTH - NUMBERS) } else { width }
    }

    /// The beginning of a row. A label that is too long for the first column has a line of its own.
    fn labelled(&self, label: &str) -> String {
        let width = self.width();
        if columns::columns_of(label) > width {
            format!("  {label}\n  {:width$}", "")
        } else {
            format!("  {label:width$}")
        }
    }

    /// The names, in the order of their first rows.
    fn names(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        self.all.iter().map(|row| row.name.as_str()).filter(|name| seen.insert(*name)).collect()
    }

    fn of(&self, name: &str) -> Vec<&Row> {
        self.all.iter().filter(|row| row.name == name).collect()
    }

    pub(in crate::cli) fn header(&self) -> String {
        if self.all.is_empty() {
            return String::new();
        }
        format!("  {:<1$}   enforced after   open connections cut\n", "relying party", self.width())
    }

    /// What was not printed yet.
    pub(in crate::cli) fn rest(&self, now: Timestamp) -> String {
        let mut lines = String::new();
        for name in self.names() {
            let rows = self.of(name);
            let is_printed = self.printed.contains(name);
            let mut differing: Vec<_> = rows.iter().copied().filter(|row| !is_printed || !row.enforced).collect();
            if differing.is_empty() {
                continue;
            }
            let agrees = |is: fn(&Row) -> bool| rows.iter().all(|row| is(row));
            let is_one_line = rows.len() == 1 || agrees(|row| row.enforced) || agrees(|row| row.certificate_revoked);
            if is_one_line {
                lines += &self.line(&label(name, rows.len()), &rows, now);
                continue;
            }
            let enforced = rows.iter().filter(|row| row.enforced).count();
            let (label, all) = (self.labelled(&label(name, rows.len())), rows.len());
            lines.extend([format!("{label}   {enforced} of {all} enforce it:\n")]);
            // Whoever holds things up comes first.
            differing.sort_by_key(|row| row.enforced);
            for row in differing.iter().take(LISTED) {
                lines += &self.line(&format!("  {}", row.instance.short()), &[row], now);
            }
            if let more @ 1.. = differing.len().saturating_sub(LISTED) {
                lines.extend([format!("    ... and {more} more; --json names them\n")]);
            }
        }
        lines
    }

    /// A line for instances that agree.
    fn line(&self, label: &str, rows: &[&Row], now: Timestamp) -> String {
        let label = self.labelled(label);
        let Some(row) = rows.first() else { return String::new() };
        if row.certificate_revoked {
            // Of one that has never said it, nobody knows it; what the others said is not its word.
            let until = rows.iter().map(|row| row.admits_until).collect::<Option<Vec<_>>>();
            let until = until.into_iter().flatten().max();
            let until = until.map_or_else(|| "it is not known".to_owned(), |until| until.to_string());
            return format!(
                "{label}         its own certificate is revoked: it stops serving when it hears of it, clients refuse it; may \
                 admit until {until}\n"
            );
        }
        if !row.enforced {
            let others = self.all.iter().filter(|other| other.name == row.name && other.key() != row.key());
            let another = others.filter_map(|other| other.connected_since).max();
            return format!("{label}         not confirmed: {}\n", row.excuse(now, another));
        }
        let after = rows.iter().filter_map(|row| row.after_milliseconds).max();
        let after = after.map_or_else(|| "already".to_owned(), |after| format!("{after} ms"));
        let ended = rows.iter().filter_map(|row| row.connections_ended).reduce(u64::saturating_add);
        let ended = ended.map_or_else(|| "-".to_owned(), |ended| ended.to_string());
        format!("{label}   {after:>10}{ended:>27}\n")
    }

    pub(in crate::cli) fn summary(&self) -> String {
        let counted = self.all.iter().filter(|row| row.is_counted()).count();
        if counted == 0 {
            return "no relying party is registered that could confirm it; whoever checks CRLs finds it there\n"
                .to_owned();
        }
        let enforced = self.all.iter().filter(|row| row.enforced).count();
        format!("{enforced} of {counted} relying parties enforce it\n")
    }
}

/// A name, and how many it stands for.
fn label(name: &str, instances: usize) -> String {
    if instances == 1 { name.to_owned() } else { format!("{name} ({instances} instances)") }
}

impl Row {
    fn key(&self) -> InstanceKey {
        InstanceKey { serial: self.serial, instance: self.instance }
    }

    /// Whether it is waited for.
    pub(in crate::cli) fn is_counted(&self) -> bool {
        self.enforced || !self.certificate_revoked
    }

    /// Whether it is waited for and has not confirmed.
    pub(in crate::cli) fn is_missing(&self) -> bool {
        self.is_counted() && !self.enforced
    }

    /// Why it is not known to enforce the CRL, and until when it can go on without.
    fn excuse(&self, now: Timestamp, another: Option<Timestamp>) -> String {
        let enforces = match (self.claims, self.crl_number) {
            (Some(claims), _) => format!("it says that it enforces number {claims}, which was never issued here"),
            (None, Some(enforced)) => format!("it enforces number {enforced}"),
            (None, None) => "it has never said what it enforces".to_owned(),
        };
        let silence = now.since(self.last_seen);
        // It speaks at each heartbeat; one that is cut off looks connected until the operating system gives up.
        let is_here = self.connected_since.is_some() && silence <= FEED_HEARTBEAT * 2;
        let seen = if is_here {
            format!("connected, and {enforces}")
        } else {
            format!("last seen {} ago", output::span(silence))
        };
        let until = match self.admits_until {
            Some(until) if until < now => {
                format!("refuses everyone since {until} (its CRL's nextUpdate and any grace)")
            }
            Some(until) => format!("may admit until {until} (its CRL's nextUpdate and any grace)"),
            None => "until when it goes on without is not known".to_owned(),
        };
        let another = another.filter(|_| !is_here).map(|since| {
            format!("; another instance of this name is connected since {since}, and does not confirm for this one")
        });
        format!("{seen}; {until}{}", another.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn number(number: i64) -> CrlNumber {
        CrlNumber::new(number).unwrap()
    }

    fn end() -> Timestamp {
        Timestamp::from_unix(1_795_510_800)
    }

    fn party(name: &str, octet: u8, crl_number: Option<i64>, is_connected: bool) -> RelyingParty {
        let seen = end().minus(Duration::from_secs(24 * 3600 + if is_connected { 4 } else { 12 }));
        RelyingParty {
            name: name.to_owned(),
            serial: Serial::from_random([octet; 16]),
            instance: format!("{octet:02x}").repeat(16).parse().unwrap(),
            address: "10.0.0.1:1".to_owned(),
            crl_number: crl_number.and_then(CrlNumber::new),
            root_crl_number: None,
            claims: None,
            admits_until: Some(end()),
            grace: 0,
            open_connections: 0,
            first_seen: seen,
            connected_since: is_connected.then_some(seen),
            last_seen: seen,
            certificate_revoked: false,
        }
    }

    fn said(parties: &[RelyingParty], enforcing: &[(usize, Option<u64>, Option<u64>)]) -> String {
        let now = end().minus(Duration::from_hours(24));
        // It may have found a later list than the one that it spoke of, which has the revocation no more than that one.
        let mut rows = Rows::new(Issuer::Issuing, end().plus(Duration::from_mins(30)), false);
        rows.expect(parties.to_vec());
        let mut said = rows.header();
        for (index, after_micros, ended) in enforcing {
            let enforced = Enforced { after_micros: *after_micros, ended: *ended };
            said += &rows.enforced(parties[*index].clone(), enforced, now);
        }
        let is_missing = |index: &usize| !enforcing.iter().any(|(enforcing, ..)| enforcing == index);
        let missing = (0..parties.len()).filter(is_missing).map(|index| parties[index].clone());
        rows.update(missing.filter(|party| !party.certificate_revoked).collect());
        said + &rows.rest(now) + &rows.summary()
    }

    #[test]
    fn the_table_is_the_one_that_is_documented() {
        let parties = [
            party("service0", 0x10, Some(41), true),
            party("service1", 0x11, Some(41), true),
            party("service2", 0x12, Some(41), false),
            RelyingParty { claims: Some(number(57)), ..party("service3", 0x13, None, true) },
            party("service4", 0x14, None, true),
            RelyingParty { certificate_revoked: true, ..party("service5", 0x15, Some(41), false) },
        ];
        assert_eq!(
            said(&parties, &[(0, Some(2_400), Some(1)), (1, None, None)]),
            "  relying party   enforced after   open connections cut
  service0              3 ms                          1
  service1           already                          -
  service2              not confirmed: last seen 12 s ago; may admit until 2026-11-24 09:00:00Z (its CRL's nextUpdate and any grace)
  service3              not confirmed: connected, and it says that it enforces number 57, which was never issued here; \
             may admit until 2026-11-24 09:30:00Z (its CRL's nextUpdate and any grace)
  service4              not confirmed: connected, and it has never said what it enforces; \
             may admit until 2026-11-24 09:30:00Z (its CRL's nextUpdate and any grace)
  service5              its own certificate is revoked: it stops serving when it hears of it, clients refuse it; \
             may admit until 2026-11-24 09:00:00Z
2 of 5 relying parties enforce it
"
        );
    }

    #[test]
    fn the_instances_of_a_name_are_one_line_unless_they_differ() {
        let three = [0x20, 0x21, 0x22].map(|octet| party("service0", octet, Some(41), true));
        let enforced = [(2, Some(9_000), Some(1)), (0, Some(2_400), Some(1)), (1, None, None)];
        assert_eq!(
            said(&three, &enforced),
            "  relying party            enforced after   open connections cut
  service0 (3 instances)         9 ms                          2
3 of 3 relying parties enforce it
"
        );
        let vanished = [three[0].clone(), party("service0", 0x21, Some(41), false)];
        assert_eq!(
            said(&vanished, &[(0, Some(2_400), Some(1))]),
            "  relying party            enforced after   open connections cut
  service0 (2 instances)   1 of 2 enforce it:
    21212121                     not confirmed: last seen 12 s ago; may admit until 2026-11-24 09:00:00Z (its CRL's nextUpdate and any \
             grace); another instance of this name is connected since 2026-11-23 08:59:56Z, and does not confirm for this one
    20202020                     3 ms                          1
1 of 2 relying parties enforce it
"
        );
        let revoked = |octet, admits_until| RelyingParty {
            certificate_revoked: true,
            admits_until,
            ..party("service0", octet, Some(41), false)
        };
        let of_revoked = said(&[revoked(0x20, Some(end())), revoked(0x21, None)], &[]);
        assert!(of_revoked.contains("may admit until it is not known"), "{of_revoked}");
        let many: Vec<_> = (0..100).map(|octet| party("service0", octet, Some(41), false)).collect();
        let said = said(&many, &[]);
        assert!(said.lines().count() == LISTED + 4 && said.contains("... and 80 more; --json names them"), "{said}");
    }
}
