//! Time above the log: on the leader, a tick when something is due; on every node, renewals for living
//! clients and the forgetting of silent ones.
//!
//! The tick carries no time of its own: the batch's stamp is the time, on every node the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Broker;
use crate::broker::invisible::handle;
use crate::env::fault::planted_bug;
use crate::env::fault::planted_bug::PlantedBug;
use crate::machine::command::GiveBack;
use crate::machine::{Command, Outcome};
use crate::model::{Millis, QueueId, Term, Timestamp};

/// Longest sleep of the leader's timer, so that a lost wake-up costs little.
const TICK_SLEEP_MAX: Millis = Millis(500);
const TICK_WAIT: Duration = Duration::from_secs(1);
const RENEW_EVERY: Duration = Duration::from_secs(5);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

impl Broker {
    /// Runs until its task is aborted.
    pub async fn run_timers(self: Arc<Self>) {
        tokio::join!(self.tick_on_leader(), self.renew_and_expire(), self.sample_traffic(), self.probe_members());
    }

    async fn tick_on_leader(&self) {
        let mut leadership = self.replica.leadership();
        let mut term = Term(0);
        loop {
            // Fails only when the replica has stopped; the owner of this task then aborts it.
            if leadership.wait_for(|now| now.is_self).await.is_err() {
                return std::future::pending().await;
            }
            if planted_bug::is(PlantedBug::LeaseInLeaderMemory)
                && std::mem::replace(&mut term, leadership.borrow().term) != leadership.borrow().term
            {
                self.forget_leases().await;
            }
            // Whatever falls due from here on ends the sleep below.
            self.arrivals.sleeps_until(Timestamp(u64::MAX));
            let next = match self.replica.view().next_due() {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "what is due cannot be read");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                    continue;
                }
            };
            let now = self.now();
            match next {
                Some(due) if due <= now => match self.propose(&Command::Tick, Instant::now() + TICK_WAIT).await {
                    Ok((index, Outcome::Ticked { .. })) => {
                        self.caught_up(index, Instant::now() + TICK_WAIT).await;
                    }
                    Ok(_) | Err(_) => tokio::time::sleep(PAUSE_AFTER_FAILURE).await,
                },
                _ => {
                    self.arrivals.sleeps_until(next.unwrap_or(Timestamp(u64::MAX)));
                    let sleep = next.map_or(TICK_SLEEP_MAX, |due| due.since(now).min(TICK_SLEEP_MAX));
                    // An earlier due time ends the sleep; its own end is no failure.
                    let _ = tokio::time::timeout(sleep.into(), self.arrivals.due_changed()).await;
                }
            }
        }
    }

    /// A planted bug: a new leader ends all leases.
    async fn forget_leases(&self) {
        let view = self.replica.view();
        let Ok(topics) = view.topics() else { return };
        let Ok(groups) = view.groups() else { return };
        for (topic, record) in topics {
            for (group, queue) in
                groups.iter().flat_map(|(group, _)| (0..record.queues).map(|queue| (*group, QueueId(queue))))
            {
                let leases = view.leases(topic, group, queue).unwrap_or_default().into_iter();
                let leases =
                    leases.filter(|(_, lease)| !lease.held.is_empty()).map(|(at, lease)| handle(at, &lease)).collect();
                let command = Command::GiveBack(GiveBack { leases, after: Millis(0) });
                let _ = self.propose(&command, Instant::now() + TICK_WAIT).await;
            }
        }
    }

    async fn renew_and_expire(&self) {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            self.sessions.expire();
            if let Err(error) = self.renew_for_living().await {
                tracing::warn!(%error, "leases of living clients were not renewed this time");
            }
        }
    }

    async fn sample_traffic(&self) {
        loop {
            tokio::time::sleep(SAMPLE_EVERY).await;
            self.traffic.sample();
        }
    }
}
