//! `ca-daemon relying-parties`: which instances have to enforce revocations, and what each of them enforces.
//!
//! It never sends anything to a relying party.

use clap::{Args, Subcommand};
use pki::{instance::InstanceId, time::Timestamp};
use serde::Serialize;

use crate::{
    cli::{
        Context, Failure,
        commands::examples,
        revoke::holders::Holders,
        ui::{columns::table, output},
    },
    feed::{self, Forgotten},
    operator::{DaemonConnection, Expected, Forget, ForgetOutcome, Question, RelyingParties},
    store::RelyingParty,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Stop waiting for instances that are gone for good: all of a name that are not connected. One that connects again
    /// is waited for again
    #[command(after_help = examples::FORGET)]
    Forget {
        /// The name, as in the list
        name: String,
        /// Only this instance: its id, or the start of it, as in the list
        #[arg(long, value_name = "ID")]
        instance: Option<String>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(flatten)]
    party: RelyingParty,
    connected: bool,
    /// How many CRLs it is behind.
    lag: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gone {
    forgotten: String,
    instances: Vec<InstanceId>,
}

pub(in crate::cli) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<()> {
    match arguments.action {
        None => run_list(context).await,
        Some(Action::Forget { name, instance }) => run_forget(context, name, instance).await,
    }
}

async fn run_list(context: &Context) -> anyhow::Result<()> {
    let authority = context.authority().await?;
    let store = authority.store();
    let parties = match ask(context, RelyingParties).await? {
        Some(Expected::RelyingParties(parties)) => parties,
        None => {
            output::remark("no ca-daemon serves this authority; this is what the last one stored");
            let parties = store.relying_parties().await?.into_iter();
            parties.map(|party| RelyingParty { connected_since: None, ..party }).collect()
        }
    };
    let lags = store.lags(&parties).await?;
    let listed = parties.into_iter().zip(lags);
    let listed: Vec<_> =
        listed.map(|(party, lag)| Listed { connected: party.connected_since.is_some(), lag, party }).collect();
    let now = context.clock.now();
    let holders = Holders::find(store, now).await?;
    context.output.print(&listed, |listed| text(listed, now) + &context.output.prose(holders.text()))
}

async fn run_forget(context: &Context, name: String, instance: Option<String>) -> anyhow::Result<()> {
    let authority = context.authority().await?;
    let forgotten = match ask(context, Forget { name: name.clone(), instance: instance.clone() }).await? {
        Some(ForgetOutcome::Forgotten(forgotten)) => forgotten,
        Some(ForgetOutcome::Failed(reason)) => anyhow::bail!("{reason}"),
        None => feed::forget_without_daemon(authority.store(), &name, instance.as_deref()).await?,
    };
    let meant = instance.map_or_else(|| name.clone(), |instance| format!("{name}, instance {instance}"));
    match forgotten {
        Forgotten::Done(instances) => {
            context.output.print(&Gone { forgotten: name, instances }, |gone| match gone.instances.as_slice() {
                [_] => format!("forgot {meant}"),
                several => format!("forgot {meant}: {} instances", several.len()),
            })
        }
        Forgotten::Unknown => {
            let message = format!("there is no relying party {meant}; see: ca-daemon relying-parties");
            Err(Failure::NothingMatches(message).into())
        }
        Forgotten::Connected => {
            let message =
                format!("{meant} is connected, and would be back at once; stop it first, or revoke its certificate");
            Err(Failure::Refused(message).into())
        }
        Forgotten::Ambiguous => {
            let message = format!(
                "{meant} matches several instances; give more of the id, as ca-daemon relying-parties --json prints it"
            );
            Err(Failure::Refused(message).into())
        }
    }
}

/// The daemon's answer; none if no daemon runs.
async fn ask<Q: Question>(context: &Context, question: Q) -> anyhow::Result<Option<Q::Answer>> {
    let Some(daemon) = DaemonConnection::open(&context.directory).await? else { return Ok(None) };
    Ok(Some(daemon.ask(question).await?.expect().await?))
}

fn text(listed: &[Listed], now: Timestamp) -> String {
    if listed.is_empty() {
        return "no relying party is registered\n".to_owned();
    }
    table(["NAME", "INSTANCE", "ADDRESS", "CRL", "LAG", "CONNECTED", "OPEN"], rows(listed, now))
}

fn rows(listed: &[Listed], now: Timestamp) -> Vec<[String; 7]> {
    let mut rows = Vec::new();
    // They are sorted by name.
    for of_name in listed.chunk_by(|one, other| one.party.name == other.party.name) {
        match of_name {
            [only] => rows.push(row(&only.party.name, only, now)),
            [first, ..] if of_name.iter().all(|listed| listed.agrees(first)) => rows.push(summary(of_name)),
            several => {
                rows.push(summary(several));
                rows.extend(several.iter().map(|listed| row("", listed, now)));
            }
        }
    }
    rows
}

impl Listed {
    /// Whether one line can show both.
    fn agrees(&self, other: &Self) -> bool {
        let of = |listed: &Self| (listed.connected, listed.party.crl_number, listed.party.claims);
        self.connected && of(self) == of(other) && !self.party.certificate_revoked
    }
}

/// A line for all instances of a name.
fn summary(listed: &[Listed]) -> [String; 7] {
    let all = listed.len();
    let name = listed.first().map_or("", |listed| listed.party.name.as_str());
    let connected: Vec<_> = listed.iter().filter_map(|listed| listed.party.connected_since).collect();
    let since = connected.iter().min().map_or_else(|| "no".to_owned(), |since| format!("since {since}"));
    let crl = listed.iter().map(|listed| listed.party.crl_number).min().flatten();
    let open = listed.iter().map(|listed| listed.party.open_connections).fold(0, u64::saturating_add);
    [
        name.to_owned(),
        format!("({all} instances)"),
        "-".to_owned(),
        crl.map_or_else(|| "-".to_owned(), |number| number.to_string()),
        listed.iter().map(|listed| listed.lag).max().unwrap_or(0).to_string(),
        if connected.len() == all { since } else { format!("{} of {all}", connected.len()) },
        open.to_string(),
    ]
}

/// A line for one instance.
fn row(name: &str, Listed { party, lag, .. }: &Listed, now: Timestamp) -> [String; 7] {
    let connected = match (party.connected_since, party.admits_until) {
        (Some(since), _) => format!("since {since}"),
        (None, until) => {
            let seen = format!("no, last seen {} ago", output::span(now.since(party.last_seen)));
            let until = until.map_or_else(|| "?".to_owned(), |until| until.to_string());
            format!("{seen}; may admit until {until}")
        }
    };
    let revoked = if party.certificate_revoked { "; certificate revoked" } else { "" };
    [
        name.to_owned(),
        party.instance.short(),
        party.address.clone(),
        party.crl_number.map_or_else(|| "-".to_owned(), |number| number.to_string()),
        party.claims.map_or_else(|| lag.to_string(), |number| format!("claims {number}")),
        format!("{connected}{revoked}"),
        party.open_connections.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pki::{crl::CrlNumber, serial::Serial};

    use super::*;

    #[test]
    fn the_instances_of_a_name_are_one_line_unless_they_differ() {
        let now = Timestamp::from_unix(1_795_510_800);
        let listed = |name: &str, octet: u8, is_connected: bool, claims: Option<i64>| {
            let party = RelyingParty {
                name: name.to_owned(),
                serial: Serial::from_random([octet; 16]),
                instance: format!("{octet:02x}").repeat(16).parse().unwrap(),
                address: "10.0.0.1:1".to_owned(),
                crl_number: CrlNumber::new(41).filter(|_| claims.is_none()),
                root_crl_number: None,
                claims: claims.and_then(CrlNumber::new),
                admits_until: Some(now.plus(Duration::from_hours(1))),
                grace: 0,
                open_connections: 2,
                first_seen: now,
                connected_since: is_connected.then_some(now),
                last_seen: now.minus(Duration::from_secs(12)),
                certificate_revoked: false,
            };
            Listed { party, connected: is_connected, lag: 0 }
        };
        let said = rows(
            &[
                listed("a", 0x10, true, None),
                listed("a", 0x11, true, None),
                listed("b", 0x12, true, None),
                listed("b", 0x13, false, None),
                listed("c", 0x14, true, Some(57)),
            ],
            now,
        );
        let lines: Vec<_> = said.iter().map(|row| row.join(" ")).collect();
        assert_eq!(lines.len(), 5, "{said:?}");
        assert_eq!(lines[0], "a (2 instances) - 41 0 since 2026-11-24 09:00:00Z 4");
        assert_eq!(lines[1], "b (2 instances) - 41 0 1 of 2 4");
        assert!(lines[2].starts_with(" 12121212 ") && lines[2].ends_with("since 2026-11-24 09:00:00Z 2"), "{said:?}");
        assert!(lines[3].contains("no, last seen 12 s ago; may admit until 2026-11-24 10:00:00Z"), "{said:?}");
        assert!(lines[4].starts_with("c 14141414 ") && lines[4].contains(" - claims 57 since "), "{said:?}");
    }
}
