//! The question that nodes ask each other: which consumers of a group do you see? Its answer between peers.
//!
//! Shape: the question is the group's name; the answer a list of consumers, each its id, language, version, address,
//! when it was seen, and a list of subscriptions.

use bytes::{BufMut, Bytes, BytesMut};

use crate::broker::{ClientInfo, GroupConsumer, Subscription};
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{GroupName, Timestamp, TopicName};
use crate::node::Sessions;

/// Most bytes of an answer, give or take one consumer.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Answers another node with the consumers of a group on this one; with none for what is no group name.
pub(super) fn answer(sessions: &Sessions, question: &[u8]) -> Bytes {
    let group = std::str::from_utf8(question).ok().and_then(|name| GroupName::parse(name).ok());
    let mut consumers = group.map(|group| sessions.consumers(&group)).unwrap_or_default();
    let mut total = 0;
    consumers.retain(|consumer| {
        total += bytes_of(consumer);
        total <= ANSWER_BYTES_MAX
    });
    let mut out = BytesMut::new();
    out.put_list(&consumers, |out, consumer| encode(consumer, out));
    out.freeze()
}

/// Reads what another node answered.
pub(super) fn read_answer(answer: Bytes) -> Result<Vec<GroupConsumer>, Malformed> {
    Reader::new(answer, "members of a group").list(decode)
}

/// About what a consumer takes in an answer.
fn bytes_of(consumer: &GroupConsumer) -> usize {
    let ClientInfo { client_id, language, version, address } = &consumer.client;
    let texts: usize = [client_id, language, version, address].map(String::len).iter().sum();
    let wanted = |wanted: &Subscription| wanted.topic.as_str().len() + wanted.expression.len() + 16;
    32 + texts + consumer.subscriptions.iter().map(wanted).sum::<usize>()
}

fn encode(consumer: &GroupConsumer, out: &mut BytesMut) {
    let ClientInfo { client_id, language, version, address } = &consumer.client;
    for text in [client_id, language, version, address] {
        out.put_text(text);
    }
    out.put_u64(consumer.seen_at.0);
    out.put_list(&consumer.subscriptions, |out, subscription| {
        out.put_text(subscription.topic.as_str());
        out.put_u8(subscription.is_sql.into());
        out.put_text(&subscription.expression);
    });
}

fn decode(reader: &mut Reader) -> Result<GroupConsumer, Malformed> {
    Ok(GroupConsumer {
        client: ClientInfo {
            client_id: reader.text()?,
            language: reader.text()?,
            version: reader.text()?,
            address: reader.text()?,
        },
        seen_at: Timestamp(reader.u64()?),
        subscriptions: reader.list(|reader| {
            Ok(Subscription {
                topic: TopicName::stored(&reader.text()?),
                is_sql: reader.bool()?,
                expression: reader.text()?,
            })
        })?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::env::clock::ManualClock;
    use crate::node::{ClientHeader, SessionSettings};

    #[test]
    fn an_answer_names_the_consumers_of_the_group_that_was_asked_for() {
        let sessions = Sessions::new(Arc::new(ManualClock::new(Timestamp(0))));
        sessions.seen(ClientHeader { client_id: "c", ..ClientHeader::default() });
        let group = GroupName::parse("g").unwrap();
        let subscription =
            Subscription { topic: TopicName::parse("t").unwrap(), is_sql: true, expression: "a > 1".into() };
        let settings = SessionSettings {
            group: Some(group.clone()),
            topics: Vec::new(),
            subscriptions: vec![subscription],
            request_timeout: None,
        };
        sessions.settings("c", settings);
        assert_eq!(sessions.consumers(&group).len(), 1);
        assert_eq!(read_answer(answer(&sessions, b"g")), Ok(sessions.consumers(&group)));
        assert_eq!(read_answer(answer(&sessions, b"other")), Ok(Vec::new()));
    }
}
