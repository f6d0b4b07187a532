//! `ca-daemon show`: everything that is known of a certificate.
//!
//! It never changes anything.

use clap::Args;
use pki::{
    certificate::{CertificateInfo, Fingerprint},
    name::Visible,
    pem,
    serial::Serial,
    time::Timestamp,
};
use serde::Serialize;

use crate::{
    cli::{
        Context, Failure,
        commands::list::{Listed, Stray, UNKNOWN},
    },
    store::{CertificateRecord, Status, Store, StrayRevocation},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// A serial number in hexadecimal, or a common name
    #[arg(value_name = "SERIAL|NAME")]
    which: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    listed: Listed,
    subject: String,
    issuer: String,
    fingerprint: Fingerprint,
    /// The serial number of the certificate that it was renewed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<Serial>,
    /// Those of the certificates that were renewed from it, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    successors: Vec<Serial>,
    pem: String,
}

pub(in crate::cli) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let authority = context.authority().await?;
    if let Some(stray) = stray(authority.store(), &arguments.which).await? {
        return context.output.print(&[Stray::new(&stray)], |strays| strays.iter().map(stray_text).collect());
    }
    let Found { with_serial, with_name } = find(authority.store(), &arguments.which, context.clock.now()).await?;
    let mut all = Vec::new();
    for record in with_serial.iter().chain(&with_name) {
        all.push(shown(authority.store(), record).await?);
    }
    context.output.print(&all, |all| all.iter().map(text).collect::<Vec<_>>().join("\n"))
}

/// The revocation with this serial number, if nothing else is known of it.
async fn stray(store: &Store, which: &str) -> anyhow::Result<Option<StrayRevocation>> {
    let Ok(serial) = which.parse::<Serial>() else { return Ok(None) };
    Ok(store.stray_revocation(&serial).await?)
}

fn stray_text(stray: &Stray) -> String {
    let Stray { serial, not_after, .. } = stray;
    format!(
        "serial       {serial}
status       {}
certificate  {UNKNOWN}: a list that was taken back revokes it, or somebody who gave its serial number
in CRLs      until {not_after} at least
",
        status_text(stray.status)
    )
}

/// The certificates that people may mean by a word.
pub(in crate::cli) struct Found {
    /// The one with this serial number.
    pub(in crate::cli) with_serial: Option<CertificateRecord>,
    /// All others with this common name.
    pub(in crate::cli) with_name: Vec<CertificateRecord>,
}

/// The certificate with this serial number, and all with this name; at least one.
pub(in crate::cli) async fn find(store: &Store, which: &str, now: Timestamp) -> anyhow::Result<Found> {
    let with_serial = match which.parse::<Serial>() {
        Ok(serial) => store.by_serial(&serial, now).await?,
        Err(_) => None,
    };
    let mut with_name = store.by_name(which, now).await?;
    with_name.retain(|record| with_serial.as_ref().is_none_or(|found| found.serial != record.serial));
    if with_serial.is_none() && with_name.is_empty() {
        let message = format!("no certificate has the serial number or the name {which:?}; see: ca-daemon list");
        return Err(Failure::NothingMatches(message).into());
    }
    Ok(Found { with_serial, with_name })
}

async fn shown(store: &Store, record: &CertificateRecord) -> anyhow::Result<Shown> {
    let info = CertificateInfo::from_der(&record.der)?;
    let (predecessor, successors) = store.neighbours(&record.serial).await?;
    Ok(Shown {
        predecessor,
        successors,
        listed: Listed::new(record)?,
        subject: info.subject.to_string(),
        issuer: info.id.issuer.to_string(),
        fingerprint: Fingerprint::of(&record.der),
        pem: pem::certificate(&record.der),
    })
}

fn status_text(status: Status) -> String {
    match status {
        Status::Revoked { at, reason } => format!("revoked at {at} ({reason})"),
        Status::IssuerRevoked { at, reason } => format!("issuer revoked at {at} ({reason})"),
        status => status.as_str().to_owned(),
    }
}

fn text(shown: &Shown) -> String {
    let certificate = &shown.listed;
    let origin = match &certificate.token {
        Some(id) => format!("with token {id}"),
        None if certificate.not_known_here_otherwise => format!("at about that time, {UNKNOWN}"),
        None => "without a token".to_owned(),
    };
    let from = shown.predecessor.iter().map(|serial| ("renewed from", serial));
    let by = shown.successors.iter().map(|serial| ("renewed by  ", serial));
    let line: Vec<_> = from.chain(by).map(|(how, serial)| format!("{how} {serial}\n")).collect();
    let line = line.concat();
    format!(
        "serial       {}
status       {}
profile      {}
subject      {}
names        {}
issuer       {}
valid from   {}
valid until  {}
issued       {} {origin}
{line}SHA-256      {}
{}",
        certificate.serial,
        status_text(certificate.status),
        certificate.profile,
        shown.subject,
        Visible(&certificate.names.join(", ")),
        shown.issuer,
        certificate.not_before,
        certificate.not_after,
        certificate.issued_at,
        shown.fingerprint,
        shown.pem
    )
}
