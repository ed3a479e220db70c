//! Receives above the log. Before: `edge/messaging/receive`; after: `machine/receive`.
//!
//! Hot path. Plan on the applied view, propose the grant, read the bodies that were granted. Nothing to
//! plan: wait for an arrival until the poll is over. While there is no leader the poll simply goes on.
//!
//! A grant whose fate is unknown (the leader died) is looked up by its token once a later entry is
//! applied: then it is either in the state or never will be, so no lease is left without its messages.

use std::time::Duration;

use tokio::time::Instant;

use super::plan::{Plan, Planned, Wanted};
use super::{Broker, Deadline, Error, RETRY_AFTER};
use crate::machine::command::{Ack, Candidate, Grant};
use crate::machine::outcome::Granted;
use crate::machine::send::PERMISSION_READ;
use crate::machine::{Batch, Command, Outcome, Rejected};
use crate::model::limits::RECEIVE_BATCH_MAX;
use crate::model::{
    GroupId, GroupName, LogIndex, Message, MessageRef, MessageType, Millis, QueueId, QueueOffset, ReceiptHandle,
    TagFilter, Timestamp, TopicId, TopicName,
};

/// How long a grant may take before its fate is looked up.
const GRANT_WAIT: Duration = Duration::from_millis(2500);

/// One poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receive {
    /// For whom.
    pub group: GroupName,
    /// From where.
    pub topic: TopicName,
    /// What.
    pub filter: TagFilter,
    /// Most messages.
    pub batch: u32,
    /// Length of the lease.
    pub invisible: Millis,
    /// Whether the broker prolongs it while the client lives.
    pub renew: bool,
    /// How long to wait for the first message.
    pub wait: Millis,
    /// Who asks.
    pub client_id: String,
    /// Names the attempt, for a lost answer.
    pub attempt_id: Option<String>,
}

/// One message handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Proof of the lease.
    pub handle: ReceiptHandle,
    /// Its queue.
    pub queue: QueueId,
    /// Its offset.
    pub offset: QueueOffset,
    /// Deliveries so far including this one.
    pub attempt: u32,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// Where it was stored: `host:port`.
    pub store_host: String,
}

impl Broker {
    /// Leases messages to a consumer; waits for the first until the poll is over. Empty: none came.
    pub async fn receive(&self, request: Receive, deadline: Deadline) -> Result<Vec<Delivery>, Error> {
        let (topic, record) = self.existing_topic(&request.topic).await?;
        if record.permission & PERMISSION_READ == 0 {
            return Err(Error::Forbidden(request.topic));
        }
        self.subscribe(request.group.clone(), vec![request.topic.clone()]).await?;
        let group = self.existing_group(&request.group).await?.id;
        let _slot = self.polls.try_acquire().map_err(|_| Error::Busy)?;
        let wait = Duration::from(request.wait).min(deadline.unwrap_or(Duration::MAX));
        let until = Instant::now() + wait;
        let limit = request.batch.clamp(1, RECEIVE_BATCH_MAX);
        let wanted = Wanted { topic, queues: record.queues, group, filter: &request.filter, limit };
        let bell = self.arrivals.bell(topic);
        loop {
            let mut arrival = std::pin::pin!(bell.notified());
            arrival.as_mut().enable();
            let plan = self.plans.make(self.replica.view(), wanted)?;
            if plan.planned.is_empty() {
                drop(plan);
                tokio::select! {
                    () = arrival => continue,
                    () = tokio::time::sleep_until(until) => return Ok(Vec::new()),
                    () = self.stopping.cancelled() => return Ok(Vec::new()),
                }
            }
            let deliveries = self.deliver(&request, wanted, &plan).await;
            let is_short = deliveries.as_ref().map_or(true, |deliveries| deliveries.len() < limit as usize);
            drop(plan);
            if is_short {
                // What this poll held back and did not take is free for those that wait.
                self.arrivals.ring(topic);
            }
            match deliveries {
                Ok(deliveries) if deliveries.is_empty() => {}
                Ok(deliveries) => {
                    self.traffic.count_out(deliveries.len());
                    return Ok(deliveries);
                }
                Err(Error::NoLeader | Error::Busy | Error::TimedOut) => tokio::time::sleep(RETRY_AFTER).await,
                Err(error) => return Err(error),
            }
            if Instant::now() >= until || self.stopping.is_cancelled() {
                return Ok(Vec::new());
            }
        }
    }

    async fn deliver(&self, request: &Receive, wanted: Wanted<'_>, plan: &Plan<'_>) -> Result<Vec<Delivery>, Error> {
        let granted = self.grant(request, wanted, plan).await?;
        let mut reader = BodyReader { broker: self, last: None };
        let mut deliveries = Vec::new();
        let mut unwanted = Vec::new();
        for lease in granted {
            let Some(planned) = plan.planned.get(lease.candidate as usize) else { continue };
            for bit in (0..64).filter(|bit| lease.messages >> bit & 1 == 1) {
                let Some((place, stored_at)) = planned.places.get(&bit) else { continue };
                let offset = QueueOffset(planned.first.0 + u64::from(bit));
                let handle = ReceiptHandle {
                    group: wanted.group,
                    topic: wanted.topic,
                    queue: planned.queue,
                    offset,
                    lease: lease.lease,
                };
                let message = reader.read(*place)?;
                // Equal tag hashes are no proof of equal tags.
                if !request.filter.matches(message.tag.as_deref()) {
                    unwanted.push(handle);
                    continue;
                }
                deliveries.push(Delivery {
                    message,
                    handle,
                    queue: planned.queue,
                    offset,
                    attempt: lease.attempt,
                    stored_at: *stored_at,
                    store_host: self.place.store_host.clone(),
                });
            }
        }
        if !unwanted.is_empty() {
            let ack = Command::Ack(Ack { handles: unwanted });
            self.propose_repeatable(&ack, self.settings.leader_wait).await?;
        }
        Ok(deliveries)
    }

    async fn grant(&self, request: &Receive, wanted: Wanted<'_>, plan: &Plan<'_>) -> Result<Vec<Granted>, Error> {
        // 0 marks leases that no grant made.
        let token = crate::env::rng::random_u64().max(1);
        let command = Command::Grant(Grant {
            group: wanted.group,
            topic: wanted.topic,
            limit: wanted.limit,
            invisible_for: request.invisible,
            renew_for: request.renew.then(|| request.client_id.clone()),
            token,
            candidates: plan.candidates(),
        });
        match self.propose(&command, GRANT_WAIT).await {
            Ok((index, Outcome::Granted(leases))) => {
                if leases.is_empty() {
                    // The plan was behind; the next one must see what overtook it.
                    self.caught_up(index, GRANT_WAIT).await;
                }
                Ok(leases)
            }
            Ok((_, Outcome::Rejected(Rejected::GroupNotFound))) => Err(Error::GroupNotFound(request.group.clone())),
            Ok((_, Outcome::Rejected(rejected))) => Err(Error::of_topic(rejected, &request.topic, MessageType::Normal)),
            Ok((_, other)) => Err(Error::unexpected(&other)),
            Err(Error::TimedOut) => self.find_grant(wanted.topic, wanted.group, token, plan).await,
            Err(error) => Err(error),
        }
    }

    /// What became of a grant whose answer was lost.
    async fn find_grant(
        &self,
        topic: TopicId,
        group: GroupId,
        token: u64,
        plan: &Plan<'_>,
    ) -> Result<Vec<Granted>, Error> {
        let (index, _) = self.propose_repeatable(&Command::Tick, GRANT_WAIT).await?;
        self.caught_up(index, GRANT_WAIT).await;
        if *self.replica.applied().borrow() < index {
            return Err(Error::TimedOut);
        }
        let view = self.replica.view();
        let mut found = Vec::new();
        for (candidate, planned) in (0u32..).zip(&plan.planned) {
            for (at, lease) in view.leases(topic, group, planned.queue)? {
                if lease.token == token && lease.first == planned.first && covers(planned, lease.held) {
                    let granted = Granted { candidate, lease: at.lease, messages: lease.held, attempt: lease.attempt };
                    if !found.contains(&granted) {
                        found.push(granted);
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Whether all of `messages` are among those a candidate wanted.
fn covers(planned: &Planned, messages: u64) -> bool {
    let wanted = match planned.candidate {
        Candidate::Returned { wanted, .. } | Candidate::Fresh { wanted, .. } => wanted,
    };
    messages != 0 && messages & !wanted == 0
}

/// Reads messages by reference; neighbours in one entry cost one look-up.
struct BodyReader<'a> {
    broker: &'a Broker,
    last: Option<(LogIndex, Batch)>,
}

impl BodyReader<'_> {
    fn read(&mut self, place: MessageRef) -> Result<Message, Error> {
        let damaged = |what: &dyn std::fmt::Display| {
            Error::Stopped(format!("message {} of entry {} cannot be read: {what}", place.slot, place.index))
        };
        if self.last.as_ref().is_none_or(|(index, _)| *index != place.index) {
            let batch = self.broker.replica.read_batch(place.index).map_err(|error| damaged(&error))?;
            self.last = Some((place.index, batch.ok_or_else(|| damaged(&"the entry is missing"))?));
        }
        let batch = self.last.as_ref().map(|(_, batch)| batch);
        let bytes = batch.and_then(|batch| batch.message(place.slot)).ok_or_else(|| damaged(&"no such slot"))?;
        Message::decode(bytes).map_err(|error| damaged(&error))
    }
}
