//! `ca-daemon list`: which certificates there are.
//!
//! It never changes anything.

use std::ops::Not;

use clap::{Args, ValueEnum};
use pki::{
    certificate::CertificateInfo, name::NamePattern, profile::Profile, serial::Serial, time::Timestamp, token::TokenId,
};
use serde::Serialize;

use crate::{
    cli::{
        Context,
        ui::{arguments::Span, output},
    },
    store::{CertificateRecord, Filter, Status, StrayRevocation, Wanted},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Only these common names; * stands for any characters
    #[arg(long, value_name = "PATTERN", value_parser = |text: &str| NamePattern::try_from(text.to_owned()))]
    name: Option<NamePattern>,
    /// Only what is this now
    #[arg(long)]
    status: Option<Asked>,
    /// Only what is valid now and will not be after this time
    #[arg(long, value_name = "DURATION")]
    expiring_within: Option<Span>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Asked {
    Valid,
    Revoked,
    Expired,
    /// Valid, if the issuing CA were not revoked
    IssuerRevoked,
}

impl From<Asked> for Wanted {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Valid => Self::Valid,
            Asked::Revoked => Self::Revoked,
            Asked::Expired => Self::Expired,
            Asked::IssuerRevoked => Self::IssuerRevoked,
        }
    }
}

/// The name of what a restored database has forgotten, and what is said of that.
pub(in crate::cli) const UNKNOWN: &str = "not known here otherwise";

/// What is printed of a revocation of which the certificate is not known here.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Stray {
    pub(in crate::cli) serial: Serial,
    pub(in crate::cli) not_after: Timestamp,
    not_known_here_otherwise: bool,
    #[serde(flatten)]
    pub(in crate::cli) status: Status,
}

impl Stray {
    pub(in crate::cli) fn new(stray: &StrayRevocation) -> Self {
        let StrayRevocation { serial, revoked_at: at, reason, not_after, .. } = *stray;
        Self { serial, not_after, not_known_here_otherwise: true, status: Status::Revoked { at, reason } }
    }
}

/// What is printed of a certificate.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Listed {
    pub(in crate::cli) serial: Serial,
    pub(in crate::cli) name: String,
    pub(in crate::cli) profile: Profile,
    pub(in crate::cli) names: Vec<String>,
    pub(in crate::cli) not_before: Timestamp,
    pub(in crate::cli) not_after: Timestamp,
    pub(in crate::cli) issued_at: Timestamp,
    /// The token that it was enrolled with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) token: Option<TokenId>,
    /// It was recorded out of its file, to be revoked.
    #[serde(skip_serializing_if = "Not::not")]
    pub(in crate::cli) not_known_here_otherwise: bool,
    #[serde(flatten)]
    pub(in crate::cli) status: Status,
}

impl Listed {
    pub(in crate::cli) fn new(record: &CertificateRecord) -> anyhow::Result<Self> {
        Ok(Self {
            serial: record.serial,
            name: record.common_name.clone(),
            profile: record.profile,
            names: CertificateInfo::from_der(&record.der)?.names,
            not_before: record.validity.not_before,
            not_after: record.validity.not_after,
            issued_at: record.issued_at,
            token: record.token.clone(),
            not_known_here_otherwise: record.adopted_at.is_some(),
            status: record.status,
        })
    }
}

pub(in crate::cli) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<()> {
    let now = context.clock.now();
    // Of these, nothing but the serial number and the revocation is known.
    let with_strays = arguments.name.is_none()
        && arguments.expiring_within.is_none()
        && matches!(arguments.status, None | Some(Asked::Revoked));
    let filter = Filter {
        name: arguments.name,
        status: arguments.status.map(Wanted::from),
        expiring_by: arguments.expiring_within.map(|span| now.plus(span.0)),
        ..Filter::default()
    };
    let authority = context.authority().await?;
    if let Some(revocation) = authority.store().issuer_revocation().await? {
        output::remark(&revocation.to_string());
    }
    let mut pages = authority.store().pages(filter, now).await?;
    let mut list = context.output.list(["SERIAL", "PROFILE", "STATUS", "UNTIL", "NAME"]);
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        let listed = page.iter().map(Listed::new).collect::<anyhow::Result<Vec<_>>>()?;
        list.add(&listed, |certificate| {
            [
                certificate.serial.to_string(),
                certificate.profile.to_string(),
                certificate.status.as_str().to_owned(),
                output::day(certificate.not_after),
                certificate.name.clone(),
            ]
        })?;
    }
    let mut strays = if with_strays { authority.store().stray_revocations(None).await? } else { Vec::new() };
    while let Some(last) = strays.last().copied() {
        let page: Vec<_> = strays.iter().map(Stray::new).collect();
        list.add(&page, |stray| {
            let (profile, status) = ("-".to_owned(), stray.status.as_str().to_owned());
            [stray.serial.to_string(), profile, status, output::day(stray.not_after), UNKNOWN.to_owned()]
        })?;
        strays = authority.store().stray_revocations(Some(&last)).await?;
    }
    list.end()
}
