//! The way of a revocation from its commit to the daemon's socket, and what comes back: who enforces it, and the exit
//! code.
//!
//! It never revokes anything, and what becomes of the output never decides the exit code.

use std::{io, time::Duration};

use clap::Args;
use pki::{crl::RevocationReason, time::Timestamp};
use tokio::signal::unix::Signal;

use crate::{
    cli::{
        Context, Failure,
        revoke::{
            holders::Holders,
            report::{self, Report, SameKey},
            waiting::{Committed, Heard, Waiting},
        },
        ui::{
            output::{self, NAMED},
            spool::Printed,
        },
    },
    operator::DaemonConnection,
    store::{Store, StoreError},
};

/// For how long to wait, and for whom.
#[derive(Debug, Args)]
pub(in crate::cli) struct WaitOptions {
    /// How long to wait until every relying party enforces it, or has answered a dry run
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = patience)]
    wait: Duration,
    /// Do not wait for relying parties
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// Exit with 5 also if somebody holds a valid server certificate of which nothing is known: it may judge clients,
    /// and is not waited for
    #[arg(long, conflicts_with_all = ["no_wait", "dry_run"])]
    require_all: bool,
}

impl WaitOptions {
    /// None: nobody waits.
    pub(in crate::cli) fn patience(&self) -> Option<Duration> {
        (!self.no_wait).then_some(self.wait)
    }
}

/// Capped at a year, so that adding it to a time cannot overflow.
fn patience(text: &str) -> Result<Duration, humantime::DurationError> {
    const YEAR: Duration = Duration::from_hours(24 * 365);
    humantime::parse_duration(text).map(|patience| patience.min(YEAR))
}

/// What is left to do once a revocation is committed.
pub(in crate::cli) struct Following<'a> {
    pub(in crate::cli) store: &'a Store,
    /// None: no daemon runs. That it cannot be reached is no reason not to revoke.
    pub(in crate::cli) daemon: io::Result<Option<DaemonConnection>>,
    pub(in crate::cli) committed: Committed,
    pub(in crate::cli) interrupt: Signal,
}

/// Tells what was revoked, and who enforces it.
pub(in crate::cli) async fn conclude(
    context: &Context,
    options: &WaitOptions,
    following: Following<'_>,
    mut report: Report,
) -> anyhow::Result<()> {
    let Following { store, daemon, committed, mut interrupt } = following;
    let patience = options.patience();
    let reporter = context.output.reporter();
    reporter.say(&report::text(&report));
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
                if options.require_all && holders.count() > 0 {
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
