//! `ca-daemon renew`: has certificates renewed before it is time.
//!
//! It never renews one itself: the private keys are with the holders.

use std::time::Duration;

use clap::Args;
use pki::name::NamePattern;
use serde::Serialize;

use crate::cli::{
    Context, Failure,
    commands::renewals::Order,
    ui::{arguments::Span, output},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Those with a common name like this; * stands for anything
    #[arg(long, value_name = "PATTERN", required_unless_present_any = ["issuer", "all"], conflicts_with_all = ["issuer", "all"])]
    name: Option<NamePattern>,
    /// All that the issuing CA has issued
    #[arg(long, conflicts_with = "all")]
    issuer: bool,
    /// All
    #[arg(long)]
    all: bool,
    /// Over how long a time the renewals are spread, so that they do not all come at once [default: at once]
    #[arg(long, value_name = "DURATION")]
    within: Option<Span>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(flatten)]
    order: Order,
    certificates: u64,
}

pub(in crate::cli) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<()> {
    let authority = context.authority().await?;
    let names = arguments.name.unwrap_or_else(|| "*".parse().expect("a star is a pattern"));
    let within = arguments.within.map_or(Duration::ZERO, |Span(within)| within);
    let store = authority.store();
    if let Some(revocation) = store.issuer_revocation().await? {
        return Err(Failure::Refused(format!("{revocation}; nothing is renewed")).into());
    }
    let order = store.order_renewal(&names, within, context.clock.now()).await?;
    let certificates = store.renewal_progress(&order, 0).await?.waiting_count;
    let report = Report { order: Order::new(&order), certificates };
    context.output.print(&report, |report| text(report, within))
}

fn text(report: &Report, within: Duration) -> String {
    let spread = if within.is_zero() { String::new() } else { format!(" within {}", output::span(within)) };
    format!(
        "{} certificates are to be renewed{spread}; services on the feed begin at once, others when they next ask. To see how far \
         they are: ca-daemon renewals\n",
        report.certificates
    )
}
