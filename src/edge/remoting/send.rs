//! Sends of one message and of batches, for the queue that the producer chose (remoting §4): now, later, or when a transaction is
//! committed. After: `broker/send`. Hot path.
//!
//! The answer comes when the messages are synced on a majority, whatever a producer says of waiting. What it sends again is
//! another message (D189).

use std::borrow::Cow;
use std::net::SocketAddr;

use crate::broker::{Broker, Deadline, Error};
use crate::edge::recall_handle::RecallHandle;
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Connection, Remoting, Request};
use crate::edge::remoting::message::{self, Origin};
use crate::edge::remoting::physical_offset::physical_offset;
use crate::edge::remoting::send_back::Retry;
use crate::edge::remoting::{reply, send_back, send_marks};
use crate::edge::rules;
use crate::edge::rules::message::MessageLimits;
use crate::model::limits::SEND_MESSAGES_MAX;
use crate::model::{Message, MessageRef, MessageType, QueueId, TopicName};
use crate::proto::remoting::{BadField, BatchPart, Fields, OffsetId, RequestCode, ResponseCode, read_parts};

/// The names of the fields, long and short.
struct Names {
    topic: &'static str,
    default_queues: &'static str,
    queue: &'static str,
    system_flags: &'static str,
    born_at: &'static str,
    flag: &'static str,
    properties: &'static str,
    reconsume_times: &'static str,
    max_reconsume_times: &'static str,
    is_batch: &'static str,
}

const LONG: Names = Names {
    topic: "topic",
    default_queues: "defaultTopicQueueNums",
    queue: "queueId",
    system_flags: "sysFlag",
    born_at: "bornTimestamp",
    flag: "flag",
    properties: "properties",
    reconsume_times: "reconsumeTimes",
    max_reconsume_times: "maxReconsumeTimes",
    is_batch: "batch",
};
const SHORT: Names = Names {
    topic: "b",
    default_queues: "d",
    queue: "e",
    system_flags: "f",
    born_at: "g",
    flag: "h",
    properties: "i",
    reconsume_times: "j",
    max_reconsume_times: "l",
    is_batch: "m",
};

const RETRY_PREFIX: &str = "%RETRY%";
const RETRY_QUEUES: u32 = 1;

/// A request as its fields say it.
struct Asked<'a> {
    topic: TopicName,
    default_queues: u32,
    /// Below 0 for any.
    queue: i32,
    flag: i32,
    properties: Cow<'a, str>,
    is_batch: bool,
    origin: Origin,
}

pub(super) async fn send(connection: &Connection, request: &Request, code: RequestCode) -> Result<Answer, Refused> {
    let names = if code == RequestCode::SendMessage { LONG } else { SHORT };
    let remoting = &connection.remoting;
    let asked = read(connection, &request.header.fields, &names)?;
    let id = |part: usize| new_id(connection, request.header.opaque, part);
    if let Some(group) = asked.topic.retry_group().filter(|_| !asked.is_batch) {
        let max = request.header.fields.number_if_given(names.max_reconsume_times)?;
        let retry = Retry { group, flag: asked.flag, properties: &asked.properties, origin: asked.origin, max };
        return send_back::by_producer(remoting, retry, request.body.clone(), || id(0)).await;
    }
    let messages = messages(&asked, request, id).await?;
    let queue = match u32::try_from(asked.queue) {
        Ok(queue) => QueueId(queue),
        Err(_) => any_queue(remoting, &asked, request.header.opaque).await?,
    };
    let sent = match remoting.broker.send_to_queue(&asked.topic, queue, &messages, Deadline::NONE).await {
        Err(Error::TopicNotFound(_)) => {
            make_topic(remoting, &asked).await?;
            remoting.broker.send_to_queue(&asked.topic, queue, &messages, Deadline::NONE).await
        }
        sent => sent,
    }?;
    let store_host = remoting.store_host.now(remoting.node.routes());
    let mut fields = Fields::default();
    fields.put("msgId", ids(sent.message, messages.len(), store_host));
    fields.put("queueId", queue);
    // A producer names a half message by this number and the one in the id.
    let is_half = messages[0].message_type == MessageType::Transaction;
    fields.put("queueOffset", if is_half { sent.topic.0.into() } else { sent.offset.0 });
    if let Some(at) = messages[0].delivery_at.filter(|_| messages[0].message_type == MessageType::Delay) {
        let key = remoting.broker.handle_key(Deadline::NONE).await?;
        let handle = RecallHandle::new(&asked.topic, at, sent.message, &messages[0].message_id);
        fields.put("recallHandle", handle.to_classic_text(&key, &remoting.node.settings().broker_name));
    }
    if !asked.is_batch {
        fields.put("transactionId", &messages[0].message_id);
    }
    send_marks::put(&mut fields, &remoting.settings);
    Ok(Answer::with(fields))
}

fn read<'a>(connection: &Connection, fields: &'a Fields, names: &Names) -> Result<Asked<'a>, Refused> {
    let remoting = &connection.remoting;
    let topic = rules::names::topic("", fields.text(names.topic)?)?;
    let system_flags: i32 = fields.number(names.system_flags)?;
    let reconsume_times: i32 = fields.number_if_given(names.reconsume_times)?.unwrap_or(0);
    Ok(Asked {
        topic,
        default_queues: fields.number_if_given(names.default_queues)?.unwrap_or(remoting.settings.topic_queues),
        queue: fields.number(names.queue)?,
        flag: fields.number_if_given(names.flag)?.unwrap_or(0),
        properties: reply::marked(fields.get(names.properties).unwrap_or_default(), &remoting.node.settings().cluster),
        is_batch: fields.is_true(names.is_batch),
        origin: Origin {
            system_flags,
            born_at: fields.number(names.born_at)?,
            born_host: connection.peer,
            reconsume_times: u32::try_from(reconsume_times)
                .map_err(|_| BadField::NoNumber { name: names.reconsume_times, value: reconsume_times.to_string() })?,
            limits: MessageLimits {
                body_bytes_max: remoting.settings.body_bytes_max,
                delay_max: remoting.settings.delay_max,
                now: remoting.broker.now(),
            },
        },
    })
}

async fn messages(asked: &Asked<'_>, request: &Request, id: impl Fn(usize) -> String) -> Result<Vec<Message>, Refused> {
    if !asked.is_batch {
        let body = message::body(request.body.clone(), &asked.origin).await?;
        return Ok(vec![message::read(asked.flag, body, &asked.properties, &asked.origin, || id(0))?]);
    }
    let bytes = request.body.len();
    let max = asked.origin.limits.body_bytes_max;
    if bytes > max {
        let text = format!("the batch of {bytes} bytes is larger than {max} (maxMessageSize); split it");
        return Err(Refused::new(ResponseCode::MessageIllegal, text));
    }
    let parts = read_parts(request.body.clone(), SEND_MESSAGES_MAX)?;
    rules::send::count(parts.len())?;
    let bodies = message::bodies(parts.iter().map(|part| part.body.clone()).collect(), &asked.origin).await?;
    let read = |(number, (part, body)): (usize, (&BatchPart, message::Body))| {
        message::read(part.flag, body, &part.properties, &asked.origin, || id(number))
    };
    let messages: Vec<Message> = parts.iter().zip(bodies).enumerate().map(read).collect::<Result<_, _>>()?;
    let waits = |message: &&Message| matches!(message.message_type, MessageType::Delay | MessageType::Transaction);
    if let Some(message) = messages.iter().find(waits) {
        let (id, kind) = (&message.message_id, message.message_type.name());
        let text = format!("a batch holds no {kind} message, and message '{id}' of it is one; send it alone");
        return Err(Refused::new(ResponseCode::MessageIllegal, text));
    }
    Ok(messages)
}

/// A queue for a producer that leaves the choice: another one with each request.
async fn any_queue(remoting: &Remoting, asked: &Asked<'_>, opaque: i32) -> Result<QueueId, Refused> {
    let queues = match remoting.broker.find_topic(&asked.topic, Deadline::NONE).await {
        Err(Error::TopicNotFound(_)) => make_topic(remoting, asked).await?,
        found => found?.queues,
    };
    Ok(QueueId(opaque.cast_unsigned() % queues))
}

/// Makes a topic that does not exist, if it may be made: with as many queues as its producer wants, and no more than topics have
/// that nobody made on purpose. Gives their count.
async fn make_topic(remoting: &Remoting, asked: &Asked<'_>) -> Result<u32, Refused> {
    let settings = &remoting.settings;
    let queues = if asked.topic.as_str().starts_with(RETRY_PREFIX) {
        RETRY_QUEUES
    } else if settings.creates_topics && asked.topic.dead_letter_group().is_none() {
        asked.default_queues.clamp(1, settings.topic_queues)
    } else {
        return Err(Error::TopicNotFound(asked.topic.clone()).into());
    };
    let broker: &Broker = &remoting.broker;
    Ok(broker.find_or_make_topic_with(&asked.topic, queues, Deadline::NONE).await?.queues)
}

/// The ids of messages by where they are stored, as the answer to a send has them.
fn ids(first: MessageRef, count: usize, store_host: SocketAddr) -> String {
    let id = |physical_offset| OffsetId { store_host, physical_offset }.to_string();
    let all: Vec<_> = (physical_offset(first)..).take(count).map(id).collect();
    all.join(",")
}

/// An id for a message without one: by the time, the connection, the request and the part of it.
fn new_id(connection: &Connection, opaque: i32, part: usize) -> String {
    let (now, number) = (connection.remoting.broker.now().0, connection.number.0);
    format!("{:012X}{:08X}{:08X}{:04X}", now & 0xFFFF_FFFF_FFFF, number & 0xFFFF_FFFF, opaque, part & 0xFFFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogIndex;

    #[test]
    fn every_message_of_a_batch_has_its_own_id() {
        let first = MessageRef { index: LogIndex(1), slot: 3 };
        let host = "10.0.0.1:10911".parse().unwrap();
        let expected = "0A00000100002A9F0000000000100003,0A00000100002A9F0000000000100004";
        assert_eq!(ids(first, 2, host), expected);
        assert_eq!(ids(first, 1, host), expected[..32]);
    }
}
