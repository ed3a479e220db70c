//! Leases on their way to a consumer: until an answer has left, nobody knows that anyone has them.
//!
//! Hot path. A poll that is dropped, because its caller gave up or its connection broke, gives its leases
//! back, whether it had heard of them or not (contract §13.2). Those that left and are to be renewed are
//! remembered for their first renewal, which is this node's (`broker/invisible`).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::broker::invisible::handle;
use crate::broker::{Broker, Deadline, Error};
use crate::machine::Command;
use crate::machine::command::GiveBack;
use crate::model::limits::LEFT_BEHIND;
use crate::model::{GroupId, Millis, QueueId, ReceiptHandle, TopicId};

/// Leases that outlive this are renewed for the first time; most are settled long before.
const FIRST_RENEWAL_AFTER: Duration = Duration::from_secs(5);
/// Leases remembered for their first renewal; beyond it the oldest are not renewed.
const REMEMBERED_MAX: usize = 200_000;

/// A poll with an attempt id may be repeated, and then hears the same: its leases are kept for this long.
const REPEATED_WITHIN: Millis = Millis::from_secs(10);

fn kept_for(is_repeatable: bool) -> Millis {
    if is_repeatable { REPEATED_WITHIN } else { LEFT_BEHIND }
}

/// Leases whose answer has left, until their first renewal.
#[derive(Default)]
pub(in crate::broker) struct Renewals(Mutex<VecDeque<(Instant, ReceiptHandle)>>);

impl Renewals {
    fn remember(&self, leases: Vec<ReceiptHandle>) {
        let now = Instant::now();
        let mut all = self.0.lock();
        all.extend(leases.into_iter().map(|lease| (now, lease)));
        while all.len() > REMEMBERED_MAX {
            all.pop_front();
        }
    }

    /// Puts back what could not be renewed this time.
    pub(in crate::broker) fn put_back(&self, leases: Vec<ReceiptHandle>) {
        let now = Instant::now();
        let mut all = self.0.lock();
        for lease in leases {
            all.push_front((now.checked_sub(FIRST_RENEWAL_AFTER).unwrap_or(now), lease));
        }
    }

    /// Those that are old enough; they are this node's no more.
    pub(in crate::broker) fn take_due(&self) -> Vec<ReceiptHandle> {
        let now = Instant::now();
        let mut all = self.0.lock();
        let due = all.partition_point(|(left_at, _)| *left_at + FIRST_RENEWAL_AFTER <= now);
        all.drain(..due).map(|(_, lease)| lease).collect()
    }
}

/// The leases of an answer; given back when dropped, unless [`Self::delivered`].
pub struct UndeliveredLeases {
    broker: Arc<Broker>,
    /// One handle of each.
    leases: Vec<ReceiptHandle>,
    is_renewed: bool,
    /// How long what did not leave is kept for the poll to be repeated.
    kept_for: Millis,
}

impl UndeliveredLeases {
    pub(in crate::broker) fn new(
        broker: &Arc<Broker>,
        leases: Vec<ReceiptHandle>,
        is_renewed: bool,
        is_repeatable: bool,
    ) -> Self {
        Self { broker: broker.clone(), leases, is_renewed, kept_for: kept_for(is_repeatable) }
    }

    /// The whole answer was handed to the connection.
    pub fn delivered(mut self) {
        let leases = std::mem::take(&mut self.leases);
        if self.is_renewed {
            self.broker.renewals.remember(leases);
        }
    }
}

impl Drop for UndeliveredLeases {
    fn drop(&mut self) {
        let leases = std::mem::take(&mut self.leases);
        if leases.is_empty() {
            return;
        }
        let (broker, kept_for) = (self.broker.clone(), self.kept_for);
        self.broker.in_background(async move { broker.give_back(leases, kept_for).await });
    }
}

/// A grant whose outcome its poll has not heard; looked up and given back when dropped, unless it was.
pub(in crate::broker) struct PendingGrant {
    broker: Arc<Broker>,
    topic: TopicId,
    group: GroupId,
    queues: BTreeSet<QueueId>,
    /// Names the grant; 0 once its outcome is known.
    token: u64,
    kept_for: Millis,
}

impl PendingGrant {
    pub(in crate::broker) fn new(
        broker: &Arc<Broker>,
        topic: TopicId,
        group: GroupId,
        queues: BTreeSet<QueueId>,
        token: u64,
        is_repeatable: bool,
    ) -> Self {
        Self { broker: broker.clone(), topic, group, queues, token, kept_for: kept_for(is_repeatable) }
    }

    /// The outcome is known to the poll.
    pub(in crate::broker) fn answered(mut self) {
        self.token = 0;
    }
}

impl Drop for PendingGrant {
    fn drop(&mut self) {
        if self.token == 0 {
            return;
        }
        let (broker, topic, group, token) = (self.broker.clone(), self.topic, self.group, self.token);
        let (queues, kept_for) = (std::mem::take(&mut self.queues), self.kept_for);
        self.broker.in_background(async move { broker.give_back_granted(topic, group, queues, token, kept_for).await });
    }
}

impl Broker {
    /// Runs what a dropped poll leaves to do, on the Raft runtime: the front end's ends before.
    fn in_background(&self, work: impl Future<Output = Result<(), Error>> + Send + 'static) {
        self.tasks.spawn_on(
            async move {
                if let Err(error) = work.await {
                    tracing::debug!(%error, "leases of a poll that was given up were not given back");
                }
            },
            &self.runtime,
        );
    }

    /// Waits for what dropped polls left to do; what is not done in time, the ends of the leases do.
    pub(in crate::broker) async fn finish(&self, within: Duration) {
        self.tasks.close();
        let _ = tokio::time::timeout(within, self.tasks.wait()).await;
    }

    async fn give_back(&self, leases: Vec<ReceiptHandle>, after: Millis) -> Result<(), Error> {
        let command = Command::GiveBack(GiveBack { leases, after });
        self.propose_repeatable(&command, self.held_until(Deadline::NONE)).await.map(|_| ())
    }

    async fn give_back_granted(
        &self,
        topic: TopicId,
        group: GroupId,
        queues: BTreeSet<QueueId>,
        token: u64,
        after: Millis,
    ) -> Result<(), Error> {
        let until = self.held_until(Deadline::NONE);
        // Behind an entry that was proposed later, the grant is either in the state or never will be.
        let (index, _) = self.propose_repeatable(&Command::Tick, until).await?;
        if !self.caught_up(index, until).await {
            return Err(Error::TimedOut);
        }
        let view = self.replica.view();
        let mut leases = Vec::new();
        for queue in queues {
            let of_grant = view.leases(topic, group, queue)?.into_iter().filter(|(_, lease)| lease.token == token);
            leases.extend(of_grant.map(|(at, lease)| handle(at, &lease)));
        }
        if leases.is_empty() { Ok(()) } else { self.give_back(leases, after).await }
    }
}
