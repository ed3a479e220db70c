//! Receives above the log. Before: `edge/grpc/messaging/receive`; after: `machine/receive`.
//!
//! Hot path. Plan on the applied view, propose the grant, read the bodies that were granted. Nothing to
//! plan: wait for an arrival until the poll is over. While there is no leader the poll simply goes on.
//!
//! A grant whose fate is unknown (the leader died) is looked up by its token once a later entry is applied:
//! then it is either in the state or never will be, so no lease is left without its messages. What a poll
//! was given and did not pass on comes back soon (`broker/receive/lease_guard`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::broker::receive::bodies::{BodyReader, Checker};
use crate::broker::receive::lease_guard::{PendingGrant, UndeliveredLeases};
use crate::broker::receive::plan;
use crate::broker::receive::plan::{FilterCheck, NoPlan, Plan, Planned, PollTarget};
use crate::broker::{Broker, Deadline, Error, RETRY_AFTER};
use crate::machine::command::{Ack, Grant, Repeat};
use crate::machine::outcome::Granted;
use crate::machine::state::lease::Lease;
use crate::machine::{Command, Outcome, Rejected};
use crate::model::filter::sql::SqlFilter;
use crate::model::limits::RECEIVE_BATCH_MAX;
use crate::model::{
    Filter, GroupId, GroupName, Message, MessageType, Millis, QueueId, QueueOffset, ReceiptHandle, Timestamp, TopicId,
    TopicName, text_hash,
};

/// How long a grant may take before its fate is looked up.
const GRANT_WAIT: Duration = Duration::from_millis(2500);
/// A grant asked for at the end of a poll may take this much longer: the poll ends half a second before its
/// caller gives up.
const GRANT_MARGIN: Duration = Duration::from_millis(150);
/// However short the poll, looking up what it names may take this long, and so may its turn to look at messages.
const LOOKUP_MIN: Duration = Duration::from_millis(500);

/// One poll.
#[derive(Debug, Clone, PartialEq)]
pub struct Receive {
    /// For whom.
    pub group: GroupName,
    /// From where.
    pub topic: TopicName,
    /// What.
    pub filter: Filter,
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
    /// Names the poll, so that an orderly group's consumer that lost an answer gets it again.
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
    /// Deliveries so far including this one; those before it died count too.
    pub attempt: u32,
    /// The topic in which it died, if it is a dead letter.
    pub died_in: Option<TopicName>,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// Where it was stored: `host:port`.
    pub store_host: String,
}

/// What a poll got. Dropping it gives everything back.
pub struct Received {
    /// The messages.
    pub deliveries: Vec<Delivery>,
    /// Their leases, until the answer has left.
    pub leases: UndeliveredLeases,
}

impl Broker {
    /// Leases messages to a consumer; waits for the first until the poll is over. `None`: none came.
    pub async fn receive(self: &Arc<Self>, request: Receive) -> Result<Option<Received>, Error> {
        let until = Instant::now() + request.wait.into();
        let held_until = self.held_until(Deadline::at(until)).max(until.min(Instant::now() + LOOKUP_MIN));
        let (topic, record) = self.existing_topic(&request.topic, held_until).await?;
        if !record.permission.can_read() {
            return Err(Error::Forbidden(request.topic));
        }
        self.subscribe_until(request.group.clone(), std::slice::from_ref(&request.topic), held_until).await?;
        let group = self.existing_group(&request.group, held_until).await?;
        let request = match &group.settings.filter {
            Some(condition) => Receive { filter: with_stored(&request.filter, &request.group, condition)?, ..request },
            None => request,
        };
        let (group, orderly) = (group.id, group.orderly || record.topic_type.is_fifo());
        let by_priority = record.topic_type.is_priority();
        let _slot = self.polls.try_acquire().map_err(|_| Error::Busy)?;
        let limit = request.batch.clamp(1, RECEIVE_BATCH_MAX);
        let checker = Mutex::new(Checker::new(self, &request.filter));
        let check = |message| checker.lock().check(message);
        let check = request.filter.needs_message().then_some(&check as &FilterCheck<'_>);
        let (queues, filter) = (record.queues, &request.filter);
        let wanted = PollTarget { topic, queues, group, orderly, by_priority, filter, check, limit };
        let bell = self.arrivals.bell(topic, group);
        let turn_until = until.max(Instant::now() + LOOKUP_MIN);
        if orderly && request.attempt_id.is_some() {
            match self.answered_before(&request, wanted, held_until).await {
                Ok(Some(received)) => return Ok(Some(received)),
                // Without an answer in time it is a poll like any other.
                Ok(None) | Err(Error::NoLeader | Error::Busy | Error::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            let mut arrival = std::pin::pin!(bell.notified());
            arrival.as_mut().enable();
            let Some(plan) = self.plan(wanted, &bell, &checker, turn_until).await? else { return Ok(None) };
            if plan.planned.is_empty() {
                drop(plan);
                tokio::select! {
                    () = arrival => continue,
                    () = tokio::time::sleep_until(until) => return Ok(None),
                    () = self.stopping.cancelled() => return Ok(None),
                }
            }
            let received = self.deliver(&request, wanted, &plan, until + GRANT_MARGIN).await;
            drop(plan);
            match received {
                Ok(Some(received)) => {
                    self.traffic.count_out(received.deliveries.len());
                    return Ok(Some(received));
                }
                Ok(None) => {}
                Err(Error::NoLeader | Error::Busy | Error::TimedOut) => tokio::time::sleep(RETRY_AFTER).await,
                Err(error) => return Err(error),
            }
            if Instant::now() >= until || self.stopping.is_cancelled() {
                return Ok(None);
            }
        }
    }

    /// What could be leased now; `None` if the poll was over before it had its turn.
    async fn plan<'a>(
        &self,
        wanted: PollTarget<'_>,
        bell: &'a Notify,
        checker: &Mutex<Checker<'_>>,
        until: Instant,
    ) -> Result<Option<Plan<'a>>, Error> {
        let turn = self.plans.turn();
        if wanted.check.is_none() {
            return self.plans.make(self.replica.view(), wanted, turn, bell).map(Some).map_err(NoPlan::failed);
        }
        // A filter that reads messages takes its time: a few of them at once, and between two of them everything else
        // on this thread has its turn.
        let Ok(permit) = tokio::time::timeout_at(until, self.filter_reads.acquire()).await else { return Ok(None) };
        let _permit = permit.map_err(|_| Error::Busy)?;
        let plan = loop {
            match self.plans.make(self.replica.view(), wanted, turn, bell) {
                Ok(plan) => break plan,
                Err(NoPlan::OnDisk(place)) => Checker::fetch(checker, self, place).await?,
                Err(NoPlan::Failed(error)) => return Err(error),
            }
        };
        checker.lock().forget();
        tokio::task::yield_now().await;
        Ok(Some(plan))
    }

    /// What an orderly group's poll of the same attempt id was given: its answer was lost, and until it is settled
    /// or its lease ends nothing else of those message groups is delivered (contract §18).
    async fn answered_before(
        self: &Arc<Self>,
        request: &Receive,
        wanted: PollTarget<'_>,
        until: Instant,
    ) -> Result<Option<Received>, Error> {
        let Some(attempt_of) = request.attempt_id.as_deref().map(text_hash) else { return Ok(None) };
        // What was acked through another node a moment ago must not come again (P7).
        if self.read_barrier(until).await.is_err() {
            return Ok(None);
        }
        let view = self.replica.view();
        let mut leases = Vec::new();
        for queue in (0..wanted.queues).map(QueueId) {
            for (at, lease) in view.leases(wanted.topic, wanted.group, queue)? {
                if lease.attempt_of == attempt_of && !lease.held.is_empty() && !lease.returned {
                    leases.push((queue, at.lease));
                }
            }
        }
        if leases.is_empty() {
            return Ok(None);
        }
        let token = crate::env::rng::random_u64().max(1);
        let queues = leases.iter().map(|(queue, _)| *queue).collect();
        let command = Command::Repeat(Repeat {
            group: wanted.group,
            topic: wanted.topic,
            attempt_of,
            invisible_for: request.invisible,
            client: request.client_id.clone(),
            renew: request.renew,
            token,
            leases,
        });
        let asked = PendingGrant::new(self, wanted.topic, wanted.group, queues, token, true);
        let (_, outcome) = self.propose(&command, until).await?;
        asked.answered();
        let Outcome::Granted(granted) = outcome else { return Err(Error::unexpected(&outcome)) };
        self.read(request, wanted, &[], &granted, until).await
    }

    async fn deliver(
        self: &Arc<Self>,
        request: &Receive,
        wanted: PollTarget<'_>,
        plan: &Plan<'_>,
        until: Instant,
    ) -> Result<Option<Received>, Error> {
        let granted = self.grant(request, wanted, plan, until).await?;
        self.read(request, wanted, &plan.planned, &granted, until).await
    }

    /// Reads what was granted, where the plan saw it or wherever else it lies by this node's applied view.
    async fn read(
        self: &Arc<Self>,
        request: &Receive,
        wanted: PollTarget<'_>,
        plan: &[Planned],
        granted: &[Granted],
        until: Instant,
    ) -> Result<Option<Received>, Error> {
        let lease = |granted: &Granted| {
            let Granted { queue, first: offset, lease, .. } = *granted;
            ReceiptHandle { group: wanted.group, topic: wanted.topic, queue, offset, lease }
        };
        let is_repeatable = wanted.orderly && request.attempt_id.is_some();
        let leases = UndeliveredLeases::new(self, granted.iter().map(lease).collect(), request.renew, is_repeatable);
        let mut reader = BodyReader::new(self);
        let mut deliveries = Vec::new();
        let mut unwanted = Vec::new();
        for granted in granted {
            let looked_up;
            let contents = match plan.iter().find(|planned| planned.has(granted)) {
                Some(planned) => &planned.contents,
                None => {
                    looked_up = plan::contents(self.replica.view(), wanted, granted)?;
                    &looked_up
                }
            };
            for bit in (0..64).filter(|bit| granted.messages.0 >> bit & 1 == 1) {
                let Some(place) = contents.places.get(&bit) else { continue };
                let offset = QueueOffset(granted.first.0 + u64::from(bit));
                let handle = ReceiptHandle { offset, ..lease(granted) };
                let message = reader.read(place.message).await?;
                // Equal tag hashes are no proof of equal tags.
                if !request.filter.matches(&message) {
                    unwanted.push(handle);
                    continue;
                }
                let origin = contents.origins.get(&bit);
                // Its first delivery as a dead letter is not another attempt.
                let before = origin.map_or(0, |origin| origin.attempts.saturating_sub(1));
                deliveries.push(Delivery {
                    message,
                    handle,
                    queue: granted.queue,
                    offset,
                    attempt: granted.attempt.saturating_add(before),
                    died_in: origin.map(|origin| origin.name.clone()),
                    stored_at: place.stored_at,
                    store_host: self.place.store_host.clone(),
                });
            }
        }
        if !unwanted.is_empty() {
            let ack = Command::Ack(Ack { handles: unwanted });
            self.propose_repeatable(&ack, until).await?;
        }
        Ok((!deliveries.is_empty()).then_some(Received { deliveries, leases }))
    }

    async fn grant(
        self: &Arc<Self>,
        request: &Receive,
        wanted: PollTarget<'_>,
        plan: &Plan<'_>,
        until: Instant,
    ) -> Result<Vec<Granted>, Error> {
        // 0 marks leases that no grant made.
        let token = crate::env::rng::random_u64().max(1);
        let attempt_of = request.attempt_id.as_deref().filter(|_| wanted.orderly).map_or(0, text_hash);
        let command = Command::Grant(Grant {
            group: wanted.group,
            topic: wanted.topic,
            limit: wanted.limit,
            invisible_for: request.invisible,
            client: request.client_id.clone(),
            renew: request.renew,
            token,
            attempt_of,
            candidates: plan.candidates(),
        });
        let queues = plan.planned.iter().map(|planned| planned.queue).collect();
        let asked = PendingGrant::new(
            self,
            wanted.topic,
            wanted.group,
            queues,
            token,
            wanted.orderly && request.attempt_id.is_some(),
        );
        let until = until.min(Instant::now() + GRANT_WAIT);
        match self.propose(&command, until).await {
            Ok((index, outcome)) => {
                if let Outcome::Granted(leases) = &outcome
                    && (leases.is_empty() || !leases.iter().all(|lease| plan.planned.iter().any(|one| one.has(lease))))
                    // The plan was behind: what was granted instead, and what overtook it, is seen behind the grant.
                    && !self.caught_up(index, until).await
                {
                    // What nobody reads in time is given back.
                    return Err(Error::TimedOut);
                }
                asked.answered();
                match outcome {
                    Outcome::Granted(leases) => Ok(leases),
                    Outcome::Rejected(Rejected::GroupNotFound) => Err(Error::GroupNotFound(request.group.clone())),
                    Outcome::Rejected(rejected) => Err(Error::of_topic(rejected, &request.topic, MessageType::Normal)),
                    other => Err(Error::unexpected(&other)),
                }
            }
            // Should the lookup not come to an end in time, it is made again in the background.
            Err(Error::TimedOut) => {
                let found = self.find_grant(wanted.topic, wanted.group, token, plan, until + GRANT_MARGIN).await?;
                asked.answered();
                Ok(found)
            }
            Err(error) => {
                asked.answered();
                Err(error)
            }
        }
    }

    /// What became of a grant whose answer was lost.
    async fn find_grant(
        &self,
        topic: TopicId,
        group: GroupId,
        token: u64,
        plan: &Plan<'_>,
        until: Instant,
    ) -> Result<Vec<Granted>, Error> {
        let (index, _) = self.propose_repeatable(&Command::Tick, until).await?;
        if !self.caught_up(index, until).await {
            return Err(Error::TimedOut);
        }
        let view = self.replica.view();
        let queues: BTreeSet<QueueId> = plan.planned.iter().map(|planned| planned.queue).collect();
        let mut found = Vec::new();
        for queue in queues {
            let leases = view.leases(topic, group, queue)?.into_iter();
            found.extend(leases.filter(|(_, lease)| lease.token == token && !lease.held.is_empty()).map(
                |(at, lease)| {
                    let Lease { first, held: messages, attempt, .. } = lease;
                    Granted { queue, lease: at.lease, first, messages, attempt }
                },
            ));
        }
        Ok(found)
    }
}

/// What a consumer wants of what its group is to have.
pub(in crate::broker) fn with_stored(wanted: &Filter, group: &GroupName, condition: &str) -> Result<Filter, Error> {
    let condition = SqlFilter::parse(condition)
        .map_err(|error| Error::Stopped(format!("the filter of group {group} does not parse: {error}")))?;
    Ok(Filter::Both(Box::new(wanted.clone()), Arc::new(condition)))
}
