//! `ca-daemon renewals`: how far the holders have come with what `renew` has ordered.
//!
//! It never orders anything.

use pki::{serial::Serial, time::Timestamp};
use serde::Serialize;

use crate::{
    cli::{
        Context,
        ui::{columns::table, output::NAMED},
    },
    store::{NotReplaced, RenewalOrder, RenewalProgress},
};

/// An order, as it is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Order {
    names: String,
    ordered_at: Timestamp,
    within_seconds: u64,
}

impl Order {
    pub(in crate::cli) fn new(order: &RenewalOrder) -> Self {
        let RenewalOrder { names, ordered_at, within, .. } = order;
        Self { names: names.to_string(), ordered_at: *ordered_at, within_seconds: within.as_secs() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Renewal {
    #[serde(flatten)]
    order: Order,
    replaced: u64,
    waiting: u64,
    /// The first of those that wait.
    not_replaced: Vec<Waiting>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    serial: Serial,
    name: String,
    not_after: Timestamp,
}

/// How many of those that wait `--json` names.
const MOST: usize = 1_000;

pub(in crate::cli) async fn run(context: &Context) -> anyhow::Result<()> {
    let authority = context.authority().await?;
    let store = authority.store();
    let mut renewals = Vec::new();
    for order in store.renewal_orders(context.clock.now()).await? {
        let progress = store.renewal_progress(&order, MOST).await?;
        renewals.push(renewal(&order, progress));
    }
    context.output.print(&renewals, |renewals| match renewals.as_slice() {
        [] => "no renewal was ordered that a certificate may still be waiting for\n".to_owned(),
        renewals => renewals.iter().map(text).collect::<Vec<_>>().join("\n"),
    })
}

fn renewal(order: &RenewalOrder, progress: RenewalProgress) -> Renewal {
    let RenewalProgress { replaced, waiting, waiting_count } = progress;
    let waiting =
        waiting.into_iter().map(|NotReplaced { serial, name, not_after }| Waiting { serial, name, not_after });
    Renewal { order: Order::new(order), replaced, waiting: waiting_count, not_replaced: waiting.collect() }
}

fn text(renewal: &Renewal) -> String {
    let Renewal { order, replaced, waiting, not_replaced } = renewal;
    let all = replaced + waiting;
    let mut text = format!("{} (ordered at {}): {replaced} of {all} replaced\n", order.names, order.ordered_at);
    if !not_replaced.is_empty() {
        let rows = not_replaced
            .iter()
            .take(NAMED)
            .map(|Waiting { serial, name, not_after }| [name.clone(), serial.to_string(), not_after.to_string()]);
        text += &table(["not replaced", "serial", "valid until"], rows);
    }
    match waiting.saturating_sub(NAMED as u64) {
        0 => text,
        more => text + &format!("... and {more} more; --json names {MOST}\n"),
    }
}
