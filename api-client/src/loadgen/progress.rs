//! Shows progress while requests are sent: every answer, a bar, or nothing.
//!
//! It never counts anything itself.

use std::{
    io::{IsTerminal as _, stderr, stdout},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    load::{Connections, Watcher},
    schedule::Amount,
    summary::Summary,
};
use crate::{
    outcome::{Answer, Failure},
    output::{Print, say},
    stop::Stop,
};

/// From this number of requests on, a terminal shows a progress bar instead of every answer.
const MANY: u64 = 100;
/// How often the bar is updated.
const TICK: Duration = Duration::from_millis(100);

/// What is shown while requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Display {
    Nothing,
    Answers,
    Bar,
}

impl Display {
    /// A measurement shows no answers, because writing them would change the result.
    pub(crate) fn choose(print: Print, amount: Amount, is_measurement: bool) -> Self {
        let on_terminal = stdout().is_terminal() && stderr().is_terminal();
        let is_long = match amount {
            Amount::Requests(requests) => requests >= MANY,
            Amount::Time(_) => true,
        };
        match print {
            Print::Json => Self::Nothing,
            Print::Text if is_long && on_terminal => Self::Bar,
            Print::Text if is_measurement => Self::Nothing,
            Print::Text => Self::Answers,
        }
    }

    /// Sends everything and shows the progress.
    pub(crate) async fn show(self, connections: &Connections, amount: Amount, stop: &Stop) -> anyhow::Result<Summary> {
        match self {
            Self::Nothing => Ok(connections.send(Watcher::Count(Arc::default()), stop).await),
            Self::Answers => {
                let (sender, outcomes) = mpsc::channel(1024);
                let (summary, shown) =
                    tokio::join!(connections.send(Watcher::Each(sender), stop), show_answers(outcomes));
                shown.map(|()| summary)
            }
            Self::Bar => {
                let done = Arc::<AtomicU64>::default();
                tokio::select! {
                    summary = connections.send(Watcher::Count(Arc::clone(&done)), stop) => Ok(summary),
                    never = show_bar(amount, &done) => never,
                }
            }
        }
    }
}

/// Ends after the last outcome, or when the reader has closed the pipe.
async fn show_answers(mut outcomes: mpsc::Receiver<Result<Answer, Failure>>) -> anyhow::Result<()> {
    while let Some(outcome) = outcomes.recv().await {
        match outcome {
            Ok(answer) => say(answer.body.trim_end())?,
            Err(failure) => say(failure)?,
        }
    }
    Ok(())
}

/// Never ends; dropping it removes the bar.
async fn show_bar<T>(amount: Amount, done: &AtomicU64) -> T {
    let (length, template) = match amount {
        Amount::Requests(requests) => (requests, "{bar:40} {pos}/{len} requests, {per_sec}, {eta} left"),
        Amount::Time(period) => {
            (u64::try_from(period.as_millis()).unwrap_or(u64::MAX), "{bar:40} {elapsed} of {msg}, {prefix}, {eta} left")
        }
    };
    let style = ProgressStyle::with_template(template).expect("the templates are valid constants");
    let bar = Cleared(ProgressBar::new(length).with_style(style));
    let began = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let done = done.load(Ordering::Relaxed);
        match amount {
            Amount::Requests(_) => bar.0.set_position(done),
            Amount::Time(period) => {
                bar.0.set_message(humantime::format_duration(period).to_string());
                bar.0.set_prefix(format!("{done} requests"));
                bar.0.set_position(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
            }
        }
    }
}

/// A bar that is cleared from the terminal when dropped.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
