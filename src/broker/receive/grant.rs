//! A poll's grants: of what it planned, and of what an earlier poll of the same attempt id was granted. After:
//! `machine/receive`.
//!
//! Hot path. A grant whose fate is unknown (the leader died) is looked up by its token, so no lease is left without its
//! messages.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::receive::filter_check::FilterCheck;
use crate::broker::receive::lease_guard::{GrantName, PendingGrant};
use crate::broker::receive::plan::Plan;
use crate::broker::receive::target::{PollTarget, Receive};
use crate::broker::{Broker, Error};
use crate::env::rng;
use crate::machine::command::{Grant, Repeat};
use crate::machine::outcome::Granted;
use crate::machine::state::lease::Lease;
use crate::machine::state::stage::BOUNDED_STEPS_SINCE;
use crate::machine::{Command, Outcome, Rejected};
use crate::model::limits::LEFT_BEHIND;
use crate::model::{LeaseId, MessageType, Millis, QueueId, text_hash};

/// How long a grant may take before its fate is looked up.
const GRANT_WAIT: Duration = Duration::from_millis(2500);
/// A grant asked for at the end of a poll may take this much longer: the poll ends half a second before its
/// caller gives up.
pub(super) const GRANT_MARGIN: Duration = Duration::from_millis(150);
/// Leases that are looked at for a repeated poll: a poll is given fewer, unless its attempt id is used over and over.
const REPEATED_LEASES_MAX: usize = 256;
/// A poll with an attempt id may be repeated, and then gets the same: its leases are kept for this long.
const REPEATED_WITHIN: Millis = Millis::from_secs(10);

/// A poll that knows its topic and group.
#[derive(Clone, Copy)]
pub(super) struct Poll<'a> {
    pub broker: &'a Arc<Broker>,
    pub request: &'a Receive,
    /// The group's own filter, which is part of that of the request.
    pub condition: Option<&'a str>,
    pub target: PollTarget<'a>,
    /// Reads messages before they are leased, while some of this node's log are damaged.
    pub check: &'a FilterCheck<'a>,
    /// When a grant, with its messages read, must be done.
    pub until: Instant,
}

impl Poll<'_> {
    /// Whether a consumer that lost the answer gets the same again.
    pub fn is_repeatable(&self) -> bool {
        self.target.orderly && self.request.attempt_id.is_some()
    }

    /// How long leases that are given back are kept for this poll to be repeated.
    pub fn kept_for(&self) -> Millis {
        if self.is_repeatable() { REPEATED_WITHIN } else { LEFT_BEHIND }
    }

    /// The hash of the attempt id, as leases have it; 0 if the poll cannot be repeated.
    fn attempt_of(&self) -> u64 {
        self.request.attempt_id.as_deref().filter(|_| self.target.orderly).map_or(0, text_hash)
    }

    fn pending(&self, token: u64, queues: impl Iterator<Item = QueueId>) -> PendingGrant {
        let (topic, group) = (self.target.topic, self.target.group);
        let name = Some(GrantName { topic, group, queues: queues.collect(), token });
        PendingGrant { broker: self.broker.clone(), name, kept_for: self.kept_for() }
    }

    /// Leases what is planned and still free; for a group that wants every message, perhaps others instead.
    ///
    /// * Errors: [`Error::TimedOut`] if the grant may have been made: what it leased is given back in the background.
    pub async fn grant(&self, plan: &Plan<'_>) -> Result<Vec<Granted>, Error> {
        // 0 marks leases that no grant made.
        let token = rng::random_u64().max(1);
        let command = Command::Grant(Grant {
            group: self.target.group,
            topic: self.target.topic,
            limit: self.target.limit,
            invisible_for: self.request.invisible,
            client: self.request.client_id.clone(),
            renew: self.request.renew,
            token,
            attempt_of: self.attempt_of(),
            candidates: plan.candidates(),
        });
        let pending = self.pending(token, plan.planned.iter().map(|planned| planned.queue));
        let until = self.until.min(Instant::now() + GRANT_WAIT);
        match self.broker.propose(&command, until).await {
            Ok((index, outcome)) => {
                if let Outcome::Granted(leases) = &outcome
                    && (leases.is_empty() || !leases.iter().all(|lease| plan.planned.iter().any(|one| one.has(lease))))
                    // The plan was behind: this node's view shows what was granted instead, and to whom the rest went,
                    // once it has applied the grant.
                    && !self.broker.reader.caught_up(index, until).await
                {
                    // What nobody reads in time is given back.
                    return Err(Error::TimedOut);
                }
                pending.answered();
                match outcome {
                    Outcome::Granted(leases) => Ok(leases),
                    Outcome::Rejected(Rejected::GroupNotFound) => {
                        Err(Box::pin(self.broker.group_gone(&self.request.group, until + GRANT_MARGIN)).await)
                    }
                    Outcome::Rejected(Rejected::TopicNotFound) => {
                        Err(Box::pin(self.broker.topic_gone(&self.request.topic, until + GRANT_MARGIN)).await)
                    }
                    Outcome::Rejected(rejected) => {
                        Err(Error::of_topic(rejected, &self.request.topic, MessageType::Normal))
                    }
                    other => Err(Error::unexpected(&other)),
                }
            }
            // Should the lookup not come to an end in time, it is made anew in the background.
            Err(Error::TimedOut) => {
                let found = self.find(&pending, until + GRANT_MARGIN).await?;
                pending.answered();
                Ok(found)
            }
            Err(error) => {
                pending.answered();
                Err(error)
            }
        }
    }

    /// What became of a grant whose answer was lost.
    async fn find(&self, pending: &PendingGrant, until: Instant) -> Result<Vec<Granted>, Error> {
        let Some(name) = &pending.name else { return Ok(Vec::new()) };
        let leases = name.leases(self.broker, until).await?.into_iter();
        let granted = leases.filter(|(_, lease)| !lease.held.is_empty()).map(|(at, lease)| {
            let Lease { first, held: messages, attempt, .. } = lease;
            Granted { queue: at.queue, lease: at.lease, first, messages, attempt }
        });
        Ok(granted.collect())
    }

    /// Leases once more what a poll of the same attempt id was granted; empty if there is nothing of that. Its answer
    /// was lost, and until it is settled or its lease ends nothing else of those message groups is delivered
    /// (contract §18).
    pub async fn repeat(&self) -> Result<Vec<Granted>, Error> {
        // Every poll with an attempt id looks, and hardly any finds something.
        if self.broker.reader.recent(self.until).await.is_err() || self.given_before()?.is_empty() {
            return Ok(Vec::new());
        }
        // What was acked through another node a moment ago must not be delivered again (P7).
        if self.broker.reader.read_barrier(self.until).await.is_err() {
            return Ok(Vec::new());
        }
        let leases = self.given_before()?;
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let token = rng::random_u64().max(1);
        let pending = self.pending(token, leases.iter().map(|(queue, _)| *queue));
        let command = Command::Repeat(Repeat {
            group: self.target.group,
            topic: self.target.topic,
            attempt_of: self.attempt_of(),
            invisible_for: self.request.invisible,
            client: self.request.client_id.clone(),
            renew: self.request.renew,
            token,
            leases,
        });
        let (_, outcome) = self.broker.propose(&command, self.until).await?;
        pending.answered();
        let Outcome::Granted(granted) = outcome else { return Err(Error::unexpected(&outcome)) };
        Ok(granted)
    }

    /// The open leases of polls with this attempt id.
    fn given_before(&self) -> Result<Vec<(QueueId, LeaseId)>, Error> {
        let view = self.broker.reader.view();
        let (topic, group, attempt_of) = (self.target.topic, self.target.group, self.attempt_of());
        let is_open = |lease: &Lease| !lease.held.is_empty() && !lease.returned;
        let mut open = Vec::new();
        if view.cluster_version()? < BOUNDED_STEPS_SINCE {
            // An older build may have granted them, which leaves nothing that leads to them.
            for queue in (0..self.target.queues).map(QueueId) {
                let all = view.leases(topic, group, queue)?.into_iter();
                let own = all.filter(|(_, lease)| lease.attempt_of == attempt_of && is_open(lease));
                open.extend(own.map(|(at, _)| (queue, at.lease)));
            }
            return Ok(open);
        }
        for at in view.leases_of_attempt(topic, group, attempt_of, REPEATED_LEASES_MAX)? {
            open.extend(view.lease(at)?.filter(is_open).map(|_| (at.queue, at.lease)));
        }
        Ok(open)
    }
}
