//! `ca-daemon revoke --issuing`: the root revokes the issuing CA, and everything that it ever issued ends.
//!
//! It never does so unless somebody has said yes to what that ends.

use std::{
    io::{self, BufRead, IsTerminal as _},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;
use pki::{certificate::CertificateInfo, crl::RevocationReason, serial::Serial, time::Timestamp};
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use crate::{
    authority::Authority,
    cli::{
        Context, Failure,
        revoke::{
            conclusion::{Following, WaitOptions, conclude},
            report::{Outcome, Report},
            waiting::Committed,
        },
        ui::output,
    },
    issuer::Issuer,
    operator::DaemonConnection,
    store::{IssuerRevocation, Live},
};

/// What the root needs to revoke the issuing CA.
#[derive(Debug, Args)]
pub(in crate::cli) struct ByRoot {
    /// The root's key, if it is kept elsewhere
    #[arg(long, value_name = "FILE", requires = "issuing")]
    root_key: Option<PathBuf>,
    /// Revoke the issuing CA without asking
    #[arg(long, requires = "issuing")]
    yes: bool,
}

/// What ends with the issuing CA.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Consequences {
    name: String,
    serial: Serial,
    /// Absent where it is not revoked yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    /// Certificates that are valid now.
    valid_certificates: Live,
    /// Known ones, connected or not.
    relying_parties: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DryRun {
    would_revoke_issuing: Consequences,
}

pub(in crate::cli) async fn run(
    context: &Context,
    authority: &Authority,
    by_root: &ByRoot,
    reason: RevocationReason,
    dry_run: bool,
    waiting: &WaitOptions,
) -> anyhow::Result<()> {
    let now = context.clock.now();
    let consequences = consequences(authority, now).await?;
    if dry_run {
        let dry_run = DryRun { would_revoke_issuing: consequences };
        return context
            .output
            .print(&dry_run, |dry_run| format!("nothing was revoked; {}", text(&dry_run.would_revoke_issuing)));
    }
    let root = match &by_root.root_key {
        Some(key) => Arc::new(context.directory.load_authority(Issuer::Root, key, authority.settings())?),
        None => authority.root_signer().ok_or_else(|| {
            let message = "only the root can revoke the issuing CA; say where its key is: --root-key FILE";
            Failure::Refused(message.to_owned())
        })?,
    };
    if consequences.revoked_at.is_none() && !by_root.yes {
        let is_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
        confirm(&text(&consequences), is_terminal.then(|| io::stdin().lock()))?;
    }
    let interrupt = signal(SignalKind::interrupt())?;
    let daemon = DaemonConnection::open(&context.directory).await;
    let (issuing, revoked) = authority.revoke_issuing(reason, root, now).await?;
    let committed =
        Committed { issuer: Issuer::Root, number: revoked.crl, at: Instant::now(), outlasting: revoked.outlasting };
    output::remark(
        "whatever this issuing CA has issued is refused from now on, and nothing more is issued; found another authority: \
         ca-daemon init --dir DIR",
    );
    let outcomes = revoked.outcomes.into_iter();
    let certificates =
        outcomes.map(|(serial, outcome)| Outcome::new(serial, issuing.display_name(), outcome, now, reason));
    let report = Report::new(certificates.collect(), revoked.crl, matches!(daemon, Ok(Some(_))));
    let following = Following { store: authority.store(), daemon, committed, interrupt };
    conclude(context, waiting, following, report).await
}

async fn consequences(authority: &Authority, now: Timestamp) -> anyhow::Result<Consequences> {
    let store = authority.store();
    let issuing = CertificateInfo::from_der(authority.certificate(Issuer::Issuing))?;
    Ok(Consequences {
        name: issuing.display_name(),
        serial: issuing.id.serial,
        revoked_at: store.issuer_revocation().await?.map(|IssuerRevocation { at, .. }| at),
        valid_certificates: store.live(now).await?,
        relying_parties: store.relying_parties().await?.len(),
    })
}

fn text(consequences: &Consequences) -> String {
    let Consequences { name, serial, revoked_at, valid_certificates, relying_parties } = consequences;
    if let Some(at) = revoked_at {
        return format!("{name} (serial {serial}) is revoked since {at}");
    }
    let Live { client, server } = valid_certificates;
    format!(
        "revoking {name} (serial {serial}) ends for good {client} client and {server} server certificates that are valid now, \
         every connection to {relying_parties} relying parties, and this authority: it issues nothing more"
    )
}

/// Asks whoever sits at the terminal; where nobody does, the command line has to say it.
fn confirm(consequences: &str, terminal: Option<impl BufRead>) -> anyhow::Result<()> {
    let said_no = |what: &str| Failure::Refused(format!("{consequences}. Nothing was revoked; {what}"));
    let Some(mut terminal) = terminal else { return Err(said_no("if that is wanted: --yes").into()) };
    output::remark(&format!("{consequences}.\nType yes to go on:"));
    let mut answer = String::new();
    terminal.read_line(&mut answer)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(said_no("the answer was not yes").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_yes_is_a_yes() {
        assert!(confirm("it ends", Some(&b"yes\n"[..])).is_ok());
        for answer in ["", "\n", "y\n", "no\n", "yes please\n"] {
            let error = confirm("it ends", Some(answer.as_bytes())).unwrap_err();
            assert!(matches!(error.downcast_ref(), Some(Failure::Refused(_))), "{answer:?}: {error}");
        }
        let error = confirm("it ends", None::<&[u8]>).unwrap_err();
        assert_eq!(error.to_string(), "it ends. Nothing was revoked; if that is wanted: --yes");
    }
}
