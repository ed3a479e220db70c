//! The producers that say by heartbeats which groups they are in, which is how RocketMQ's classic clients do it: whom to ask
//! about a transaction that nobody ended, and to whom an answer to a message goes.
//!
//! A producer counts until it says goodbye, its connection ends, or it was silent for two minutes. Its first heartbeat may
//! come long after its first half message: that it is not known means nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::broker::{ClientInfo, Held, OrphanedTransaction, Share};
use crate::env::clock::Clock;
use crate::model::limits::{SESSION_SILENT_MAX, SESSIONS_MAX};
use crate::model::{GroupName, Millis, Timestamp};
use crate::node::heartbeat_clients::{CLIENT_COST, NotNoted};
use crate::node::{ConnectionNumber, Notice};

/// A producer as tools see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupProducer {
    pub client: Arc<ClientInfo>,
    /// By the time of day.
    pub seen_at: Timestamp,
}

struct Producer {
    client: Arc<ClientInfo>,
    connection: ConnectionNumber,
    /// By the monotonic clock.
    seen_at: Duration,
    /// Takes what it is asked, and answers to its messages.
    notices: mpsc::Sender<Notice>,
    /// What it holds of its connection's share.
    _held: Held,
}

/// By group, then by client id.
type Producers = BTreeMap<GroupName, BTreeMap<String, Producer>>;

/// The producers on this node.
pub struct HeartbeatProducers {
    clock: Arc<dyn Clock>,
    producers: Mutex<Producers>,
}

impl HeartbeatProducers {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, producers: Mutex::default() }
    }

    /// Notes that a heartbeat names a group.
    pub fn seen(
        &self,
        group: &GroupName,
        client: &Arc<ClientInfo>,
        connection: ConnectionNumber,
        notices: &mpsc::Sender<Notice>,
        share: &Share,
    ) -> Result<(), NotNoted> {
        let held = share.take(CLIENT_COST + 2 * client.client_id.len() as u64)?;
        let mut producers = self.producers.lock();
        let is_known = producers.get(group).is_some_and(|of_group| of_group.contains_key(&client.client_id));
        let count = if is_known { 0 } else { producers.values().map(BTreeMap::len).sum() };
        if count >= SESSIONS_MAX {
            return Err(NotNoted::TooManyProducers(count));
        }
        let (client, seen_at, notices) = (client.clone(), self.clock.mono(), notices.clone());
        let client_id = client.client_id.clone();
        let producer = Producer { client, connection, seen_at, notices, _held: held };
        producers.entry(group.clone()).or_default().insert(client_id, producer);
        Ok(())
    }

    /// A client leaves a group, if it says so by the connection that its heartbeats come by.
    pub fn left(&self, group: &GroupName, client_id: &str, connection: ConnectionNumber) {
        self.remove(|of, id, producer| of == group && id == client_id && producer.connection == connection);
    }

    /// A connection ended, and with it every client behind it.
    pub fn connection_ended(&self, connection: ConnectionNumber) {
        self.remove(|_, _, producer| producer.connection == connection);
    }

    /// Forgets producers that were silent for too long.
    pub(super) fn expire(&self) {
        let now = self.clock.mono();
        self.remove(|_, _, producer| Millis::from(now.saturating_sub(producer.seen_at)) >= SESSION_SILENT_MAX);
    }

    fn remove(&self, goes: impl Fn(&GroupName, &str, &Producer) -> bool) {
        self.producers.lock().retain(|group, of_group| {
            of_group.retain(|id, producer| !goes(group, id, producer));
            !of_group.is_empty()
        });
    }

    /// The ids of a group's producers.
    pub fn ids(&self, group: &GroupName) -> Vec<String> {
        self.producers.lock().get(group).map(|of_group| of_group.keys().cloned().collect()).unwrap_or_default()
    }

    /// The producers of a group, or of all groups, at most so many.
    pub fn known(&self, group: Option<&GroupName>, limit: usize) -> Vec<(GroupName, GroupProducer)> {
        let (mono, wall) = (self.clock.mono(), self.clock.wall());
        let seen_at = |at: Duration| Timestamp(wall.0.saturating_sub(Millis::from(mono.saturating_sub(at)).0));
        let producers = self.producers.lock();
        let groups = producers.iter().filter(|(name, _)| group.is_none_or(|group| group == *name));
        let all = groups.flat_map(|(name, of_group)| of_group.values().map(move |producer| (name, producer)));
        let known = |(name, producer): (&GroupName, &Producer)| {
            (name.clone(), GroupProducer { client: producer.client.clone(), seen_at: seen_at(producer.seen_at) })
        };
        all.take(limit).map(known).collect()
    }

    /// How many there are, one with several groups once for each.
    pub fn count(&self) -> usize {
        self.producers.lock().values().map(BTreeMap::len).sum()
    }

    /// Has a client told or asked something; false if it is not here, or does not take what it is told.
    pub fn tell(&self, client_id: &str, notice: Notice) -> bool {
        let producers = self.producers.lock();
        let producer = producers.values().find_map(|of_group| of_group.get(client_id));
        producer.is_some_and(|producer| producer.notices.try_send(notice).is_ok())
    }

    /// Asks a producer of the group, another one at every `turn`; false if none of them takes the question.
    pub(super) fn ask(&self, group: &GroupName, transaction: &OrphanedTransaction, turn: u64) -> bool {
        let producers = self.producers.lock();
        let Some(of_group) = producers.get(group) else { return false };
        let first = usize::try_from(turn % of_group.len() as u64).unwrap_or(0);
        let in_turn = of_group.values().cycle().skip(first).take(of_group.len());
        let question = || Notice::Orphan(Box::new(transaction.clone()));
        in_turn.into_iter().any(|producer| producer.notices.try_send(question()).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::broker::Budget;
    use crate::env::clock::ManualClock;
    use crate::model::{BodyEncoding, LogIndex, Message, MessageRef, MessageType, TopicId, TopicName};

    fn transaction() -> OrphanedTransaction {
        let message = Message {
            message_id: "id".into(),
            message_type: MessageType::Transaction,
            body_encoding: BodyEncoding::Identity,
            body: Bytes::new(),
            body_md5: None,
            tag: None,
            keys: Vec::new(),
            properties: Vec::new(),
            born_at: Timestamp(0),
            born_host: String::new(),
            message_group: None,
            delivery_at: None,
            trace_context: None,
            priority: None,
            recovery_after: None,
            classic: None,
        };
        OrphanedTransaction {
            topic: TopicName::parse("t").unwrap(),
            topic_id: TopicId(1),
            queue: None,
            message,
            at: MessageRef { index: LogIndex(1), slot: 0 },
            stored_at: Timestamp(0),
        }
    }

    #[test]
    fn producers_of_a_group_are_asked_in_turn_as_long_as_they_are_there() {
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let producers = HeartbeatProducers::new(clock.clone());
        let [group, other] = ["g", "other"].map(|name| GroupName::parse(name).unwrap());
        let channels: Vec<_> = (0..3).map(|_| mpsc::channel(1)).collect();
        let (senders, mut receivers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
        let share = Budget::new("tests", 1 << 20).share([10, 0, 0, 1].into());
        for (number, sender) in senders.iter().enumerate() {
            let id = format!("c{number}");
            let client = Arc::new(ClientInfo { client_id: id, ..ClientInfo::default() });
            producers.seen(&group, &client, ConnectionNumber(number as u64), sender, &share).unwrap();
        }
        assert_eq!(producers.ids(&group), ["c0", "c1", "c2"]);
        let question = transaction();
        let mut asks = |turn| {
            let is_asked = producers.ask(&group, &question, turn);
            let asked: Vec<_> = receivers.iter_mut().map(|receiver| receiver.try_recv().is_ok()).collect();
            (is_asked, asked.iter().position(|is_asked| *is_asked))
        };
        assert_eq!([4, 5, 6].map(&mut asks), [(true, Some(1)), (true, Some(2)), (true, Some(0))]);
        // One that does not take its questions is passed over.
        senders[1].try_send(Notice::Orphan(Box::new(question.clone()))).unwrap();
        assert!(producers.ask(&group, &question, 1));
        assert!(receivers[2].try_recv().is_ok() && receivers[1].try_recv().is_ok());
        assert!(!producers.ask(&other, &question, 0), "of another group");
        assert_eq!(
            (producers.count(), producers.known(None, 2).len(), producers.known(Some(&group), 9).len()),
            (3, 2, 3)
        );
        assert!(producers.known(Some(&other), 9).is_empty());
        assert!(producers.tell("c2", Notice::Orphan(Box::new(question.clone()))) && receivers[2].try_recv().is_ok());
        assert!(!producers.tell("c3", Notice::Orphan(Box::new(question.clone()))), "nobody");
        producers.left(&group, "c0", ConnectionNumber(1));
        assert_eq!(producers.ids(&group).len(), 3, "said by another connection");
        producers.left(&group, "c0", ConnectionNumber(0));
        producers.connection_ended(ConnectionNumber(1));
        assert_eq!(producers.ids(&group), ["c2"]);
        clock.advance(SESSION_SILENT_MAX);
        producers.expire();
        assert!(producers.ids(&group).is_empty() && !producers.ask(&group, &question, 0));
    }
}
