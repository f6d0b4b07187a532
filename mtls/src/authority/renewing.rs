//! Renews a relying party's own certificate in time while it serves.
//!
//! It never interrupts anything: new handshakes present the new certificate as soon as it is on disk.

use std::{path::PathBuf, time::Duration};

use edge::{clock::Clock, random};
use pki::{renewal::Window, time::Timestamp};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{enroll::Enrolled, renew::Renewer};
use crate::{errors::error_chain, metrics::Metrics, tls::ServerIdentity};

/// How often the clock is read.
const LOOK: Duration = Duration::from_secs(1);
/// The fraction of a certificate's life (1/12) after which the authority is queried again when to renew, if that is not
/// announced.
const ASK_AGAIN: u32 = 12;
/// The fraction of the remaining time (1/10) between two attempts.
const RETRY: u32 = 10;
/// The lower and upper limit of that pause.
const RETRY_BETWEEN: [Duration; 2] = [Duration::from_secs(1), Duration::from_hours(1)];
/// How often a lasting failure is logged. More often for short lives.
const COMPLAIN: Duration = Duration::from_hours(24);

/// The task that renews.
#[derive(Debug)]
pub(crate) struct Renewing {
    renewer: Renewer,
    identity: ServerIdentity,
    clock: Clock,
    /// The number of the authority's last order to renew. `None` without a feed, because nothing is announced.
    orders: Option<watch::Receiver<Option<u64>>>,
    metrics: Metrics,
    /// The identity on disk that was read last.
    generation: Option<PathBuf>,
}

impl Renewing {
    pub(crate) fn new(
        renewer: Renewer,
        identity: ServerIdentity,
        clock: Clock,
        orders: Option<watch::Receiver<Option<u64>>>,
        metrics: Metrics,
    ) -> Self {
        Self { renewer, identity, clock, orders, metrics, generation: None }
    }

    /// Never returns.
    pub(crate) async fn run(mut self) {
        // One random number for each certificate, so that the same window gives the same time.
        let (mut serial, mut drawn) = (self.identity.serial(), draw());
        let mut complained: Option<Instant> = None;
        loop {
            let window = self.window().await;
            if self.identity.serial() != serial {
                (serial, drawn, complained) = (self.identity.serial(), draw(), None);
            }
            let due = window.pick(drawn);
            let life = self.identity.validity().lifetime();
            if !self.wait_until(due, life / ASK_AGAIN).await {
                continue;
            }
            match self.renewer.renew().await {
                Ok(renewed) => {
                    self.present(&renewed.enrolled);
                    // A clock that is wrong must not make certificates without end.
                    let [least, _] = RETRY_BETWEEN;
                    self.pause((life / ASK_AGAIN).clamp(least, LOOK * 5)).await;
                }
                Err(error) => {
                    self.metrics.renewed(false);
                    let not_after = self.identity.validity().not_after;
                    if complained.is_none_or(|at| at.elapsed() >= COMPLAIN.min(life / ASK_AGAIN)) {
                        let error = error_chain(&error);
                        warn!(%error, %not_after, "the certificate is due and cannot be renewed; it is tried again");
                        complained = Some(Instant::now());
                    }
                    let left = not_after.since(self.clock.now());
                    let [least, most] = RETRY_BETWEEN;
                    // After the end only an enrollment helps, which is seen on disk.
                    let least = if left.is_zero() { Duration::from_mins(1) } else { least };
                    self.pause((left / RETRY).clamp(least, most)).await;
                }
            }
        }
    }

    /// When to renew the certificate on disk, which another program may have renewed. If the authority cannot be
    /// queried, at the certificate's default time.
    async fn window(&mut self) -> Window {
        self.generation = self.renewer.files().generation();
        if let Ok(Some(enrolled)) = self.renewer.files().load() {
            if enrolled.identity.info().id.serial != self.identity.serial() {
                self.present(&enrolled);
            }
            if let Ok(window) = self.renewer.window(&enrolled).await {
                return window;
            }
        }
        Window::of(self.identity.validity())
    }

    fn present(&self, enrolled: &Enrolled) {
        match self.identity.replace(&enrolled.identity) {
            Ok(()) => {
                let info = enrolled.identity.info();
                self.metrics.renewed(true);
                info!(serial = %info.id.serial, not_after = %info.validity.not_after, "certificate renewed");
            }
            Err(error) => warn!(%error, "the renewed certificate cannot be presented"),
        }
    }

    /// Waits until the renewal is due. Returns `false` if the authority is to be queried again: the last query was long
    /// ago, or an order was announced.
    async fn wait_until(&mut self, due: Timestamp, ask_again: Duration) -> bool {
        let began = Instant::now();
        while self.clock.now() < due {
            // At least a few seconds, so that short lives cost the authority no more than long ones.
            let is_replaced = self.renewer.files().generation() != self.generation;
            if is_replaced || began.elapsed() >= ask_again.max(LOOK * 5) || self.pause(LOOK).await {
                return false;
            }
        }
        true
    }

    /// Returns whether an order ended the pause.
    async fn pause(&mut self, at_most: Duration) -> bool {
        let Some(orders) = &mut self.orders else {
            sleep(at_most).await;
            return false;
        };
        tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    self.orders = None;
                }
                changed.is_ok()
            }
            () = sleep(at_most) => false,
        }
    }
}

fn draw() -> u64 {
    u64::from_ne_bytes(random::bytes())
}
