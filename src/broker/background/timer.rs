//! Time above the log: the leader proposes a tick when something is due.
//!
//! The tick carries no time of its own: the batch's stamp is the time, on every node the same. Both are the cluster
//! clock's.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Broker;
#[cfg(debug_assertions)]
use crate::broker::planted;
use crate::machine::{Command, Outcome};
use crate::model::{Millis, Timestamp};

/// Longest sleep of the leader's timer, so that a lost wake-up costs little.
const TICK_SLEEP_MAX: Millis = Millis(500);
const TICK_WAIT: Duration = Duration::from_secs(1);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Runs until it is dropped.
pub(super) async fn tick_on_leader(broker: &Broker) {
    let mut leadership = broker.leadership();
    loop {
        // Fails only when the replica has stopped; the owner of this task then aborts it.
        if leadership.wait_for(|now| now.is_self).await.is_err() {
            return std::future::pending().await;
        }
        #[cfg(debug_assertions)]
        planted::forget_leases_of_earlier_terms(broker).await;
        // Whatever falls due from here on ends the sleep below.
        broker.arrivals.sleeps_until(Timestamp(u64::MAX));
        let next = match broker.reader.view().next_due() {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(%error, "what is due cannot be read");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            }
        };
        let now = broker.machine_now();
        match next {
            Some(due) if due <= now => match broker.propose(&Command::Tick, Instant::now() + TICK_WAIT).await {
                Ok((index, Outcome::Ticked { .. })) => {
                    broker.reader.caught_up(index, Instant::now() + TICK_WAIT).await;
                }
                Ok(_) | Err(_) => tokio::time::sleep(PAUSE_AFTER_FAILURE).await,
            },
            _ => {
                broker.arrivals.sleeps_until(next.unwrap_or(Timestamp(u64::MAX)));
                let sleep = next.map_or(TICK_SLEEP_MAX, |due| due.since(now).min(TICK_SLEEP_MAX));
                // An earlier due time ends the sleep; its own end is no failure.
                let _ = tokio::time::timeout(sleep.into(), broker.arrivals.due_changed()).await;
            }
        }
    }
}
