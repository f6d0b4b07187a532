//! `ca-daemon revoke --dry-run`: what would be revoked, and who of it is connected where at this moment, as the relying
//! parties say.
//!
//! It never changes anything, and never takes silence for "nobody is connected".

use std::{collections::BTreeMap, time::Duration};

use pki::{certificate::CertificateInfo, instance::InstanceId, time::Timestamp, wire::RollCallAnswer};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::{
    authority::Authority,
    cli::{
        Context,
        commands::list::Listed,
        revoke::waiting::GRACE,
        ui::output::{self, NAMED},
    },
    issuer::Issuer,
    operator::{Called, DaemonConnection, RollCall},
    store::{CertificateRecord, RelyingParty, Status},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DryRun {
    would_revoke: Vec<Candidate>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    already_revoked: Vec<Candidate>,
    /// Absent where nobody was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    relying_parties: Option<Vec<Witness>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(flatten)]
    certificate: Listed,
    /// Where it has open connections, and how many.
    connected: BTreeMap<String, u64>,
}

/// An instance that was asked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Witness {
    name: String,
    instance: InstanceId,
    answered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_connections: Option<u64>,
    /// How many certificates it left out of its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<Timestamp>,
}

/// What the relying parties said.
struct Attendance {
    present: Vec<(RelyingParty, RollCallAnswer)>,
    silent: Vec<RelyingParty>,
}

/// Prints what would become of these; without `patience` nobody is asked.
pub(in crate::cli) async fn run(
    context: &Context,
    authority: &Authority,
    records: &[CertificateRecord],
    patience: Option<Duration>,
) -> anyhow::Result<()> {
    let issuer = CertificateInfo::from_der(authority.certificate(Issuer::Issuing))?.subject.to_string();
    let roll_call = match patience {
        Some(patience) => call_roll(context, patience).await?,
        None => None,
    };
    let would_revoke = records.iter().map(|record| {
        let present = roll_call.iter().flat_map(|call| &call.present);
        let mut connected = BTreeMap::<_, u64>::new();
        for (party, answer) in present {
            if let Some(count) = answer.connections.get(&issuer).and_then(|counts| counts.get(&record.serial)) {
                let all = connected.entry(party.name.clone()).or_default();
                *all = all.saturating_add(*count);
            }
        }
        Ok(Candidate { connected, certificate: Listed::new(record)? })
    });
    let candidates = would_revoke.collect::<anyhow::Result<Vec<_>>>()?.into_iter();
    let is_revoked = |candidate: &Candidate| matches!(candidate.certificate.status, Status::Revoked { .. });
    let (already_revoked, would_revoke) = candidates.partition(is_revoked);
    let dry_run = DryRun { would_revoke, already_revoked, relying_parties: roll_call.map(witnesses) };
    let now = context.clock.now();
    context.output.print(&dry_run, |dry_run| context.output.prose(text(dry_run, patience.is_some(), now)))
}

/// None if no daemon runs.
async fn call_roll(context: &Context, patience: Duration) -> anyhow::Result<Option<Attendance>> {
    let Some(daemon) = DaemonConnection::open(&context.directory).await? else { return Ok(None) };
    let timeout_millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    let mut answers = daemon.ask(RollCall { timeout_millis }).await?;
    let deadline = Instant::now() + patience + GRACE;
    let mut present = Vec::new();
    loop {
        let answer = timeout_at(deadline, answers.expect()).await;
        match answer.map_err(|_| anyhow::anyhow!("the daemon does not answer"))?? {
            Called::Present { party, answer } => present.push((*party, answer)),
            Called::Missing(silent) => return Ok(Some(Attendance { present, silent })),
        }
    }
}

fn witnesses(call: Attendance) -> Vec<Witness> {
    let present = call.present.into_iter().map(|(party, answer)| Witness {
        name: party.name,
        instance: party.instance,
        answered: true,
        open_connections: Some(answer.open_connections),
        omitted: (answer.omitted > 0).then_some(answer.omitted),
        last_seen: None,
    });
    let silent = call.silent.into_iter().map(|party| Witness {
        name: party.name,
        instance: party.instance,
        answered: false,
        open_connections: None,
        omitted: None,
        last_seen: Some(party.last_seen),
    });
    let mut witnesses: Vec<_> = present.chain(silent).collect();
    witnesses.sort_by(|one, other| (&one.name, one.instance).cmp(&(&other.name, other.instance)));
    witnesses
}

fn text(dry_run: &DryRun, was_wanted: bool, now: Timestamp) -> String {
    let all = dry_run.would_revoke.len();
    let mut lines: Vec<_> = dry_run.already_revoked.iter().take(NAMED).filter_map(already).collect();
    lines.push(match dry_run.already_revoked.len() {
        0 => format!("nothing was revoked; {all} would be:\n"),
        already => format!(
            "nothing was revoked; {all} would be, {already} already {}\n",
            if already == 1 { "is" } else { "are" }
        ),
    });
    // Whoever is connected comes first: that is what a dry run is for.
    let (connected, rest): (Vec<_>, Vec<_>) =
        dry_run.would_revoke.iter().partition(|candidate| !candidate.connected.is_empty());
    lines.extend(connected.iter().chain(&rest).take(NAMED).map(|Candidate { certificate, connected }| {
        let status = certificate.status.as_str();
        let Listed { name, serial, not_after, .. } = certificate;
        let places: Vec<_> = connected.iter().map(|(party, count)| format!("{party} ({count})")).collect();
        let places = match dry_run.relying_parties {
            Some(_) if places.is_empty() => "; not connected".to_owned(),
            Some(_) => format!("; connected to {}", places.join(", ")),
            None => String::new(),
        };
        format!("  {name} (serial {serial}), {status} until {not_after}{places}\n")
    }));
    if let more @ 1.. = all.saturating_sub(NAMED) {
        lines.push(format!("  ... and {more} more; --json names them\n"));
    }
    match &dry_run.relying_parties {
        Some(witnesses) => lines.extend(testimony(witnesses, now)),
        None if was_wanted => {
            lines.push("no ca-daemon serves this authority, so nobody could be asked who is connected where\n".into());
        }
        None => {}
    }
    lines.concat()
}

fn already(Candidate { certificate, .. }: &Candidate) -> Option<String> {
    let Listed { name, serial, status, .. } = certificate;
    let Status::Revoked { at, reason } = status else { return None };
    Some(format!("{name} (serial {serial}) was already revoked at {at} ({reason})\n"))
}

/// How far what was said of connections can be relied on.
fn testimony(witnesses: &[Witness], now: Timestamp) -> Vec<String> {
    if witnesses.is_empty() {
        return vec!["no relying party is registered, so nobody could be asked who is connected where\n".into()];
    }
    let answered = witnesses.iter().filter(|witness| witness.answered).count();
    let mut lines = vec![format!("{answered} of {} relying parties answered\n", witnesses.len())];
    for witness in witnesses {
        if let Some(last_seen) = witness.last_seen {
            let ago = output::span(now.since(last_seen));
            let name = &witness.name;
            lines.push(format!("  {name} did not answer: last seen {ago} ago; who is connected to it is not known\n"));
        }
        if let Some(omitted) = witness.omitted {
            lines.push(format!("  {} has connections with {omitted} more certificates than it names\n", witness.name));
        }
    }
    lines
}
