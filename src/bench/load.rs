//! Senders: workers with one request in flight each, at full speed or on a schedule.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::bench::body::{Filler, Proof};
use crate::bench::driver::Driver;
use crate::bench::tally::{SentMessage, Tally, micros};
use crate::client::wire_time;
use crate::model::Timestamp;
use crate::proto::v2;

/// Pause of a worker after a refused or failed request.
const PAUSE: Duration = Duration::from_millis(20);

/// What all workers of a run share.
pub(super) struct LoadState {
    pub run: u64,
    pub started: Instant,
    pub wall: fn() -> Timestamp,
    pub phase: Phase,
    pub pace: Pace,
    /// Messages to send in all, if the run ends by count.
    pub budget: Option<AtomicU64>,
    /// Messages acknowledged so far.
    pub stored: AtomicU64,
    pub filler: Filler,
    pub batch: usize,
    /// Of delayed messages.
    pub delay: Option<Duration>,
}

impl LoadState {
    /// When a message sent now is to be delivered.
    fn delivery(&self, born: Timestamp) -> Option<Timestamp> {
        self.delay.map(|delay| born.plus(delay.into()))
    }
}

/// Where a run is; latencies and counts are taken in the window only.
#[derive(Default)]
pub(super) struct Phase(AtomicU8);

impl Phase {
    pub fn measure(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.0.store(2, Ordering::Relaxed);
    }

    pub fn is_measured(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }

    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 2
    }
}

/// When requests leave.
pub(super) enum Pace {
    /// As soon as the one before was answered.
    Closed,
    /// At fixed times, whatever the server does.
    Open {
        /// Time between two requests of all workers together.
        every: Duration,
        /// Requests scheduled so far.
        scheduled: AtomicU64,
    },
}

impl Pace {
    /// So many messages a second in requests of `batch`.
    pub fn at_rate(messages_per_second: f64, batch: usize) -> Self {
        let every = Duration::from_secs_f64(batch as f64 / messages_per_second);
        Self::Open { every, scheduled: AtomicU64::new(0) }
    }

    /// Waits for the next request's time, and gives it.
    async fn next(&self, started: Instant) -> Instant {
        let Self::Open { every, scheduled } = self else { return Instant::now() };
        let number = scheduled.fetch_add(1, Ordering::Relaxed);
        let nanos = every.as_nanos().saturating_mul(number.into());
        let at = started + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        tokio::time::sleep_until(at).await;
        at
    }
}

/// Sends until the run is over.
pub(super) async fn work(mut connection: Driver, worker: u32, shared: Arc<LoadState>, tally: Rc<RefCell<Tally>>) {
    let mut sent = SentMessage { worker, next: 0, unknown: Vec::new() };
    let topic = connection.topic();
    while !shared.phase.is_over() && has_budget(&shared) {
        let at = shared.pace.next(shared.started).await;
        if shared.phase.is_over() {
            break;
        }
        let first = sent.next;
        let queue = connection.writable().get((worker + first) as usize % connection.writable().len().max(1)).copied();
        let born = (shared.wall)();
        let delivery = shared.delivery(born);
        // How late a delayed message is counts from its time on the wall; how long others take, from the schedule.
        let stamp_us = delivery.map_or_else(|| micros(at.duration_since(shared.started)), |at| at.0 * 1000);
        let messages: Vec<v2::Message> = (0..shared.batch as u32)
            .map(|step| {
                let proof = Proof { run: shared.run, worker, sequence: first + step, stamp_us };
                message(&topic, proof, queue.unwrap_or_default(), (born, delivery), &shared.filler)
            })
            .collect();
        sent.next += shared.batch as u32;
        let (stored, failure) = connection.send(messages).await;
        let took = Instant::now().duration_since(at);
        let is_measured = shared.phase.is_measured();
        if stored == shared.batch {
            shared.stored.fetch_add(stored as u64, Ordering::Relaxed);
            if is_measured {
                let mut tally = tally.borrow_mut();
                tally.messages += stored as u64;
                tally.latency_us.saturating_record(micros(took));
            }
            continue;
        }
        sent.unknown.extend(first..first + shared.batch as u32);
        tally.borrow_mut().failed(failure);
        tokio::time::sleep(PAUSE).await;
    }
    tally.borrow_mut().sent.push(sent);
}

fn has_budget(shared: &LoadState) -> bool {
    let Some(budget) = &shared.budget else { return true };
    let take = |left: u64| left.checked_sub(shared.batch as u64);
    budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
}

/// A message that proves itself, to be delivered at a time.
pub(super) fn message(
    topic: &v2::Resource,
    proof: Proof,
    queue: i32,
    (born, delivery): (Timestamp, Option<Timestamp>),
    filler: &Filler,
) -> v2::Message {
    let message_type = if delivery.is_some() { v2::MessageType::Delay } else { v2::MessageType::Normal };
    v2::Message {
        topic: Some(topic.clone()),
        user_properties: BTreeMap::new(),
        system_properties: Some(v2::SystemProperties {
            message_id: format!("01{:016X}{:08X}{:08X}", proof.run, proof.worker, proof.sequence),
            message_type: message_type.into(),
            born_timestamp: Some(wire_time(born)),
            born_host: "bench".to_owned(),
            queue_id: queue,
            delivery_timestamp: delivery.map(wire_time),
            ..Default::default()
        }),
        body: filler.body(proof),
    }
}
