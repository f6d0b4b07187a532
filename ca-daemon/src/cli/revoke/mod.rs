//! `ca-daemon revoke`: makes certificates worthless, for good, publishes that, and waits until every relying party
//! enforces it.
//!
//! It never revokes what it has not named, and never says that something is enforced that nobody has confirmed. Once the
//! revocation is recorded, nothing but the wait decides the exit code, least of all what becomes of the output.

mod dry_run;
mod enforcement;
pub(in crate::cli) mod holders;
mod issuing;
mod selection;
mod waiting;

use std::{collections::HashSet, io, time::Duration};

use clap::Args;
use pki::{
    crl::{CrlNumber, RevocationReason},
    serial::Serial,
    time::Timestamp,
    token::TokenId,
};
use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use crate::{
    cli::{
        Context, Failure,
        commands::list::UNKNOWN,
        revoke::{
            enforcement::Row,
            holders::Holders,
            issuing::ByRoot,
            selection::{Selected, Selection},
            waiting::{Committed, Heard, Waiting},
        },
        ui::{
            arguments::Reasons,
            output::{self, joined},
            spool::Printed,
        },
    },
    issuer::Issuer,
    operator::Connection,
    store::{CertificateRecord, Revocation, Store, StoreError, Target, TokenRecord, WithTokens},
};

/// How many certificates are named one by one.
pub(in crate::cli) const NAMED: usize = 20;

/// What is revoked besides the certificates.
#[derive(Debug, Args)]
struct Besides {
    /// Revoke the tokens as well that enrolled what is revoked and could enroll somebody else
    #[arg(long, conflicts_with = "issuing")]
    with_token: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Why
    #[arg(long, default_value_t, value_parser = Reasons)]
    pub(in crate::cli) reason: RevocationReason,
    #[command(flatten)]
    besides: Besides,
    #[command(flatten)]
    pub(in crate::cli) by_root: ByRoot,
    /// Say what would be revoked and who of it is connected where right now, and revoke nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// How long to wait until every relying party enforces it, or has answered a dry run
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = patience)]
    wait: Duration,
    /// Do not wait for relying parties
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// Exit with 5 also if somebody holds a valid server certificate of which nothing is known: it may judge clients, and is not
    /// waited for
    #[arg(long, conflicts_with_all = ["no_wait", "dry_run"])]
    require_all: bool,
}

/// What is longer than a year ends no later in practice, and does not add to every time of the day.
fn patience(text: &str) -> Result<Duration, humantime::DurationError> {
    const YEAR: Duration = Duration::from_hours(24 * 365);
    humantime::parse_duration(text).map(|patience| patience.min(YEAR))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Report {
    certificates: Vec<Outcome>,
    /// The CRL that carries all of them.
    crl_number: CrlNumber,
    /// Whether a daemon runs, which alone can tell relying parties.
    published: bool,
    /// The tokens that were revoked together with what they enrolled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    revoked_tokens: Vec<TokenId>,
    /// The tokens that enrolled some of it and can still enroll.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    usable_tokens: Vec<TokenId>,
    /// Certificates that are valid for a key that is compromised now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    same_key: Vec<SameKey>,
    /// The authority's own certificates, which were not revoked because nobody named them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<Serial>,
    /// Absent where nobody waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    relying_parties: Option<Vec<Row>>,
    /// Who holds a valid server certificate of which nothing is known. Absent where nobody waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_holders: Option<Holders>,
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
    serial: Serial,
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Outcome {
    serial: Serial,
    name: String,
    revoked_at: Timestamp,
    reason: RevocationReason,
    already_revoked: bool,
    /// Whether its key is never certified again.
    key_compromised: bool,
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

pub(in crate::cli) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<()> {
    let authority = context.authority().await?;
    if arguments.selection.issuing {
        return issuing::run(context, &arguments, authority).await;
    }
    let store = authority.store();
    let now = context.clock.now();
    let Selected { mut records, names, tokens, left_out, strays, unknown } =
        arguments.selection.select(authority, now).await?;
    let left_out: Vec<_> = left_out.iter().map(|record| record.serial).collect();
    if !left_out.is_empty() {
        output::remark(&format!(
            "left out: the authority's own server certificate, which has to be named: {}",
            joined(&left_out)
        ));
    }
    let usable = usable_tokens(store, &records, arguments.selection.tokens(), now).await?;
    if !arguments.besides.with_token {
        for token in usable.iter().take(NAMED) {
            output::remark(&still_enrolls(token));
        }
    }
    if arguments.dry_run {
        if !unknown.is_empty() {
            let serials: Vec<_> = unknown.iter().map(|(serial, _)| *serial).collect();
            output::remark(&format!("would be revoked, too, and is not known here: {}", joined(&serials)));
        }
        return dry_run::run(context, authority, &records, (!arguments.no_wait).then_some(arguments.wait)).await;
    }
    // From here on, Ctrl-C stops the waiting and nothing else.
    let interrupt = signal(SignalKind::interrupt())?;
    let daemon = Connection::open(&context.directory).await;
    let serials: Vec<_> = records.iter().map(|record| record.serial).collect();
    if let [first, rest @ ..] = records.as_slice()
        && !rest.is_empty()
        && rest.len() < NAMED
        && rest.iter().all(|record| record.common_name == first.common_name)
    {
        output::remark(&format!(
            "{} has {} certificates, revoking all: {}",
            first.common_name,
            serials.len(),
            joined(&serials)
        ));
    }
    if let Some(ahead) = store.newest(Issuer::Issuing).await?.ahead {
        output::remark(&ahead.to_string());
    }
    let with_tokens = if arguments.besides.with_token { WithTokens::Revoke } else { WithTokens::Leave };
    let target = Target {
        serials: &serials,
        names: &names,
        tokens: &tokens,
        with_tokens,
        strays: &strays,
        unknown: &unknown,
        ..Target::default()
    };
    let revoked = authority.revoke_target(target, arguments.reason, now).await?;
    let committed = Instant::now();
    // What was issued under one of the names or tokens since it was read comes last.
    let (outcomes, of_unknown) = revoked.outcomes.split_at(revoked.outcomes.len() - unknown.len());
    for (serial, _) in &outcomes[records.len()..] {
        match store.by_serial(serial, now).await {
            Ok(record) => records.extend(record),
            Err(error) => output::remark(&format!("{serial} was revoked, too; its name cannot be read: {error}")),
        }
    }
    let certificates = records.iter().zip(outcomes).map(|(record, (_, outcome))| {
        Outcome::new(record.serial, record.common_name.clone(), *outcome, now, arguments.reason)
    });
    if !of_unknown.is_empty() && arguments.reason.is_compromise() {
        output::remark(
            "the key of a certificate that is not known here is not known either, so it may be certified again; name its file, \
             if there is one: --cert FILE",
        );
    }
    let of_unknown = of_unknown.iter().map(|(serial, outcome)| {
        let name = format!("a certificate {UNKNOWN}");
        Outcome { key_compromised: false, ..Outcome::new(*serial, name, *outcome, now, arguments.reason) }
    });
    let is_left = |token: &TokenId| !revoked.tokens.contains(token);
    let certificates = certificates.chain(of_unknown).collect();
    let report = Report {
        usable_tokens: usable.iter().map(TokenRecord::id).filter(is_left).collect(),
        revoked_tokens: revoked.tokens,
        left_out,
        ..Report::new(certificates, revoked.crl, matches!(daemon, Ok(Some(_))))
    };
    let committed =
        Committed { issuer: Issuer::Issuing, number: revoked.crl, at: committed, outlasting: revoked.outlasting };
    let following = Following { store, daemon, committed, interrupt };
    conclude(context, &arguments, following, report).await
}

/// The tokens that enrolled one of these or are named, and can still enroll somebody.
async fn usable_tokens(
    store: &Store,
    records: &[CertificateRecord],
    named: &[TokenId],
    now: Timestamp,
) -> Result<Vec<TokenRecord>, StoreError> {
    let mut seen = HashSet::new();
    let mut usable = Vec::new();
    for id in named.iter().chain(records.iter().filter_map(|record| record.token.as_ref())) {
        if seen.insert(id)
            && let Some(token) = store.token(id).await?.filter(|token| token.check(now).is_ok())
        {
            usable.push(token);
        }
    }
    Ok(usable)
}

fn still_enrolls(token: &TokenRecord) -> String {
    let (id, left) = (token.id(), token.uses.allowed - token.uses.used);
    format!(
        "token {id} still enrolls whoever has it ({left} of {} uses left, until {}); to end that: ca-daemon token revoke {id}, \
         or revoke --with-token",
        token.uses.allowed, token.expires_at
    )
}

/// What is left to do once a revocation is committed.
pub(in crate::cli) struct Following<'a> {
    pub(in crate::cli) store: &'a Store,
    /// None: no daemon runs. That it cannot be reached is no reason not to revoke.
    pub(in crate::cli) daemon: io::Result<Option<Connection>>,
    pub(in crate::cli) committed: Committed,
    pub(in crate::cli) interrupt: Signal,
}

/// Tells what was revoked, and who enforces it.
pub(in crate::cli) async fn conclude(
    context: &Context,
    arguments: &Arguments,
    following: Following<'_>,
    mut report: Report,
) -> anyhow::Result<()> {
    let Following { store, daemon, committed, mut interrupt } = following;
    let patience = (!arguments.no_wait).then_some(arguments.wait);
    let reporter = context.output.reporter();
    reporter.say(&text(&report));
    let waiting =
        Waiting { reporter: &reporter, clock: &context.clock, committed, patience, interrupt: &mut interrupt };
    let heard = match daemon.transpose() {
        Some(daemon) => waiting.follow(daemon, store).await,
        None => waiting.nobody_to_tell(store).await,
    };
    let (rows, mut unconfirmed) = match heard {
        Ok(Heard::Nothing) => (None, None),
        Ok(Heard::OfEverybody(rows)) => {
            let missing = rows.iter().filter(|row| row.is_missing()).count();
            let total = rows.iter().filter(|row| row.is_counted()).count();
            let unconfirmed = format!("{missing} of {total} relying parties did not confirm the revocation");
            (Some(rows), (missing > 0).then_some(unconfirmed))
        }
        Ok(Heard::Silence(rows)) => {
            (Some(rows), Some("revoked, but the daemon did not say who enforces it".to_owned()))
        }
        Ok(Heard::NoDaemon(rows)) => {
            let unconfirmed = "revoked, but no daemon runs, and nothing was published to relying parties";
            (Some(rows), Some(unconfirmed.to_owned()))
        }
        Err(error) => (None, Some(format!("revoked, but it cannot be found out who enforces it: {error}"))),
    };
    report.relying_parties = rows;
    if report.relying_parties.is_some() {
        match Holders::find(store, context.clock.now()).await {
            Ok(holders) => {
                reporter.say(&holders.text());
                if arguments.require_all && holders.count() > 0 {
                    let message =
                        || format!("nothing is known of {} holders of valid server certificates", holders.count());
                    unconfirmed.get_or_insert_with(message);
                }
                report.unknown_holders = Some(holders);
            }
            Err(error) => {
                let message = || format!("revoked, but it cannot be found out of whom nothing is known: {error}");
                unconfirmed.get_or_insert_with(message);
            }
        }
    }
    // Not before: it takes its time where there are many, and the revocation does not depend on it.
    match same_key(store, &report, context.clock.now()).await {
        Ok(same_key) => report.same_key = same_key,
        Err(error) => output::remark(&format!("what else has a compromised key cannot be read: {error}")),
    }
    for SameKey { serial, name } in &report.same_key {
        let reason = RevocationReason::KeyCompromise;
        reporter.say(&format!(
            "{name} (serial {serial}) is valid, and its key is compromised: ca-daemon revoke --serial {serial} --reason {reason}\n"
        ));
    }
    if let Printed::Lost(why) = reporter.end(&report, interrupt.recv()).await {
        let number = report.crl_number;
        output::remark(&format!(
            "standard output could not be written ({why}); the revocation stands, recorded in CRL number {number}"
        ));
    }
    unconfirmed.map_or(Ok(()), |unconfirmed| Err(Failure::Unconfirmed(unconfirmed).into()))
}

/// What else is valid for the keys that are compromised.
async fn same_key(store: &Store, report: &Report, now: Timestamp) -> Result<Vec<SameKey>, StoreError> {
    let compromised = report.certificates.iter().filter(|outcome| outcome.key_compromised);
    let serials: Vec<_> = compromised.map(|outcome| outcome.serial).collect();
    if serials.is_empty() {
        return Ok(Vec::new());
    }
    let found = store.valid_with_keys_of(&serials, now, NAMED).await?;
    Ok(found.into_iter().map(|(serial, name)| SameKey { serial, name }).collect())
}

fn text(report: &Report) -> String {
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
