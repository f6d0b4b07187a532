//! `ca-daemon revoke`: makes certificates worthless, for good, publishes that, and waits until every relying party
//! enforces it.
//!
//! It never revokes what it has not named, and never says that something is enforced that nobody has confirmed.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use pki::{
    crl::{CrlNumber, RevocationReason},
    serial::Serial,
    time::Timestamp,
};
use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use super::{
    Context, Failure, dry_run,
    enforcement::Row,
    output::{self, joined},
    selection::{Selected, Selection},
    waiting::{Committed, Heard, Waiting},
};
use crate::{
    authority::Authority,
    control::Connection,
    feed::describe_ahead,
    settings::Issuer,
    store::{Revocation, Store, Target},
};

/// How many certificates are named one by one.
pub(super) const NAMED: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Why: unspecified, key-compromise, ca-compromise, affiliation-changed, superseded, cessation-of-operation or
    /// privilege-withdrawn
    #[arg(long, default_value_t)]
    reason: RevocationReason,
    /// The root's key, if it is kept elsewhere
    #[arg(long, value_name = "FILE", requires = "issuing")]
    root_key: Option<PathBuf>,
    /// Say what would be revoked and who of it is connected where right now, and revoke nothing
    #[arg(long, conflicts_with = "issuing")]
    dry_run: bool,
    /// How long to wait until every relying party enforces it, or has answered a dry run
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = patience)]
    wait: Duration,
    /// Do not wait for relying parties
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
}

/// What is longer than a year ends no later in practice, and does not add to every time of the day.
fn patience(text: &str) -> Result<Duration, humantime::DurationError> {
    const YEAR: Duration = Duration::from_hours(24 * 365);
    humantime::parse_duration(text).map(|patience| patience.min(YEAR))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    certificates: Vec<Outcome>,
    /// The CRL that carries all of them.
    crl_number: CrlNumber,
    /// Whether a daemon runs, which alone can tell relying parties.
    published: bool,
    /// Absent where nobody waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    relying_parties: Option<Vec<Row>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    serial: Serial,
    name: String,
    revoked_at: Timestamp,
    reason: RevocationReason,
    already_revoked: bool,
}

impl Outcome {
    fn new(serial: Serial, name: String, outcome: Revocation, now: Timestamp, reason: RevocationReason) -> Self {
        let (revoked_at, reason, already_revoked) = match outcome {
            Revocation::New => (now, reason, false),
            Revocation::AlreadyRevoked { at, reason } => (at, reason, true),
        };
        Self { serial, name, revoked_at, reason, already_revoked }
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<()> {
    let authority = context.authority().await?;
    if arguments.selection.issuing {
        return revoke_issuing(context, &arguments, authority).await;
    }
    let store = authority.store();
    let now = context.clock.now();
    let Selected { mut records, names } = arguments.selection.select(store, now).await?;
    if arguments.dry_run {
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
        output::remark(&describe_ahead(&ahead, store.newest(Issuer::Issuing).await?.number));
    }
    let target = Target { serials: &serials, names: &names };
    let revoked = authority.revoke_target(target, arguments.reason, now).await?;
    let committed = Instant::now();
    // What was issued under one of the names since it was read comes last.
    for (serial, _) in &revoked.outcomes[records.len()..] {
        records.extend(store.by_serial(serial, now).await?);
    }
    let certificates = records.iter().zip(revoked.outcomes).map(|(record, (_, outcome))| {
        Outcome::new(record.serial, record.common_name.clone(), outcome, now, arguments.reason)
    });
    let report = Report {
        certificates: certificates.collect(),
        crl_number: revoked.crl,
        published: matches!(daemon, Ok(Some(_))),
        relying_parties: None,
    };
    let committed =
        Committed { issuer: Issuer::Issuing, number: revoked.crl, at: committed, outlasting: revoked.outlasting };
    let following = Following { store, daemon, committed, interrupt };
    conclude(context, &arguments, following, report).await
}

/// Revokes the issuing CA itself, with the root's key.
async fn revoke_issuing(context: &Context, arguments: &Arguments, authority: &Authority) -> anyhow::Result<()> {
    let now = context.clock.now();
    let root = match &arguments.root_key {
        Some(key) => Arc::new(context.directory.load_authority(Issuer::Root, key, authority.settings())?),
        None => authority.root_signer().ok_or_else(|| {
            let message = "only the root can revoke the issuing CA; say where its key is: --root-key FILE";
            Failure::Refused(message.to_owned())
        })?,
    };
    let interrupt = signal(SignalKind::interrupt())?;
    let daemon = Connection::open(&context.directory).await;
    let (issuing, revoked) = authority.revoke_issuing(arguments.reason, root, now).await?;
    let committed =
        Committed { issuer: Issuer::Root, number: revoked.crl, at: Instant::now(), outlasting: revoked.outlasting };
    output::remark(
        "whatever this issuing CA has issued, or will, is refused from now on; found another authority: \
         ca-daemon init --dir DIR",
    );
    let outcomes = revoked.outcomes.into_iter();
    let certificates =
        outcomes.map(|(serial, outcome)| Outcome::new(serial, issuing.display_name(), outcome, now, arguments.reason));
    let report = Report {
        certificates: certificates.collect(),
        crl_number: revoked.crl,
        published: matches!(daemon, Ok(Some(_))),
        relying_parties: None,
    };
    let following = Following { store: authority.store(), daemon, committed, interrupt };
    conclude(context, arguments, following, report).await
}

/// What is left to do once a revocation is committed.
struct Following<'a> {
    store: &'a Store,
    /// None: no daemon runs. That it cannot be reached is no reason not to revoke.
    daemon: io::Result<Option<Connection>>,
    committed: Committed,
    interrupt: Signal,
}

/// Tells what was revoked, and who enforces it.
async fn conclude(
    context: &Context,
    arguments: &Arguments,
    following: Following<'_>,
    mut report: Report,
) -> anyhow::Result<()> {
    let Following { store, daemon, committed, interrupt } = following;
    let patience = (!arguments.no_wait).then_some(arguments.wait);
    let waiting = Waiting { output: &context.output, clock: &context.clock, committed, patience, interrupt };
    waiting.say(&text(&report))?;
    let heard = match daemon.transpose() {
        Some(daemon) => waiting.follow(daemon, store).await?,
        None => waiting.nobody_to_tell(store).await?,
    };
    let (rows, unconfirmed) = match heard {
        Heard::Nothing => (None, None),
        Heard::OfEverybody(rows) => {
            let (missing, total) = (rows.iter().filter(|row| !row.enforced).count(), rows.len());
            let unconfirmed = format!("{missing} of {total} relying parties did not confirm the revocation");
            (Some(rows), (missing > 0).then_some(unconfirmed))
        }
        Heard::Silence(rows) => (Some(rows), Some("revoked, but the daemon did not say who enforces it".to_owned())),
        Heard::NoDaemon(rows) => {
            let unconfirmed = "revoked, but no daemon runs, and nothing was published to relying parties";
            (Some(rows), Some(unconfirmed.to_owned()))
        }
    };
    report.relying_parties = rows;
    if context.output.is_json() {
        context.output.print(&report, |_| String::new())?;
    }
    unconfirmed.map_or(Ok(()), |unconfirmed| Err(Failure::Unconfirmed(unconfirmed).into()))
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
    lines.extend(known.iter().take(NAMED).map(|Outcome { serial, name, revoked_at, reason, .. }| {
        format!("{name} (serial {serial}) was already revoked at {revoked_at} ({reason})\n")
    }));
    if let rest @ 1.. = known.len().saturating_sub(NAMED) {
        lines.push(format!("... and {rest} more were already revoked\n"));
    }
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
        };
        let report = Report {
            certificates: (0..100).map(outcome).collect(),
            crl_number: CrlNumber::new(7).unwrap(),
            published: true,
            relying_parties: None,
        };
        let text = text(&report);
        assert_eq!(text.lines().count(), NAMED + 1);
        assert!(text.ends_with("... and 80 more, 100 altogether, all in CRL number 7; --json names them\n"), "{text}");
    }
}
