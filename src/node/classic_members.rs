//! The question that nodes ask each other for the classic consumers of a group, and what they believe of its answers.
//! Who asks: `classic_groups`.
//!
//! Such a consumer sends its heartbeats to every node that it knows, so each node sees all of them, in time: a node that was just
//! started is in no client's route yet, and one whose connection to a client ended misses it until its next heartbeat, half a
//! minute each. Consumers that were told of different members would divide the queues differently, and consume some twice (D224).
//!
//! Shape: the question is a four (no group's name begins with it), a version and the group's name; the answer the version, a
//! list of client ids, and a list of subscriptions, each its topic, kind, expression and how new it is.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::broker::Subscription;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{GroupName, TopicName};
use crate::node::{HeartbeatClients, VersionedSubscription};

const VERSION: u8 = 1;
const KIND: u8 = 4;
/// Most bytes of an answer, give or take one client or subscription.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;
/// So long a subscription that other nodes know is believed: meanwhile the heartbeat of one of the group's clients comes.
const BELIEVED_FOR: Duration = Duration::from_secs(60);
/// Subscriptions that are believed.
const BELIEVED_MAX: usize = 10_000;

/// What one node sees of a group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub client_ids: Vec<String>,
    /// Of each topic the newest.
    pub subscriptions: Vec<VersionedSubscription>,
}

/// Subscriptions that other nodes know, each with the end of that.
#[derive(Default)]
pub(super) struct Believed {
    by_topic: Mutex<BTreeMap<(GroupName, TopicName), (VersionedSubscription, Instant)>>,
}

impl Believed {
    pub fn get(&self, group: &GroupName, topic: &TopicName, now: Instant) -> Option<VersionedSubscription> {
        let by_topic = self.by_topic.lock();
        let (subscription, until) = by_topic.get(&(group.clone(), topic.clone()))?;
        (now < *until).then(|| subscription.clone())
    }

    pub fn put(&self, group: &GroupName, topic: &TopicName, subscription: VersionedSubscription, now: Instant) {
        let mut by_topic = self.by_topic.lock();
        if by_topic.len() >= BELIEVED_MAX {
            by_topic.retain(|_, (_, until)| now < *until);
        }
        if by_topic.len() < BELIEVED_MAX {
            by_topic.insert((group.clone(), topic.clone()), (subscription, now + BELIEVED_FOR));
        }
    }
}

/// Asks another node about a group.
pub(super) fn question(group: &GroupName) -> Bytes {
    [&[KIND, VERSION][..], group.as_str().as_bytes()].concat().into()
}

/// Whether another node asks for classic consumers.
pub(super) fn is_question(question: &[u8]) -> bool {
    question.first() == Some(&KIND)
}

/// Answers another node; with nothing if the question is of a newer build.
pub(super) fn answer(heartbeat_clients: &HeartbeatClients, question: &[u8]) -> Bytes {
    let Some(group) = question.strip_prefix(&[KIND, VERSION]).and_then(|name| std::str::from_utf8(name).ok()) else {
        return Bytes::new();
    };
    let Ok(group) = GroupName::parse(group) else { return Bytes::new() };
    let mut total = 0;
    let mut has_room = |bytes: usize| {
        total += bytes + 16;
        total <= ANSWER_BYTES_MAX
    };
    let mut subscriptions = heartbeat_clients.subscriptions(&group);
    subscriptions.retain(|VersionedSubscription { subscription, .. }| {
        has_room(subscription.topic.as_str().len() + subscription.expression.len())
    });
    let mut client_ids = heartbeat_clients.ids(&group);
    client_ids.retain(|client_id| has_room(client_id.len()));
    encode(&Seen { client_ids, subscriptions })
}

fn encode(seen: &Seen) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    out.put_list(&seen.client_ids, |out, client_id| out.put_text(client_id));
    out.put_list(&seen.subscriptions, |out, VersionedSubscription { subscription, version }| {
        out.put_text(subscription.topic.as_str());
        out.put_u8(subscription.is_sql.into());
        out.put_text(&subscription.expression);
        out.put_u64(version.cast_unsigned());
    });
    out.freeze()
}

/// * Errors: the answer is of a newer build, or none.
pub(super) fn read_answer(answer: Bytes) -> Result<Seen, Malformed> {
    let mut reader = Reader::versioned(answer, "classic consumers of a node", VERSION)?;
    let client_ids = reader.list(Reader::text)?;
    let subscriptions = reader.list(|reader| {
        let topic = TopicName::stored(&reader.text()?);
        let subscription = Subscription { topic, is_sql: reader.bool()?, expression: reader.text()? };
        Ok(VersionedSubscription { subscription, version: reader.u64()?.cast_signed() })
    })?;
    Ok(Seen { client_ids, subscriptions })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::broker::Budget;
    use crate::broker::ClientInfo;
    use crate::env::clock::ManualClock;
    use crate::model::Timestamp;
    use crate::node::{ConnectionNumber, HeartbeatConsumer};

    fn subscription(topic: &str, version: i64) -> VersionedSubscription {
        let topic = TopicName::parse(topic).unwrap();
        VersionedSubscription {
            subscription: Subscription { topic, is_sql: true, expression: "a > 1".into() },
            version,
        }
    }

    #[test]
    fn an_answer_names_the_clients_of_the_group_and_the_newest_of_its_subscriptions() {
        let clients = HeartbeatClients::new(Arc::new(ManualClock::new(Timestamp(7))));
        let (changes, _changed) = mpsc::channel(9);
        let share = Budget::new("tests", 1 << 20).share([10, 0, 0, 1].into());
        let group = GroupName::parse("g").unwrap();
        for (client_id, versions) in [("a", [-1, 5]), ("b", [2, 4])] {
            let client = ClientInfo { client_id: client_id.into(), ..ClientInfo::default() };
            let subscriptions = vec![subscription("t", versions[0]), subscription("u", versions[1])];
            let said = HeartbeatConsumer { client: Arc::new(client), is_broadcasting: false, subscriptions };
            clients.seen(&group, said, ConnectionNumber(1), &changes, &share).unwrap();
        }
        let of = |group: &str| read_answer(answer(&clients, &question(&GroupName::parse(group).unwrap())));
        let subscriptions = vec![subscription("t", 2), subscription("u", 5)];
        assert_eq!(of("g"), Ok(Seen { client_ids: vec!["a".into(), "b".into()], subscriptions }));
        assert_eq!(of("other"), Ok(Seen::default()));
        let negative = Seen { client_ids: Vec::new(), subscriptions: vec![subscription("t", -1)] };
        assert_eq!(read_answer(encode(&negative)), Ok(negative));
        assert!(is_question(&question(&group)) && !is_question(b"g") && !is_question(&[3, 1]) && !is_question(&[]));
        assert!(answer(&clients, &[KIND, VERSION + 1, b'g']).is_empty(), "of a newer build");
        assert!(read_answer(Bytes::new()).is_err(), "and its answer is none");
    }

    #[test]
    fn what_other_nodes_know_is_believed_for_a_while() {
        let (believed, now) = (Believed::default(), Instant::now());
        let (group, topic) = (GroupName::parse("g").unwrap(), TopicName::parse("t").unwrap());
        believed.put(&group, &topic, subscription("t", 3), now);
        let last = now + BELIEVED_FOR - Duration::from_millis(1);
        assert_eq!(believed.get(&group, &topic, last), Some(subscription("t", 3)));
        assert_eq!(believed.get(&group, &topic, now + BELIEVED_FOR), None);
        // Those whose time is over make room.
        for number in 1..BELIEVED_MAX {
            let topic = TopicName::parse(&format!("t{number}")).unwrap();
            believed.put(&group, &topic, subscription("t", 3), last);
        }
        let more = TopicName::parse("more").unwrap();
        believed.put(&group, &more, subscription("t", 3), last);
        assert_eq!(believed.get(&group, &more, last), None);
        believed.put(&group, &more, subscription("t", 3), now + BELIEVED_FOR);
        assert!(believed.get(&group, &more, now + BELIEVED_FOR).is_some());
    }
}
