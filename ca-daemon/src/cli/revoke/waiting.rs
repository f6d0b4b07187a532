//! The wait until every relying party enforces what was revoked, told as it goes on.
//!
//! It never says that something is enforced that nobody has confirmed.

use std::{io, time::Duration};

use edge::clock::Clock;
use pki::{crl::CrlNumber, time::Timestamp};
use tokio::{
    signal::unix::Signal,
    time::{Instant, timeout_at},
};

use crate::{
    cli::{
        revoke::enforcement::{Row, Rows},
        ui::output::{self, Reporter},
    },
    issuer::Issuer,
    operator::{Confirmed, DaemonConnection, Published, Wait},
    store::{RelyingParty, Store},
};

/// How much longer than asked for a daemon is waited for that does not answer at all.
pub(in crate::cli) const GRACE: Duration = Duration::from_secs(2);

/// The wait for the relying parties, told as it goes on.
pub(in crate::cli) struct Waiting<'a> {
    pub(in crate::cli) reporter: &'a Reporter,
    pub(in crate::cli) clock: &'a Clock,
    pub(in crate::cli) committed: Committed,
    /// None: nobody waits.
    pub(in crate::cli) patience: Option<Duration>,
    pub(in crate::cli) interrupt: &'a mut Signal,
}

/// What relying parties are to enforce.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Committed {
    pub(in crate::cli) issuer: Issuer,
    pub(in crate::cli) number: CrlNumber,
    /// Since when.
    pub(in crate::cli) at: Instant,
    /// Until when the last list is good that says less.
    pub(in crate::cli) outlasting: Timestamp,
}

/// What was heard of relying parties.
pub(in crate::cli) enum Heard {
    /// From the daemon, of everybody who is registered.
    OfEverybody(Vec<Row>),
    /// The daemon did not say who is registered: it went away, or nobody waited for longer. These the database knows.
    Silence(Vec<Row>),
    /// There is no daemon; these are the ones that the database knows.
    NoDaemon(Vec<Row>),
    /// Nobody waited for it.
    Nothing,
}

impl Waiting<'_> {
    /// Tells the daemon, and says who confirms until everybody has, the time is over or Ctrl-C is pressed.
    pub(in crate::cli) async fn follow(
        self,
        daemon: io::Result<DaemonConnection>,
        store: &Store,
    ) -> anyhow::Result<Heard> {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let wait = self.patience.map(|patience| Wait {
            issuer: self.committed.issuer,
            number: self.committed.number,
            committed_micros_ago: micros(self.committed.at.elapsed()),
            timeout_millis: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        });
        let mut rows = Rows::new(self.committed.issuer, self.committed.outlasting, self.reporter.is_for_people());
        let (mut is_told, mut is_heard, mut is_complete) = (false, false, false);
        // A daemon that goes away meanwhile, however it breaks the connection, takes nothing of the revocation with it.
        let deadline = Instant::now() + self.patience.unwrap_or_default() + GRACE;
        let mut asked = match daemon {
            Ok(daemon) => daemon.ask(Published { wait }).await.ok(),
            Err(error) => {
                output::remark(&format!("the daemon cannot be reached: {error}"));
                None
            }
        };
        loop {
            let heard = async {
                let answer = timeout_at(deadline, asked.as_mut()?.next()).await;
                answer.ok().and_then(Result::ok).flatten()
            };
            let answer = tokio::select! {
                answer = heard => answer,
                _ = self.interrupt.recv() => {
                    output::remark("stopped waiting; the certificates stay revoked");
                    None
                }
            };
            match answer {
                Some(Confirmed::Announced) => {
                    is_told = true;
                    if self.patience.is_none() {
                        return Ok(Heard::Nothing);
                    }
                }
                Some(Confirmed::RelyingParties(parties)) => {
                    is_heard = true;
                    rows.expect(parties);
                    self.say(&rows.header());
                }
                Some(Confirmed::Enforced { party, enforced }) => {
                    let lines = rows.enforced(*party, enforced, self.clock.now());
                    self.say(&lines);
                }
                Some(Confirmed::Missing(parties)) => {
                    is_complete = true;
                    rows.update(parties);
                    break;
                }
                Some(Confirmed::Failed(reason)) => {
                    output::remark(&format!("the daemon could not tell anybody: {reason}"));
                }
                None => {
                    if !is_told {
                        output::remark("the daemon does not answer; relying parties are told as soon as it does");
                    }
                    break;
                }
            }
        }
        if self.patience.is_none() {
            return Ok(Heard::Nothing);
        }
        if !is_heard {
            rows.expect(store.relying_parties().await?);
            self.say(&rows.header());
        }
        self.say(&rows.rest(self.clock.now()));
        self.say(&rows.summary());
        // Who came while it waited, a daemon says last; one that went away before that says nothing of them.
        let is_answered = is_heard && (is_complete || rows.all.iter().any(Row::is_missing));
        Ok(if is_answered { Heard::OfEverybody(rows.all) } else { Heard::Silence(rows.all) })
    }

    /// No daemon: says who has yet to hear of it.
    pub(in crate::cli) async fn nobody_to_tell(self, store: &Store) -> anyhow::Result<Heard> {
        self.say("no ca-daemon serves this authority, so nothing could be published to relying parties; the next one does it first thing at its start\n");
        let mut rows = Rows::new(self.committed.issuer, self.committed.outlasting, self.reporter.is_for_people());
        // Whoever was connected when the daemon went is not any more.
        let parties = store.relying_parties().await?.into_iter();
        rows.expect(parties.map(|party| RelyingParty { connected_since: None, ..party }).collect());
        self.say(&rows.header());
        self.say(&rows.rest(self.clock.now()));
        self.say(&rows.summary());
        Ok(if self.patience.is_some() { Heard::NoDaemon(rows.all) } else { Heard::Nothing })
    }

    pub(in crate::cli) fn say(&self, text: &str) {
        self.reporter.say(text);
    }
}
