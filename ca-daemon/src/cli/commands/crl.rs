//! `ca-daemon crl`: writes the current CRL to a file, signs a new one, or takes back revocations from earlier ones.
//!
//! It never reads another key than the given one.

use std::{borrow::Cow, path::PathBuf, sync::Arc};

use clap::Args;
use edge::files::{self, Access};
use pki::{crl::CrlNumber, pem, time::Timestamp};
use serde::Serialize;

use crate::{
    authority::{Authority, PublishError, TakeBackError, read_pem},
    cli::{
        Context, Failure,
        ui::{output, targets::Target},
    },
    issuer::Issuer,
    store::{CrlHead, CrlRecord, StoreError, TakenBack},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Write to this file; - is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: Target,
    /// PEM instead of DER
    #[arg(long)]
    pem: bool,
    /// The root's CRL instead of the issuing CA's
    #[arg(long)]
    root: bool,
    /// Sign and publish a new one first. Use this on a database that is an older copy to continue without the
    /// revocations that it lacks
    #[arg(long)]
    resign: bool,
    /// The root's key, if it is stored elsewhere
    #[arg(long, value_name = "FILE", requires = "root", requires = "resign")]
    root_key: Option<PathBuf>,
    /// Take back revocations from these CRLs of this authority (DER or PEM, complete or delta) into a database that is
    /// an older copy, and publish them
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["out", "pem", "root", "resign"])]
    import: Vec<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    issuer: &'static str,
    number: CrlNumber,
    this_update: Timestamp,
    next_update: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pem: Option<String>,
}

pub(in crate::cli) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.import.is_empty() { write(context, arguments).await } else { import(context, &arguments.import).await }
}

async fn import(context: &Context, paths: &[PathBuf]) -> anyhow::Result<()> {
    let mut crls = Vec::new();
    for path in paths {
        let octets = files::read(path)?;
        if pem::is_crl(&octets) {
            crls.extend(read_pem(&octets).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?);
        } else {
            crls.push(octets);
        }
    }
    let authority = context.authority().await?;
    let taken = authority.take_back(crls).await.map_err(|error| match error {
        TakeBackError::Store(error @ StoreError::MissingBase { .. }) => Failure::Refused(error.to_string()).into(),
        error @ (TakeBackError::NotOurs(_) | TakeBackError::NoCrl | TakeBackError::LastNumber(_)) => {
            Failure::Refused(error.to_string()).into()
        }
        error => anyhow::Error::from(error),
    })?;
    // A running daemon notices the publication by itself.
    for issuer in Issuer::ALL {
        if taken.iter().all(|list| list.issuer != issuer || list.was_known) {
            continue;
        }
        match authority.publish(issuer, context.clock.now()).await {
            Err(error @ PublishError::NoRootKey) => output::remark(&format!("to publish what was taken back: {error}")),
            published => drop(published?),
        }
    }
    context.output.print(&taken, |taken| taken.iter().map(imported).collect())
}

fn imported(list: &TakenBack) -> String {
    let TakenBack { issuer, number, revocations, was_known } = list;
    let what = if *was_known {
        "known, nothing to take back".to_owned()
    } else {
        format!("{revocations} revocations taken back")
    };
    format!("{issuer} CRL number {number}: {what}\n")
}

async fn write(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let is_document = context.output.is_json() && arguments.out == Target::Output;
    if !arguments.pem && !is_document && arguments.out.is_terminal() {
        let message = "DER does not belong on a terminal; choose --pem, or a file with --out FILE".to_owned();
        return Err(Failure::Refused(message).into());
    }
    let authority = context.authority().await?;
    let issuer = if arguments.root { Issuer::Root } else { Issuer::Issuing };
    let newest = authority.store().newest(issuer).await?;
    // Revocations leave a large complete CRL to the daemon, which may not run. But if the database lacks revocations,
    // no CRL is signed just to be written to a file.
    let crl = if arguments.resign || (newest.complete < newest.number && newest.ahead.is_none()) {
        resign(context, arguments, authority, issuer).await?
    } else {
        authority.store().crl(issuer).await?
    };
    let file = match &arguments.out {
        Target::Output => None,
        target @ Target::File(_) => Some(target.to_string()),
    };
    if !is_document {
        // Borrowed, because a large CRL should not be copied.
        let octets = if arguments.pem { Cow::from(pem::crl(&crl.der).into_bytes()) } else { Cow::from(&crl.der) };
        arguments.out.write(&context.output, &octets, Access::Public)?;
    }
    if is_document || file.is_some() {
        let written = Written {
            issuer: issuer.as_str(),
            number: crl.head.number,
            this_update: crl.head.this_update,
            next_update: crl.head.next_update,
            pem: is_document.then(|| pem::crl(&crl.der)),
            file,
        };
        context.output.print(&written, |written| {
            let file = written.file.as_deref().unwrap_or("standard output");
            let Written { issuer, number, next_update, .. } = written;
            format!("{issuer} CRL number {number}, good until {next_update}, is in {file}")
        })?;
    }
    // Relying parties refuse a stale CRL, so the operator has to know.
    if crl.head.next_update < context.clock.now() {
        let CrlHead { number, next_update, .. } = crl.head;
        anyhow::bail!(
            "the {issuer} CRL number {number} is stale since {next_update}: start the daemon, or sign a new one with \
             --resign"
        );
    }
    Ok(())
}

async fn resign(
    context: &Context,
    arguments: &Arguments,
    authority: &Authority,
    issuer: Issuer,
) -> anyhow::Result<CrlRecord> {
    let now = context.clock.now();
    let crl = match &arguments.root_key {
        None => authority.publish(issuer, now).await?,
        Some(key) => {
            let signer = context.directory.load_authority(issuer, key, authority.settings())?;
            authority.publish_with(issuer, Arc::new(signer), now).await?
        }
    };
    if arguments.resign {
        authority.store().accept_loss(issuer).await?;
    }
    Ok(crl)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use edge::clock::Clock;

    use crate::{
        authority::tests::{Fixture, now},
        cli::tests::execute,
    };

    #[tokio::test]
    async fn a_stale_crl_is_written_with_a_warning() {
        let fixture = Fixture::new().await;
        let file = fixture.directory.path().join("list");
        let crl = |at, options: &[&str]| {
            let arguments =
                [&["crl", "--out", file.to_str().unwrap()], options].concat().into_iter().map(str::to_owned);
            let (clock, arguments, directory) = (Clock::manual(at), arguments.collect::<Vec<_>>(), &fixture.directory);
            async move { execute(directory, &clock, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await }
        };
        assert_eq!(crl(now(), &[]).await, 0);
        let later = now().plus(Duration::from_hours(24 * 30));
        for form in [&[][..], &["--pem"], &["--json"]] {
            std::fs::remove_file(&file).unwrap();
            assert_eq!(crl(later, form).await, 1, "{form:?}");
            assert!(file.exists(), "it is written all the same");
        }
        assert_eq!(crl(later, &["--resign"]).await, 0);
    }
}
