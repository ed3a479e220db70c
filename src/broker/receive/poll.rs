//! Receives above the log. Before: `edge/grpc/messaging/receive`; after: `machine/receive`.
//!
//! Hot path. Plan on the applied view, grant through the log, read the messages that were granted. Nothing to plan:
//! wait for an arrival until the poll is over. While there is no leader the poll goes on; if there is none at its end, it says
//! so: a node that is cut off cannot know that nothing came (P14).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::broker::receive::delivery::Received;
use crate::broker::receive::filter_check::{FilterCheck, MessageCheck, Unchecked, with_stored};
use crate::broker::receive::grant::{GRANT_MARGIN, Poll};
use crate::broker::receive::plan::{Plan, Planning};
use crate::broker::receive::target::{PollTarget, Receive};
use crate::broker::shard::RETRY_AFTER;
use crate::broker::{Broker, Deadline, Error, Held};
use crate::model::limits::RECEIVE_BATCH_MAX;

/// However short the poll, looking up what it names may take this long, and so may its turn to read messages.
const LOOKUP_MIN: Duration = Duration::from_millis(500);

/// What could not be read here is looked at again after this long: it is repaired meanwhile, or another node took it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// What a window of up to 64 messages counts for that a plan read.
const KEYS_OF_WINDOW: usize = 8;

/// When the parts of a poll are over.
#[derive(Clone, Copy)]
struct Ends {
    poll: Instant,
    /// Its wait for a turn to read messages for a filter.
    turn: Instant,
}

impl Broker {
    /// Leases messages to a consumer; waits for the first until the poll is over. `None`: none came.
    ///
    /// * Errors: a poll that fails leaves no leases: what it was granted is given back, also by a grant whose outcome is
    ///   unknown.
    /// * Source: contract §13.
    pub async fn receive(self: &Arc<Self>, request: Receive) -> Result<Option<Received>, Error> {
        self.check_receives()?;
        let until = Instant::now() + request.wait.into();
        let lookup_until = self.held_until(Deadline::at(until)).max(until.min(Instant::now() + LOOKUP_MIN));
        let (mut topic, mut record) = self.existing_topic(&request.topic, lookup_until).await?;
        if !record.permission.can_read() {
            (topic, record) = self.topic_now(&request.topic, lookup_until).await?;
        }
        if !record.permission.can_read() {
            return Err(Error::Forbidden(request.topic));
        }
        self.subscribe_until(request.group.clone(), std::slice::from_ref(&request.topic), lookup_until).await?;
        let group = self.existing_group(&request.group, lookup_until).await?;
        let request = match &group.settings.filter {
            Some(condition) => Receive { filter: with_stored(&request.filter, &request.group, condition)?, ..request },
            None => request,
        };
        let _slot = self.polls.try_acquire().map_err(|_| Error::Busy)?;
        let check = FilterCheck::new(&self.reader, &request.filter);
        let target = PollTarget {
            topic,
            queues: record.queues,
            group: group.id,
            orderly: group.orderly || record.topic_type.is_fifo(),
            by_priority: record.topic_type.is_priority(),
            filter: &request.filter,
            check: request.filter.needs_message().then_some(&check as &dyn MessageCheck),
            leaves_unreadable: self.reader.has_peers(),
            limit: request.batch.clamp(1, RECEIVE_BATCH_MAX),
        };
        let condition = group.settings.filter.as_deref();
        let until_read = until + GRANT_MARGIN;
        let poll = Poll { broker: self, request: &request, condition, target, check: &check, until: until_read };
        let ends = Ends { poll: until, turn: until.max(Instant::now() + LOOKUP_MIN) };
        if poll.is_repeatable() {
            match (Poll { until: lookup_until, ..poll }).repeat_and_read().await {
                Ok(Some(received)) => return Ok(Some(received)),
                // Without an answer in time it is a poll like any other.
                Ok(None) | Err(Error::NoLeader | Error::Busy | Error::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        poll.wait_for_messages(ends).await
    }
}

impl Poll<'_> {
    /// What an earlier poll of the same attempt id was given.
    async fn repeat_and_read(&self) -> Result<Option<Received>, Error> {
        let granted = self.repeat().await?;
        self.read(&[], &granted).await
    }

    /// The loop: plan, grant, read, until there is something or the poll is over.
    async fn wait_for_messages(&self, ends: Ends) -> Result<Option<Received>, Error> {
        let notifier = self.broker.arrivals.notifier(self.target.topic, self.target.group);
        loop {
            let mut arrival = std::pin::pin!(notifier.notified());
            arrival.as_mut().enable();
            let Some(plan) = self.next_plan(&notifier, ends.turn).await? else { return self.nothing_came().await };
            if plan.planned.is_empty() {
                let lacks_some = plan.lacks_some;
                drop(plan);
                tokio::select! {
                    () = arrival => {
                        if self.has_other_condition()? {
                            return self.nothing_came().await;
                        }
                        continue;
                    }
                    () = tokio::time::sleep_until(ends.poll) => return self.nothing_came().await,
                    () = tokio::time::sleep(LOOK_AGAIN), if lacks_some => continue,
                    () = self.broker.stopping.cancelled() => return Ok(None),
                }
            }
            let Some(held) = self.hold(plan.bytes) else {
                let bytes = plan.bytes;
                drop(plan);
                self.wait_for_bytes(bytes, ends.poll).await?;
                continue;
            };
            let received = self.grant_and_read(&plan).await;
            drop(plan);
            match received {
                Ok(Some(received)) => {
                    let received = Received { held, ..received };
                    self.broker.traffic.count_out(received.deliveries.len());
                    return Ok(Some(received));
                }
                Ok(None) => {}
                Err(Error::NoLeader | Error::Busy | Error::TimedOut) => tokio::time::sleep(RETRY_AFTER).await,
                Err(error) => return Err(error),
            }
            if Instant::now() >= ends.poll || self.broker.stopping.is_cancelled() {
                return self.nothing_came().await;
            }
        }
    }

    /// Takes the bytes of a plan's messages before anything is leased; `None` if its client holds too many.
    fn hold(&self, bytes: u64) -> Option<Option<Held>> {
        match &self.request.share {
            Some(share) => share.try_hold(bytes).map(Some),
            None => Some(None),
        }
    }

    /// Waits until the client took some of what it was given.
    async fn wait_for_bytes(&self, bytes: u64, until: Instant) -> Result<(), Error> {
        match &self.request.share {
            Some(share) => share.take_until(bytes, until).await.map(drop).map_err(Error::NoBytes),
            None => Ok(()),
        }
    }

    /// Whether the group's own filter was changed meanwhile: by the old one this poll would pass over what is wanted now.
    fn has_other_condition(&self) -> Result<bool, Error> {
        let group = self.broker.reader.view().group_record(self.target.group)?;
        Ok(group.is_some_and(|record| record.settings.filter.as_deref() != self.condition))
    }

    async fn nothing_came(&self) -> Result<Option<Received>, Error> {
        self.broker.is_in_touch().await.map(|()| None)
    }

    async fn grant_and_read(&self, plan: &Plan<'_>) -> Result<Option<Received>, Error> {
        let granted = self.grant(plan).await?;
        self.read(&plan.planned, &granted).await
    }

    /// What could be leased now; `None` if the poll was over before it had its turn.
    async fn next_plan<'n>(&self, notifier: &'n Notify, until: Instant) -> Result<Option<Plan<'n>>, Error> {
        let broker = self.broker;
        // Both ends of each queue.
        broker.turns.take(2 * self.target.queues as usize).await;
        let turn = broker.reservations.turn();
        let must_read = self.target.check.is_some() || broker.reader.has_damage();
        let check: Option<&dyn MessageCheck> = if must_read { Some(self.check) } else { None };
        let target = PollTarget { check, ..self.target };
        let make = || Plan::make(&broker.reservations, broker.reader.view(), target, turn, notifier);
        if !must_read {
            return match make()? {
                Planning::Ready(plan) => {
                    broker.turns.add(KEYS_OF_WINDOW * plan.windows);
                    Ok(Some(plan))
                }
                Planning::NeedsRead(message) => Err(Unchecked::NeedsRead(message).failed()),
            };
        }
        // A plan that reads messages takes its time: a few of them at once, and between two of them everything else
        // on this thread has its turn.
        let Ok(permit) = tokio::time::timeout_at(until, broker.filter_reads.acquire()).await else { return Ok(None) };
        let _permit = permit.map_err(|_| Error::Busy)?;
        let plan = loop {
            match make()? {
                Planning::Ready(plan) => break plan,
                Planning::NeedsRead(message) => self.check.read(message).await?,
            }
        };
        self.check.forget();
        tokio::task::yield_now().await;
        Ok(Some(plan))
    }
}
