//! Messages that a consumer could not consume (remoting §6.4): it names one by its physical offset, or sends one itself when that
//! fails. After: `broker/send_back`.

use bytes::Bytes;

use crate::broker::{ConsumeFrom, Deadline, Error, SentBack};
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Remoting, Request};
use crate::edge::remoting::message::Origin;
use crate::edge::remoting::physical_offset::{message_at, physical_offset};
use crate::edge::remoting::put_off::{LEVEL, LEVEL_SECONDS as LEVELS};
use crate::edge::remoting::{delivered, message, send_marks};
use crate::edge::rules;
use crate::model::{ClassicMarks, GroupName, Message, MessageRef, MessageType, Millis, TopicName};
use crate::proto::remoting::{Fields, OffsetId, PROPERTIES_BYTES_MAX, ResponseCode, put_property, read_properties};

/// The level of a message's first retry, if its consumer leaves the choice: ten seconds.
const FIRST_LEVEL: u32 = 3;

/// The topic that the message is of; the consumer shows it to its listener.
const RETRY_TOPIC: &str = "RETRY_TOPIC";
/// The id that the message had there.
const ORIGIN_ID: &str = "ORIGIN_MESSAGE_ID";
/// Where a delayed message goes, and what a dead letter was.
const REAL_TOPIC: &str = "REAL_TOPIC";
const REAL_QUEUE: &str = "REAL_QID";
const DEAD_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
const DEAD_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";

/// A message that a consumer sends to the topic of its group's retries by itself.
pub(super) struct Retry<'a> {
    pub group: GroupName,
    pub flag: i32,
    pub properties: &'a str,
    pub origin: Origin,
    /// How often the group may try, if the client says.
    pub max: Option<i32>,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Retry { level: u32 },
    DeadLetter,
}

pub(super) async fn send_back(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let fields = &request.header.fields;
    let group = rules::names::group("", fields.text("group")?)?;
    let (offset, level) = (fields.number("offset")?, fields.number("delayLevel")?);
    let max = retries_max(remoting, &group, fields.number_if_given("maxReconsumeTimes")?)?;
    let found = match message_at(offset) {
        Some(at) => remoting.broker.message_in_log(at, Deadline::NONE).await?.map(|message| (message, at)),
        None => None,
    };
    let Some((message, at)) = found else {
        let text = format!("there is no message of the physical offset {offset}");
        return Err(Refused::new(ResponseCode::SystemError, text));
    };
    let topic = topic_of(fields, &message)?;
    let next = next(level, tried(&message), max);
    let store_host = remoting.store_host.now(remoting.node.routes());
    let id = OffsetId { store_host, physical_offset: physical_offset(at) }.to_string();
    let mut message = anew(message, &topic, &id);
    mark(&mut message, &group, next);
    store(remoting, &group, &message, next).await?;
    Ok(Answer::done())
}

/// A consumer sends what could not be given back, and what it gives up, as a new message. The answer is that of a send.
pub(super) async fn by_producer(
    remoting: &Remoting,
    retry: Retry<'_>,
    body: Bytes,
    id: impl FnOnce() -> String,
) -> Result<Answer, Refused> {
    let Retry { group, flag, properties, origin, max } = retry;
    remoting.broker.find_or_make_group(&group, ConsumeFrom::Standard, Deadline::NONE).await?;
    let max = retries_max(remoting, &group, max)?;
    let (level, properties) = without_level(properties)?;
    let body = message::body(body, &origin).await?;
    let read = message::read(flag, body, &properties, &origin, id)?;
    // It was of a transaction, or delayed, once.
    let mut message = Message { message_type: MessageType::Normal, delivery_at: None, recovery_after: None, ..read };
    // It counted this attempt already.
    let next = if origin.reconsume_times > max { Next::DeadLetter } else { Next::Retry { level } };
    mark(&mut message, &group, next);
    let SentBack { message: at, offset } = store(remoting, &group, &message, next).await?;
    Ok(sent(remoting, at, offset.map_or(0, |offset| offset.0), &message))
}

fn sent(remoting: &Remoting, at: MessageRef, offset: u64, message: &Message) -> Answer {
    let store_host = remoting.store_host.now(remoting.node.routes());
    let mut fields = Fields::default();
    fields.put("msgId", OffsetId { store_host, physical_offset: physical_offset(at) });
    fields.put("queueId", 0);
    fields.put("queueOffset", offset);
    fields.put("transactionId", &message.message_id);
    send_marks::put(&mut fields, &remoting.settings);
    Answer::with(fields)
}

/// How often a group may try again: as the client says, else as the group's settings do.
fn retries_max(remoting: &Remoting, group: &GroupName, said: Option<i32>) -> Result<u32, Refused> {
    match said.and_then(|said| u32::try_from(said).ok()) {
        Some(said) => Ok(said),
        None => {
            let known = remoting.broker.group(group)?.ok_or_else(|| Error::GroupNotFound(group.clone()))?;
            Ok(known.settings.retries_max)
        }
    }
}

fn tried(message: &Message) -> u32 {
    message.classic.map_or(0, |marks| marks.reconsume_times)
}

/// The topic where a message was sent to: it says so itself if it came back before, else its consumer does.
fn topic_of(fields: &Fields, message: &Message) -> Result<TopicName, Refused> {
    let known = message.properties.iter().find(|(name, _)| name == RETRY_TOPIC).map(|(_, topic)| topic.as_str());
    Ok(rules::names::topic("", known.map_or_else(|| fields.text("originTopic"), Ok)?)?)
}

/// * `level`: as the consumer says it; 0 leaves it to us, below 0 is a dead letter at once.
/// * `tried`: how often the group tried again so far.
fn next(level: i32, tried: u32, max: u32) -> Next {
    match u32::try_from(level) {
        Err(_) => Next::DeadLetter,
        Ok(_) if tried >= max => Next::DeadLetter,
        Ok(0) => Next::Retry { level: FIRST_LEVEL.saturating_add(tried) },
        Ok(level) => Next::Retry { level },
    }
}

/// How long a message of a level waits; of a higher one as long as of the last.
fn delay(level: u32) -> Millis {
    match usize::try_from(level).unwrap_or(usize::MAX).min(LEVELS.len()) {
        0 => Millis(0),
        level => Millis::from_secs(LEVELS[level - 1]),
    }
}

/// The message as it is stored for another try.
fn anew(message: Message, topic: &TopicName, id: &str) -> Message {
    let marks = message.classic.unwrap_or_default();
    let mut message = Message {
        message_type: MessageType::Normal,
        delivery_at: None,
        priority: None,
        recovery_after: None,
        classic: Some(ClassicMarks { reconsume_times: marks.reconsume_times.saturating_add(1), ..marks }),
        ..message
    };
    for (name, value) in [(RETRY_TOPIC, topic.as_str()), (ORIGIN_ID, id)] {
        if let Err(at) = position(&message, name) {
            message.properties.insert(at, (name.to_owned(), value.to_owned()));
        }
    }
    message
}

/// Adds what says where it goes.
fn mark(message: &mut Message, group: &GroupName, next: Next) {
    let property = |message: &Message, name| position(message, name).ok().map(|at| message.properties[at].1.clone());
    match next {
        Next::Retry { level: 0 } => {}
        Next::Retry { level } => {
            set(message, LEVEL, level.min(LEVELS.len() as u32).to_string());
            set(message, REAL_TOPIC, format!("%RETRY%{group}"));
            set(message, REAL_QUEUE, "0".to_owned());
        }
        Next::DeadLetter => {
            if let Ok(at) = position(message, LEVEL) {
                message.properties.remove(at);
            }
            let (topic, id) = (property(message, RETRY_TOPIC), property(message, ORIGIN_ID));
            for (name, value) in [(DEAD_TOPIC, topic), (DEAD_ID, id)] {
                if let Some(value) = value {
                    set(message, name, value);
                }
            }
        }
    }
}

/// Where a property is among those of a message, or would be.
fn position(message: &Message, name: &str) -> Result<usize, usize> {
    message.properties.binary_search_by(|(known, _)| known.as_str().cmp(name))
}

fn set(message: &mut Message, name: &str, value: String) {
    match position(message, name) {
        Ok(at) => message.properties[at].1 = value,
        Err(at) => message.properties.insert(at, (name.to_owned(), value)),
    }
}

async fn store(remoting: &Remoting, group: &GroupName, message: &Message, next: Next) -> Result<SentBack, Refused> {
    if delivered::properties(message).is_err() {
        let text =
            format!("the properties of the message are longer than {PROPERTIES_BYTES_MAX} with those of a retry");
        return Err(Refused::new(ResponseCode::MessageIllegal, text));
    }
    let broker = &remoting.broker;
    broker.make_retry_topic(group, Deadline::NONE).await?;
    let again_at = match next {
        Next::Retry { level } => Some(broker.now().plus(delay(level))),
        Next::DeadLetter => None,
    };
    Ok(broker.send_back(group, message, again_at, Deadline::NONE).await?)
}

/// The delay level among properties, 0 without one, and the others.
fn without_level(properties: &str) -> Result<(u32, String), Refused> {
    let (mut level, mut others) = (0, String::with_capacity(properties.len()));
    for (name, value) in read_properties(properties) {
        if name == LEVEL {
            level = value.parse().map_err(|_| {
                Refused::new(
                    ResponseCode::MessageIllegal,
                    format!("the property DELAY is {value:?}, which is no level"),
                )
            })?;
        } else {
            put_property(&mut others, name, value)?;
        }
    }
    Ok((level, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_tried_again_later_and_later_until_it_is_a_dead_letter() {
        let retry = |level| Next::Retry { level };
        for (level, tried, expected) in [
            (0, 0, retry(3)),
            (0, 4, retry(7)),
            (1, 4, retry(1)),
            (99, 15, retry(99)),
            (0, 16, Next::DeadLetter),
            (5, 17, Next::DeadLetter),
            (-1, 0, Next::DeadLetter),
        ] {
            assert_eq!(next(level, tried, 16), expected, "level {level} after {tried}");
        }
        assert_eq!(next(0, u32::MAX, u32::MAX), Next::DeadLetter);
        assert_eq!([0, 1, 3, 18, 19, u32::MAX].map(|level| delay(level).0 / 1000), [0, 1, 10, 7200, 7200, 7200]);
    }

    #[test]
    fn the_level_is_taken_out_of_properties() {
        let text = "a\u{1}b\u{2}DELAY\u{1}5\u{2}c\u{1}d";
        assert_eq!(without_level(text), Ok((5, "a\u{1}b\u{2}c\u{1}d\u{2}".to_owned())));
        assert_eq!(without_level("a\u{1}b\u{2}"), Ok((0, "a\u{1}b\u{2}".to_owned())));
        assert_eq!(without_level("DELAY\u{1}-1").unwrap_err().code, ResponseCode::MessageIllegal);
    }
}
