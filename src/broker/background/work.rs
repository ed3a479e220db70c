//! The owner of a shard's background work: starts it with the shard, and ends it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::broker::Broker;
use crate::broker::background::{
    cluster_version, members, renewals, retention, terms, timer, trace_topic, transaction_checks,
};
use crate::broker::handle_key::draw_on_leader;
use crate::model::{MessageRef, TopicId};

const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const SHRINK_EVERY: Duration = Duration::from_secs(60);
const FORGET_EVERY: Duration = Duration::from_secs(20);
/// Time for what dropped polls left to do when the shard stops.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

/// What a shard does without being asked, while it runs.
pub struct Background {
    broker: Arc<Broker>,
    loops: JoinHandle<()>,
    turns: JoinHandle<()>,
}

impl Background {
    /// Starts everything on the current runtime, which is Raft's; `due_checks` as [`crate::broker::Arrivals::new`] gave
    /// them.
    pub fn start(broker: Arc<Broker>, due_checks: mpsc::Receiver<(TopicId, MessageRef)>) -> Self {
        let (shard, ending) = (broker.clone(), broker.clone());
        // Apart from the loops: it has its turn again and again, and they seldom.
        let turns = tokio::spawn(async move { ending.turns.end_turns().await });
        let loops = tokio::spawn(async move {
            tokio::join!(
                timer::tick_on_leader(&shard),
                cluster_version::raise(&shard),
                renewals::renew_for_living(&shard),
                sample_traffic(&shard),
                shrink_statistics(&shard),
                forget_idle(&shard),
                transaction_checks::ask_producers(shard.clone(), due_checks),
                draw_on_leader(&shard),
                trace_topic::make_on_leader(&shard),
                retention::retain_on_leader(&shard),
                members::see_changes_through(&shard),
                terms::note_leaders(&shard),
            );
        });
        Self { broker, loops, turns }
    }

    /// Ends the loops, and waits a moment for what dropped polls left to do; what is not done then, the ends of the
    /// leases do.
    pub async fn stop(&self) {
        self.loops.abort();
        self.turns.abort();
        self.broker.tasks.finish(FINISH_WITHIN).await;
    }
}

async fn sample_traffic(broker: &Broker) {
    loop {
        tokio::time::sleep(SAMPLE_EVERY).await;
        broker.traffic.sample();
    }
}

async fn shrink_statistics(broker: &Broker) {
    loop {
        tokio::time::sleep(SHRINK_EVERY).await;
        broker.statistics.shrink(broker.reader.view()).await;
    }
}

/// Groups and topics whose clients went leave nothing in memory.
async fn forget_idle(broker: &Broker) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        broker.arrivals.forget_idle();
        broker.reservations.forget_idle();
    }
}
