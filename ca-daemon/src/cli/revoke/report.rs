//! What `ca-daemon revoke` reports: which certificates are revoked, in which CRL, and who enforces it.
//!
//! It never finds anything out; it is filled in by others.

use pki::{
    crl::{CrlNumber, RevocationReason},
    serial::Serial,
    time::Timestamp,
    token::TokenId,
};
use serde::Serialize;

use crate::{
    cli::{
        revoke::{enforcement::Row, holders::Holders},
        ui::output::NAMED,
    },
    store::Revocation,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Report {
    pub(in crate::cli) certificates: Vec<Outcome>,
    /// The CRL that carries all of them.
    pub(in crate::cli) crl_number: CrlNumber,
    /// Whether a daemon runs, which alone can tell relying parties.
    pub(in crate::cli) published: bool,
    /// The tokens that were revoked together with what they enrolled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) revoked_tokens: Vec<TokenId>,
    /// The tokens that enrolled some of it and can still enroll.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) usable_tokens: Vec<TokenId>,
    /// Certificates that are valid for a key that is compromised now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) same_key: Vec<SameKey>,
    /// The authority's own certificates, which were not revoked because nobody named them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) left_out: Vec<Serial>,
    /// Absent where nobody waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) relying_parties: Option<Vec<Row>>,
    /// Who holds a valid server certificate of which nothing is known. Absent where nobody waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) unknown_holders: Option<Holders>,
}

impl Report {
    /// That these were revoked, and nothing besides.
    pub(in crate::cli) fn new(certificates: Vec<Outcome>, crl_number: CrlNumber, published: bool) -> Self {
        Self {
            certificates,
            crl_number,
            published,
            revoked_tokens: Vec::new(),
            usable_tokens: Vec::new(),
            same_key: Vec::new(),
            left_out: Vec::new(),
            relying_parties: None,
            unknown_holders: None,
        }
    }
}

#[derive(Serialize)]
pub(in crate::cli) struct SameKey {
    pub(in crate::cli) serial: Serial,
    pub(in crate::cli) name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Outcome {
    pub(in crate::cli) serial: Serial,
    pub(in crate::cli) name: String,
    pub(in crate::cli) revoked_at: Timestamp,
    pub(in crate::cli) reason: RevocationReason,
    pub(in crate::cli) already_revoked: bool,
    /// Whether its key is never certified again.
    pub(in crate::cli) key_compromised: bool,
}

impl Outcome {
    pub(in crate::cli) fn new(
        serial: Serial,
        name: String,
        outcome: Revocation,
        now: Timestamp,
        reason: RevocationReason,
    ) -> Self {
        let ordered = reason;
        let (revoked_at, reason, already_revoked) = match outcome {
            Revocation::New => (now, reason, false),
            Revocation::AlreadyRevoked { at, reason } => (at, reason, true),
        };
        let key_compromised = ordered.is_compromise() || reason.is_compromise();
        Self { serial, name, revoked_at, reason, already_revoked, key_compromised }
    }
}

/// For people, what is known before anybody has confirmed.
pub(in crate::cli) fn text(report: &Report) -> String {
    let (known, new): (Vec<_>, Vec<_>) = report.certificates.iter().partition(|outcome| outcome.already_revoked);
    let number = report.crl_number;
    let mut lines: Vec<_> = new
        .iter()
        .take(NAMED)
        .map(|outcome| format!("revoked {} (serial {}) in CRL number {number}\n", outcome.name, outcome.serial))
        .collect();
    if let rest @ 1.. = new.len().saturating_sub(NAMED) {
        let all = new.len();
        lines.push(format!("... and {rest} more, {all} altogether, all in CRL number {number}; --json names them\n"));
    }
    lines.extend(known.iter().take(NAMED).map(|outcome| {
        let Outcome { serial, name, revoked_at, reason, .. } = outcome;
        let key = if outcome.key_compromised && !reason.is_compromise() {
            "; that reason stays in the CRL, and its key is never certified again"
        } else {
            ""
        };
        format!("{name} (serial {serial}) was already revoked at {revoked_at} ({reason}){key}\n")
    }));
    if let rest @ 1.. = known.len().saturating_sub(NAMED) {
        lines.push(format!("... and {rest} more were already revoked\n"));
    }
    lines.extend(
        report.revoked_tokens.iter().map(|token| format!("revoked token {token}, which enrolled some of it\n")),
    );
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_not_listed_one_by_one() {
        let outcome = |index: u8| Outcome {
            serial: Serial::from_random([index; 16]),
            name: format!("client_{index}"),
            revoked_at: Timestamp::MIN,
            reason: RevocationReason::Unspecified,
            already_revoked: false,
            key_compromised: false,
        };
        let report = Report::new((0..100).map(outcome).collect(), CrlNumber::new(7).unwrap(), true);
        let text = text(&report);
        assert_eq!(text.lines().count(), NAMED + 1);
        assert!(text.ends_with("... and 80 more, 100 altogether, all in CRL number 7; --json names them\n"), "{text}");
    }
}
