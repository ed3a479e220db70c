//! The question that nodes ask each other: which clients do you see? And its answer between peers.
//!
//! Shape: the question is a one (no group's name begins with it) and a version; the answer the version, how many were left
//! out, and a list of clients, each its id, language, version, address, when it was seen, its group if it consumes, the
//! topics it publishes to, a list of subscriptions, and its group if it produces and says so.

use bytes::{BufMut, Bytes, BytesMut};

use crate::broker::{ClientInfo, Subscription};
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{GroupName, Timestamp, TopicName};
use crate::node::{GroupProducer, HeartbeatClients, HeartbeatProducers, KnownClient, Sessions};

const VERSION: u8 = 2;
const QUESTION: &[u8] = &[1, VERSION];
/// Most clients, and about the most bytes, of an answer.
pub(super) const CLIENTS_MAX: usize = 2000;
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

pub(super) fn question() -> Bytes {
    Bytes::from_static(QUESTION)
}

/// Whether another node asks for clients.
pub(super) fn is_question(question: &[u8]) -> bool {
    question.first() == QUESTION.first()
}

/// The clients of this node: at most so many, and how many more there are.
pub(super) fn of_node(
    sessions: &Sessions,
    heartbeat_clients: &HeartbeatClients,
    producers: &HeartbeatProducers,
) -> (Vec<KnownClient>, usize) {
    let (mut clients, left_out) = sessions.known(CLIENTS_MAX);
    let (classic, more) = heartbeat_clients.known(CLIENTS_MAX - clients.len());
    clients.extend(classic);
    let room = CLIENTS_MAX - clients.len();
    let producers_left_out = producers.count().saturating_sub(room);
    let producer = |(group, GroupProducer { client, seen_at })| KnownClient {
        info: ClientInfo::clone(&client),
        seen_at,
        group: None,
        topics: Vec::new(),
        subscriptions: Vec::new(),
        producer_group: Some(group),
    };
    clients.extend(producers.known(None, room).into_iter().map(producer));
    (clients, left_out + more + producers_left_out)
}

/// Answers another node; with nothing if the question is of a newer build.
pub(super) fn answer(
    sessions: &Sessions,
    heartbeat_clients: &HeartbeatClients,
    producers: &HeartbeatProducers,
    question: &[u8],
) -> Bytes {
    if question != QUESTION {
        return Bytes::new();
    }
    let (mut clients, mut left_out) = of_node(sessions, heartbeat_clients, producers);
    let (before, mut total) = (clients.len(), 0);
    clients.retain(|client| {
        total += bytes_of(client);
        total <= ANSWER_BYTES_MAX
    });
    left_out += before - clients.len();
    let mut out = BytesMut::with_capacity(total.min(ANSWER_BYTES_MAX));
    out.put_u8(VERSION);
    out.put_varint(left_out as u64);
    out.put_list(&clients, |out, client| encode(client, out));
    out.freeze()
}

/// Reads what another node answered: its clients, and how many it left out.
pub(super) fn read_answer(answer: Bytes) -> Result<(Vec<KnownClient>, usize), Malformed> {
    let mut reader = Reader::versioned(answer, "clients of a node", VERSION)?;
    let left_out = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    Ok((reader.list(decode)?, left_out))
}

/// About what a client takes in an answer.
fn bytes_of(client: &KnownClient) -> usize {
    let ClientInfo { client_id, language, version, address } = &client.info;
    let texts: usize = [client_id, language, version, address].map(String::len).iter().sum();
    let topics: usize = client.topics.iter().map(|topic| topic.as_str().len() + 8).sum();
    let wanted = |wanted: &Subscription| wanted.topic.as_str().len() + wanted.expression.len() + 16;
    64 + texts + topics + client.subscriptions.iter().map(wanted).sum::<usize>()
}

fn encode(client: &KnownClient, out: &mut BytesMut) {
    let ClientInfo { client_id, language, version, address } = &client.info;
    for text in [client_id, language, version, address] {
        out.put_text(text);
    }
    out.put_u64(client.seen_at.0);
    out.put_option(client.group.as_ref(), |out, group| out.put_text(group.as_str()));
    out.put_list(&client.topics, |out, topic| out.put_text(topic.as_str()));
    out.put_list(&client.subscriptions, |out, wanted| {
        out.put_text(wanted.topic.as_str());
        out.put_u8(wanted.is_sql.into());
        out.put_text(&wanted.expression);
    });
    out.put_option(client.producer_group.as_ref(), |out, group| out.put_text(group.as_str()));
}

fn decode(reader: &mut Reader) -> Result<KnownClient, Malformed> {
    Ok(KnownClient {
        info: ClientInfo {
            client_id: reader.text()?,
            language: reader.text()?,
            version: reader.text()?,
            address: reader.text()?,
        },
        seen_at: Timestamp(reader.u64()?),
        group: reader.option(Reader::text)?.map(|name| GroupName::stored(&name)),
        topics: reader.list(|reader| Ok(TopicName::stored(&reader.text()?)))?,
        subscriptions: reader.list(|reader| {
            Ok(Subscription {
                topic: TopicName::stored(&reader.text()?),
                is_sql: reader.bool()?,
                expression: reader.text()?,
            })
        })?,
        producer_group: reader.option(Reader::text)?.map(|name| GroupName::stored(&name)),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::Budget;
    use crate::env::clock::ManualClock;
    use crate::node::{ClientHeader, SessionSettings};

    #[test]
    fn an_answer_names_the_clients_with_what_they_do() {
        let clock = Arc::new(ManualClock::new(Timestamp(7)));
        let (sessions, heartbeat_clients) = (Sessions::new(clock.clone()), HeartbeatClients::new(clock.clone()));
        let producers = HeartbeatProducers::new(clock);
        for client_id in ["producer", "consumer", "silent"] {
            sessions.seen(ClientHeader { client_id, ..ClientHeader::default() });
        }
        let topic = || TopicName::parse("t").unwrap();
        let wanted = Subscription { topic: topic(), is_sql: true, expression: "a > 1".into() };
        let settings =
            |group: Option<&str>, topics: Vec<TopicName>, subscriptions: Vec<Subscription>| SessionSettings {
                group: group.map(|group| GroupName::parse(group).unwrap()),
                topics,
                subscriptions,
                request_timeout: None,
            };
        sessions.settings("producer", settings(None, vec![topic()], Vec::new()));
        sessions.settings("consumer", settings(Some("g"), Vec::new(), vec![wanted]));
        let asked = |question: &[u8]| answer(&sessions, &heartbeat_clients, &producers, question);
        let (clients, left_out) = read_answer(asked(QUESTION)).unwrap();
        assert_eq!((&clients, left_out), (&sessions.known(9).0, 0));
        assert_eq!((clients[0].group.as_ref().unwrap().as_str(), clients[1].topics.len()), ("g", 1));
        assert_eq!(sessions.known(2), (clients[..2].to_vec(), 1));
        assert!(is_question(QUESTION) && !is_question(b"group") && !is_question(&[0, 1]));
        assert!(asked(&[1, VERSION + 1]).is_empty(), "of a newer build");
        let (notices, _taken) = tokio::sync::mpsc::channel(1);
        let client = Arc::new(ClientInfo { client_id: "p@1".into(), ..ClientInfo::default() });
        let group = GroupName::parse("pg").unwrap();
        let share = Budget::new("tests", 1 << 20).share([10, 0, 0, 1].into());
        producers.seen(&group, &client, crate::node::ConnectionNumber(1), &notices, &share).unwrap();
        let classic = read_answer(asked(QUESTION)).unwrap().0.pop().unwrap();
        assert_eq!((classic.info.client_id.as_str(), classic.producer_group), ("p@1", Some(group)));
        assert!(read_answer(Bytes::new()).is_err(), "and its answer is none");
    }
}
