//! The consumers that say by heartbeats which groups they are in, which is how RocketMQ's classic clients do it: who is in a
//! group here, and what the group subscribed to.
//!
//! Such a consumer sends its heartbeats to every node that it knows, so each node knows all consumers of a group in time
//! (`classic_members`: until then). It is in the group until it says goodbye, its connection ends, or it was silent for two minutes; whenever the consumers of a group change, all of them
//! that are connected here are notified, because they divide the queues among themselves.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::broker::{ClientInfo, GroupConsumer, Held, NoBytes, Share, Subscription};
use crate::env::clock::Clock;
use crate::model::limits::{SESSION_SILENT_MAX, SESSIONS_MAX};
use crate::model::{GroupName, Millis, Timestamp, TopicName};
use crate::node::{ClientQuestion, KnownClient, Notice, OffsetsReset};

/// What a client in a group takes beside its texts.
pub(super) const CLIENT_COST: u64 = 512;
/// Most consumers of a group that one node names.
const CONSUMERS_NAMED_MAX: usize = 1024;

/// A connection of this node, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionNumber(pub u64);

/// What a heartbeat says of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatConsumer {
    pub client: Arc<ClientInfo>,
    pub is_broadcasting: bool,
    pub subscriptions: Vec<VersionedSubscription>,
}

/// A subscription, and how new it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedSubscription {
    pub subscription: Subscription,
    pub version: i64,
}

/// A heartbeat that is not noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNoted {
    #[error("{0} consumers on this node are as many as it takes")]
    TooManyConsumers(usize),
    #[error("{0} producers on this node are as many as it takes")]
    TooManyProducers(usize),
    #[error(transparent)]
    NoBytes(#[from] NoBytes),
}

struct Consumer {
    said: HeartbeatConsumer,
    connection: ConnectionNumber,
    /// When its first heartbeat came, by the time of day.
    since: Timestamp,
    /// By the monotonic clock.
    seen_at: Duration,
    /// Takes what is to be said to it.
    changes: mpsc::Sender<Notice>,
    /// What it holds of its connection's share.
    _held: Held,
}

impl HeartbeatConsumer {
    /// Bytes that this and what is about it take.
    fn cost(&self) -> u64 {
        let of = |versioned: &VersionedSubscription| {
            let Subscription { topic, expression, .. } = &versioned.subscription;
            size_of::<VersionedSubscription>() + topic.as_str().len() + expression.len()
        };
        let subscriptions: usize = self.subscriptions.iter().map(of).sum();
        CLIENT_COST + (2 * self.client.client_id.len() + subscriptions) as u64
    }
}

impl Consumer {
    /// By the time of day.
    fn seen_at(&self, mono: Duration, wall: Timestamp) -> Timestamp {
        Timestamp(wall.0.saturating_sub(Millis::from(mono.saturating_sub(self.seen_at)).0))
    }

    /// It may miss it.
    fn ask(&self, notice: Notice) {
        let _ = self.changes.try_send(notice);
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        self.said.subscriptions.iter().map(|versioned| versioned.subscription.clone()).collect()
    }
}

/// By group, then by client id.
type Consumers = BTreeMap<GroupName, BTreeMap<String, Consumer>>;

/// The consumers on this node.
pub struct HeartbeatClients {
    clock: Arc<dyn Clock>,
    consumers: Mutex<Consumers>,
}

impl HeartbeatClients {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, consumers: Mutex::default() }
    }

    /// Notes what a heartbeat says of a group.
    pub fn seen(
        &self,
        group: &GroupName,
        said: HeartbeatConsumer,
        connection: ConnectionNumber,
        changes: &mpsc::Sender<Notice>,
        share: &Share,
    ) -> Result<(), NotNoted> {
        let held = share.take(said.cost())?;
        let mut consumers = self.consumers.lock();
        let is_known = consumers.get(group).is_some_and(|of_group| of_group.contains_key(&said.client.client_id));
        let count = if is_known { 0 } else { consumers.values().map(BTreeMap::len).sum() };
        if count >= SESSIONS_MAX {
            return Err(NotNoted::TooManyConsumers(count));
        }
        let (since, seen_at) = (self.clock.wall(), self.clock.mono());
        let of_group = consumers.entry(group.clone()).or_default();
        let is_changed = match of_group.entry(said.client.client_id.clone()) {
            Entry::Vacant(free) => {
                free.insert(Consumer { said, connection, since, seen_at, changes: changes.clone(), _held: held });
                true
            }
            Entry::Occupied(known) => {
                let known = known.into_mut();
                let is_changed = known.said.subscriptions != said.subscriptions;
                let (since, changes) = (known.since, changes.clone());
                *known = Consumer { said, connection, since, seen_at, changes, _held: held };
                is_changed
            }
        };
        if is_changed {
            notify(group, of_group);
        }
        Ok(())
    }

    /// A client leaves a group, if it says so by the connection that its heartbeats come by; gives the topics that it was
    /// subscribed to.
    pub fn left(&self, group: &GroupName, client_id: &str, connection: ConnectionNumber) -> Vec<TopicName> {
        let topics = self.topics_of(group, client_id, connection);
        self.remove(|of, consumer| {
            of == group && consumer.said.client.client_id == client_id && consumer.connection == connection
        });
        topics
    }

    fn topics_of(&self, group: &GroupName, client_id: &str, connection: ConnectionNumber) -> Vec<TopicName> {
        let consumers = self.consumers.lock();
        let consumer = consumers.get(group).and_then(|of_group| of_group.get(client_id));
        let Some(consumer) = consumer.filter(|consumer| consumer.connection == connection) else { return Vec::new() };
        consumer.said.subscriptions.iter().map(|versioned| versioned.subscription.topic.clone()).collect()
    }

    /// A connection ended, and with it every client behind it.
    pub fn connection_ended(&self, connection: ConnectionNumber) {
        self.remove(|_, consumer| consumer.connection == connection);
    }

    /// Forgets consumers that were silent for too long.
    pub(super) fn expire(&self) {
        let now = self.clock.mono();
        self.remove(|_, consumer| Millis::from(now.saturating_sub(consumer.seen_at)) >= SESSION_SILENT_MAX);
    }

    fn remove(&self, goes: impl Fn(&GroupName, &Consumer) -> bool) {
        self.consumers.lock().retain(|group, of_group| {
            let before = of_group.len();
            of_group.retain(|_, consumer| !goes(group, consumer));
            if of_group.len() < before {
                notify(group, of_group);
            }
            !of_group.is_empty()
        });
    }

    /// The ids of a group's clients.
    pub fn ids(&self, group: &GroupName) -> Vec<String> {
        self.consumers.lock().get(group).map(|of_group| of_group.keys().cloned().collect()).unwrap_or_default()
    }

    /// What a group subscribed to in a topic: the newest that a client of it says.
    pub fn subscription(&self, group: &GroupName, topic: &TopicName) -> Option<VersionedSubscription> {
        let consumers = self.consumers.lock();
        let all = consumers.get(group)?.values().flat_map(|consumer| &consumer.said.subscriptions);
        let of_topic = all.filter(|versioned| versioned.subscription.topic == *topic);
        of_topic.max_by_key(|versioned| versioned.version).cloned()
    }

    /// All that a group subscribed to: of each topic the newest.
    pub(super) fn subscriptions(&self, group: &GroupName) -> Vec<VersionedSubscription> {
        let consumers = self.consumers.lock();
        let mut newest: BTreeMap<&TopicName, &VersionedSubscription> = BTreeMap::new();
        let of_group = consumers.get(group).into_iter().flat_map(BTreeMap::values);
        for versioned in of_group.flat_map(|consumer| &consumer.said.subscriptions) {
            let known = newest.entry(&versioned.subscription.topic).or_insert(versioned);
            if known.version < versioned.version {
                *known = versioned;
            }
        }
        newest.into_values().cloned().collect()
    }

    /// Has all consumers of a group go on at other offsets; how many there are.
    pub(super) fn reset(&self, reset: OffsetsReset) -> usize {
        let (group, reset) = (reset.group.clone(), Arc::new(reset));
        let consumers = self.consumers.lock();
        let of_group = consumers.get(&group).into_iter().flat_map(BTreeMap::values);
        let clustering = of_group.filter(|consumer| !consumer.said.is_broadcasting);
        clustering
            .map(|consumer| {
                consumer.ask(Notice::OffsetsReset { reset: reset.clone(), client: consumer.said.client.clone() })
            })
            .count()
    }

    /// Asks a consumer of a group; false if it is not here.
    pub fn ask(&self, group: &GroupName, client_id: &str, question: ClientQuestion) -> bool {
        let consumers = self.consumers.lock();
        let consumer = consumers.get(group).and_then(|of_group| of_group.get(client_id));
        consumer.map(|consumer| consumer.ask(Notice::Question(question))).is_some()
    }

    /// The consumer of a group that is in it for longest, and since when.
    pub(super) fn first_of(&self, group: &GroupName) -> Option<(ClientInfo, Timestamp)> {
        let consumers = self.consumers.lock();
        let first = consumers.get(group)?.values().min_by_key(|consumer| consumer.since)?;
        Some((ClientInfo::clone(&first.said.client), first.since))
    }

    /// The consumers of a group.
    pub(super) fn consumers(&self, group: &GroupName) -> Vec<GroupConsumer> {
        let (mono, wall) = (self.clock.mono(), self.clock.wall());
        let consumers = self.consumers.lock();
        let consumer = |consumer: &Consumer| GroupConsumer {
            client: ClientInfo::clone(&consumer.said.client),
            seen_at: consumer.seen_at(mono, wall),
            subscriptions: consumer.subscriptions(),
        };
        consumers.get(group).into_iter().flat_map(BTreeMap::values).take(CONSUMERS_NAMED_MAX).map(consumer).collect()
    }

    /// How many consumers each group has.
    pub(super) fn counts(&self) -> BTreeMap<GroupName, u32> {
        let consumers = self.consumers.lock();
        let count = |of_group: &BTreeMap<String, Consumer>| u32::try_from(of_group.len()).unwrap_or(u32::MAX);
        consumers.iter().map(|(group, of_group)| (group.clone(), count(of_group))).collect()
    }

    /// All consumers, one with several groups once for each: at most so many, and how many more there are.
    pub(super) fn known(&self, limit: usize) -> (Vec<KnownClient>, usize) {
        let (mono, wall) = (self.clock.mono(), self.clock.wall());
        let consumers = self.consumers.lock();
        let count: usize = consumers.values().map(BTreeMap::len).sum();
        let all =
            consumers.iter().flat_map(|(group, of_group)| of_group.values().map(move |consumer| (group, consumer)));
        let known = |(group, consumer): (&GroupName, &Consumer)| KnownClient {
            info: ClientInfo::clone(&consumer.said.client),
            seen_at: consumer.seen_at(mono, wall),
            group: Some(group.clone()),
            topics: Vec::new(),
            subscriptions: consumer.subscriptions(),
            producer_group: None,
        };
        (all.take(limit).map(known).collect(), count.saturating_sub(limit))
    }

    /// Whether a consumer of the group is here.
    pub fn is_known(&self, group: &GroupName) -> bool {
        self.consumers.lock().contains_key(group)
    }
}

fn notify(group: &GroupName, of_group: &BTreeMap<String, Consumer>) {
    for consumer in of_group.values() {
        // One that has not taken the notices before looks for itself, every twenty seconds.
        let _ = consumer.changes.try_send(Notice::ConsumersChanged(group.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Budget;
    use crate::env::clock::ManualClock;
    use crate::model::Timestamp;

    fn said(client_id: &str, version: i64) -> HeartbeatConsumer {
        let topic = TopicName::parse("t").unwrap();
        let subscription = Subscription { topic, is_sql: false, expression: version.to_string() };
        HeartbeatConsumer {
            client: Arc::new(ClientInfo { client_id: client_id.into(), ..ClientInfo::default() }),
            is_broadcasting: false,
            subscriptions: vec![VersionedSubscription { subscription, version }],
        }
    }

    struct Fixture {
        clock: Arc<ManualClock>,
        clients: HeartbeatClients,
        group: GroupName,
        changes: mpsc::Sender<Notice>,
        changed: mpsc::Receiver<Notice>,
        budget: Budget,
        share: Share,
    }

    impl Fixture {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::new(Timestamp(0)));
            let (changes, changed) = mpsc::channel(16);
            let group = GroupName::parse("g").unwrap();
            let budget = Budget::new("tests", 4 * 16 * 1024);
            let share = budget.share([10, 0, 0, 1].into());
            Self { clients: HeartbeatClients::new(clock.clone()), clock, group, changes, changed, budget, share }
        }

        fn seen(&self, client_id: &str, version: i64, connection: u64) {
            let connection = ConnectionNumber(connection);
            let said = said(client_id, version);
            self.clients.seen(&self.group, said, connection, &self.changes, &self.share).unwrap();
        }

        /// How many consumers were notified since the last time.
        fn notified(&mut self) -> usize {
            std::iter::from_fn(|| self.changed.try_recv().ok()).count()
        }
    }

    #[test]
    fn consumers_are_in_their_group_until_they_leave_or_their_connection_ends() {
        let mut all = Fixture::new();
        all.seen("a", 1, 1);
        all.seen("b", 1, 2);
        all.seen("b", 1, 2);
        assert_eq!((all.clients.ids(&all.group), all.notified()), (vec!["a".to_owned(), "b".to_owned()], 3));
        all.clients.left(&all.group, "a", ConnectionNumber(2));
        assert_eq!((all.clients.ids(&all.group).len(), all.notified()), (2, 0), "said by another connection");
        all.clients.left(&all.group, "a", ConnectionNumber(1));
        assert_eq!((all.clients.ids(&all.group).len(), all.notified()), (1, 1));
        all.clients.connection_ended(ConnectionNumber(1));
        assert!(all.clients.is_known(&all.group));
        all.clients.connection_ended(ConnectionNumber(2));
        assert_eq!((all.clients.ids(&all.group).len(), all.clients.is_known(&all.group)), (0, false));
    }

    #[test]
    fn p20_what_a_connection_says_in_heartbeats_has_a_bound_and_is_free_once_it_does_not_hold() {
        let all = Fixture::new();
        let long = HeartbeatConsumer {
            subscriptions: vec![
                VersionedSubscription {
                    subscription: Subscription {
                        topic: TopicName::parse("t").unwrap(),
                        is_sql: true,
                        expression: "e".repeat(4000)
                    },
                    version: 1
                };
                3
            ],
            ..said("a", 1)
        };
        let seen = |said| all.clients.seen(&all.group, said, ConnectionNumber(1), &all.changes, &all.share);
        assert_eq!(seen(long.clone()), Ok(()));
        let other = HeartbeatConsumer { client: said("b", 1).client, ..long };
        let refused = seen(other).unwrap_err().to_string();
        assert!(refused.contains("this connection holds") && refused.contains("of 16384 bytes"), "{refused}");
        assert_eq!(all.clients.ids(&all.group), ["a"]);
        all.seen("a", 2, 1);
        assert!(all.budget.held() < 2 * CLIENT_COST, "what it said before does not hold any more");
        all.clients.connection_ended(ConnectionNumber(1));
        assert_eq!(all.budget.held(), 0);
    }

    #[test]
    fn a_client_that_comes_back_by_another_connection_is_one_consumer() {
        let all = Fixture::new();
        all.seen("a", 1, 1);
        all.seen("a", 1, 2);
        all.clients.connection_ended(ConnectionNumber(1));
        assert_eq!(all.clients.ids(&all.group), ["a"]);
    }

    #[test]
    fn a_silent_consumer_is_forgotten_and_the_newest_subscription_counts() {
        let mut all = Fixture::new();
        all.seen("a", 7, 1);
        all.clock.advance(Millis(SESSION_SILENT_MAX.0 - 1));
        all.seen("b", 6, 1);
        all.clients.expire();
        let topic = TopicName::parse("t").unwrap();
        assert_eq!(all.clients.subscription(&all.group, &topic).unwrap().version, 7);
        assert_eq!(all.clients.subscription(&all.group, &TopicName::parse("u").unwrap()), None);
        all.notified();
        all.clock.advance(Millis(1));
        all.clients.expire();
        assert_eq!((all.clients.ids(&all.group), all.notified()), (vec!["b".to_owned()], 1));
        assert_eq!(all.clients.subscription(&all.group, &topic).unwrap().version, 6);
        all.seen("b", 8, 1);
        assert_eq!(all.notified(), 1, "another subscription is a change");
        let consumers = all.clients.consumers(&all.group);
        assert_eq!((consumers.len(), consumers[0].subscriptions[0].expression.as_str()), (1, "8"));
        let (known, more) = all.clients.known(9);
        assert_eq!((known[0].group.as_ref(), known.len(), more), (Some(&all.group), 1, 0));
        assert_eq!((all.clients.known(0).1, all.clients.first_of(&all.group).unwrap().0.client_id.as_str()), (1, "b"));
    }
}
