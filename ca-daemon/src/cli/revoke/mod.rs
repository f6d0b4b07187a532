//! `ca-daemon revoke`: makes certificates worthless, for good, publishes that, and waits until every relying party
//! enforces it.
//!
//! A revocation takes one way: it is selected, recorded by the authority, and concluded over the daemon's socket. It
//! never revokes what was not selected.

mod conclusion;
mod dry_run;
mod enforcement;
pub(in crate::cli) mod holders;
mod issuing;
mod report;
mod selection;
mod waiting;

use std::collections::HashSet;

use clap::Args;
use pki::{crl::RevocationReason, time::Timestamp, token::TokenId};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use self::{
    conclusion::{Following, WaitOptions, conclude},
    issuing::ByRoot,
    report::{Outcome, Report},
    selection::{Selected, Selection},
    waiting::Committed,
};
use crate::{
    authority::Authority,
    cli::{
        Context,
        commands::list::UNKNOWN,
        ui::{
            arguments::Reasons,
            output::{self, NAMED, joined},
        },
    },
    issuer::Issuer,
    operator::DaemonConnection,
    store::{CertificateRecord, Lines, Revoked, Store, StoreError, Target, TokenRecord, WithTokens},
};

/// What is revoked besides the certificates.
#[derive(Debug, Args)]
struct Besides {
    /// Revoke the tokens as well that enrolled what is revoked and could enroll somebody else
    #[arg(long, conflicts_with = "issuing")]
    with_token: bool,
    /// Revoke no more than is selected: not what was renewed from it, nor what it was renewed from
    #[arg(long, conflicts_with = "issuing")]
    only_this: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Why
    #[arg(long, default_value_t, value_parser = Reasons)]
    reason: RevocationReason,
    #[command(flatten)]
    besides: Besides,
    #[command(flatten)]
    by_root: ByRoot,
    /// Say what would be revoked and who of it is connected where right now, and revoke nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    waiting: WaitOptions,
}

pub(in crate::cli) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<()> {
    let authority = context.authority().await?;
    let Arguments { selection, reason, besides, by_root, dry_run, waiting } = arguments;
    if selection.issuing {
        return issuing::run(context, authority, &by_root, reason, dry_run, &waiting).await;
    }
    let now = context.clock.now();
    let lines = if besides.only_this { Lines::Leave } else { Lines::Take };
    let selected = selection.select(authority, lines, now).await?;
    remark_on_left_out(&selected);
    remark_on_lines(&selected);
    let usable = usable_tokens(authority.store(), &selected.records, selection.tokens(), now).await?;
    if !besides.with_token {
        for token in usable.iter().take(NAMED) {
            output::remark(&still_enrolls(token));
        }
    }
    if dry_run {
        if !selected.unknown.is_empty() {
            let serials: Vec<_> = selected.unknown.iter().map(|(serial, _)| *serial).collect();
            output::remark(&format!("would be revoked, too, and is not known here: {}", joined(&serials)));
        }
        return dry_run::run(context, authority, &selected.records, waiting.patience()).await;
    }
    // From here on, Ctrl-C stops the waiting and nothing else.
    let interrupt = signal(SignalKind::interrupt())?;
    let daemon = DaemonConnection::open(&context.directory).await;
    remark_on_several(&selected.records);
    if let Some(ahead) = authority.store().newest(Issuer::Issuing).await?.ahead {
        output::remark(&ahead.to_string());
    }
    let with_tokens = if besides.with_token { WithTokens::Revoke } else { WithTokens::Leave };
    let revoked = record(authority, &selected, with_tokens, reason, now).await?;
    let committed =
        Committed { issuer: Issuer::Issuing, number: revoked.crl, at: Instant::now(), outlasting: revoked.outlasting };
    let is_published = matches!(daemon, Ok(Some(_)));
    let report = report_on(authority.store(), selected, revoked, &usable, reason, is_published, now).await;
    let following = Following { store: authority.store(), daemon, committed, interrupt };
    conclude(context, &waiting, following, report).await
}

/// Has the authority revoke what was selected.
async fn record(
    authority: &Authority,
    selected: &Selected,
    with_tokens: WithTokens,
    reason: RevocationReason,
    now: Timestamp,
) -> Result<Revoked, StoreError> {
    let serials: Vec<_> = selected.records.iter().map(|record| record.serial).collect();
    let Selected { names, tokens, lines, strays, unknown, .. } = selected;
    let target = Target { serials: &serials, lines: *lines, names, tokens, with_tokens, strays, unknown };
    authority.revoke_target(target, reason, now).await
}

fn remark_on_left_out(selected: &Selected) {
    if !selected.left_out.is_empty() {
        let left_out: Vec<_> = selected.left_out.iter().map(|record| record.serial).collect();
        output::remark(&format!(
            "left out: the authority's own server certificate, which has to be named: {}",
            joined(&left_out)
        ));
    }
}

fn remark_on_lines(selected: &Selected) {
    if !selected.heirs.is_empty() {
        output::remark(&format!(
            "renewed from one another, and valid: {} as well (--only-this leaves them out)",
            joined(&selected.heirs)
        ));
    }
}

fn remark_on_several(records: &[CertificateRecord]) {
    if let [first, rest @ ..] = records
        && !rest.is_empty()
        && rest.len() < NAMED
        && rest.iter().all(|record| record.common_name == first.common_name)
    {
        let serials: Vec<_> = records.iter().map(|record| record.serial).collect();
        output::remark(&format!(
            "{} has {} certificates, revoking all: {}",
            first.common_name,
            serials.len(),
            joined(&serials)
        ));
    }
}

/// What was revoked, with names for serial numbers.
async fn report_on(
    store: &Store,
    selected: Selected,
    revoked: Revoked,
    usable: &[TokenRecord],
    reason: RevocationReason,
    is_published: bool,
    now: Timestamp,
) -> Report {
    let Selected { mut records, left_out, unknown, .. } = selected;
    // What was issued under one of the names or tokens since it was read comes last.
    let (outcomes, of_unknown) = revoked.outcomes.split_at(revoked.outcomes.len() - unknown.len());
    for (serial, _) in &outcomes[records.len()..] {
        match store.by_serial(serial, now).await {
            Ok(record) => records.extend(record),
            Err(error) => output::remark(&format!("{serial} was revoked, too; its name cannot be read: {error}")),
        }
    }
    let certificates = records
        .iter()
        .zip(outcomes)
        .map(|(record, (_, outcome))| Outcome::new(record.serial, record.common_name.clone(), *outcome, now, reason));
    if !of_unknown.is_empty() && reason.is_compromise() {
        output::remark(
            "the key of a certificate that is not known here is not known either, so it may be certified again; name its file, \
             if there is one: --cert FILE",
        );
    }
    let of_unknown = of_unknown.iter().map(|(serial, outcome)| {
        let name = format!("a certificate {UNKNOWN}");
        Outcome { key_compromised: false, ..Outcome::new(*serial, name, *outcome, now, reason) }
    });
    let is_left = |token: &TokenId| !revoked.tokens.contains(token);
    let certificates = certificates.chain(of_unknown).collect();
    Report {
        usable_tokens: usable.iter().map(TokenRecord::id).filter(is_left).collect(),
        revoked_tokens: revoked.tokens,
        left_out: left_out.iter().map(|record| record.serial).collect(),
        ..Report::new(certificates, revoked.crl, is_published)
    }
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
