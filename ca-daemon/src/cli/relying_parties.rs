//! `ca-daemon relying-parties`: who has been on the feed, and what each of them enforces.
//!
//! It never tells a relying party anything.

use clap::{Args, Subcommand};
use pki::{crl::CrlNumber, time::Timestamp};
use serde::Serialize;

use super::{
    Context, Failure,
    output::{self, table},
};
use crate::{
    control::{Answer, Connection, Question},
    feed::Forgotten,
    settings::Issuer,
    store::RelyingParty,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Expect nothing more of a relying party that is gone for good; if it comes back, it is expected again
    Forget {
        /// Its name, as the list shows it
        name: String,
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
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<()> {
    match arguments.action {
        None => run_list(context).await,
        Some(Action::Forget { name }) => run_forget(context, name).await,
    }
}

async fn run_list(context: &Context) -> anyhow::Result<()> {
    let authority = context.authority().await?;
    let store = authority.store();
    let parties = match ask(context, &Question::RelyingParties).await? {
        Some(Answer::RelyingParties(parties)) => parties,
        Some(answer) => anyhow::bail!("the daemon answered something else: {answer:?}"),
        None => {
            output::remark("no ca-daemon serves this authority; this is what the last one wrote down");
            let parties = store.relying_parties().await?.into_iter();
            parties.map(|party| RelyingParty { connected_since: None, ..party }).collect()
        }
    };
    let newest = store.newest(Issuer::Issuing).await?.number;
    let lags = store.lags(&parties).await?;
    let listed = parties.into_iter().zip(lags);
    let listed: Vec<_> =
        listed.map(|(party, lag)| Listed { connected: party.connected_since.is_some(), lag, party }).collect();
    let now = context.clock.now();
    context.output.print(&listed, |listed| text(listed, newest, now))
}

async fn run_forget(context: &Context, name: String) -> anyhow::Result<()> {
    let authority = context.authority().await?;
    let forgotten = match ask(context, &Question::Forget(name.clone())).await? {
        Some(Answer::Forgotten(forgotten)) => forgotten,
        Some(Answer::Failed(reason)) => anyhow::bail!("{reason}"),
        Some(answer) => anyhow::bail!("the daemon answered something else: {answer:?}"),
        None if authority.store().forget_relying_party(&name).await? => Forgotten::Done,
        None => Forgotten::Unknown,
    };
    match forgotten {
        Forgotten::Done => context.output.print(&Gone { forgotten: name }, |gone| format!("forgot {}", gone.forgotten)),
        Forgotten::Unknown => {
            let message = format!("there is no relying party {name:?}; see: ca-daemon relying-parties");
            Err(Failure::NothingMatches(message).into())
        }
        Forgotten::Connected => {
            let message =
                format!("{name} is connected, and would be back at once; stop it first, or revoke its certificate");
            Err(Failure::Refused(message).into())
        }
    }
}

/// The daemon's answer; none if none runs.
async fn ask(context: &Context, question: &Question) -> anyhow::Result<Option<Answer>> {
    let Some(mut daemon) = Connection::open(&context.directory).await? else { return Ok(None) };
    daemon.ask(question).await?;
    let answer = daemon.answer().await?;
    answer.map(Some).ok_or_else(|| anyhow::anyhow!("the daemon ended before it answered; try again"))
}

fn text(listed: &[Listed], newest: CrlNumber, now: Timestamp) -> String {
    if listed.is_empty() {
        return "no relying party was ever on the feed\n".to_owned();
    }
    let rows = listed.iter().map(|Listed { party, lag, .. }| {
        [
            party.name.clone(),
            party.serial.to_string(),
            party.address.clone(),
            party.crl_number.map_or_else(|| "-".to_owned(), |number| number.to_string()),
            if party.crl_number > Some(newest) { "ahead".to_owned() } else { lag.to_string() },
            party.connected_since.map_or_else(
                || format!("no, last seen {} ago", output::span(now.since(party.last_seen))),
                |since| format!("since {since}"),
            ),
            party.open_connections.to_string(),
        ]
    });
    table(["NAME", "SERIAL", "ADDRESS", "CRL", "LAG", "CONNECTED", "OPEN CONNECTIONS"], rows)
}
