//! Names, times, types and filters: wire ↔ model.

use crate::edge::grpc::codes::Refused;
use crate::edge::rules;
use crate::model::{Filter, GroupName, MessageType, Millis, QueueOffset, TRACE_TOPIC, TagFilter, Timestamp, TopicName};
use crate::proto::v2;

/// A user property of this name carries the message group, as in RocketMQ's older clients.
pub(in crate::edge) const SHARDING_KEY: &str = "__SHARDINGKEY";

/// The topic of a resource; `header` is the namespace of one that names none.
pub(in crate::edge) fn topic(resource: Option<&v2::Resource>, header: &str) -> Result<TopicName, Refused> {
    let (namespace, name) = parts(resource, header);
    if name == TRACE_TOPIC {
        return Err(rules::names::reserved_topic(name).into());
    }
    Ok(rules::names::topic(namespace, name)?)
}

/// The consumer group of a resource; `header` is the namespace of one that names none.
pub(in crate::edge) fn group(resource: Option<&v2::Resource>, header: &str) -> Result<GroupName, Refused> {
    let (namespace, name) = parts(resource, header);
    Ok(rules::names::group(namespace, name)?)
}

fn parts<'a>(resource: Option<&'a v2::Resource>, header: &'a str) -> (&'a str, &'a str) {
    let (own, name) =
        resource.map_or(("", ""), |resource| (resource.resource_namespace.as_str(), resource.name.as_str()));
    (if own.is_empty() { header } else { own }, name)
}

/// The filter of an expression; without one, every message.
pub(in crate::edge) fn filter(expression: Option<&v2::FilterExpression>) -> Result<Filter, Refused> {
    let Some(expression) = expression else { return Ok(Filter::Tags(TagFilter::All)) };
    Ok(match expression.r#type() {
        v2::FilterType::Sql => rules::consume::sql_filter(&expression.expression)?,
        v2::FilterType::Tag | v2::FilterType::Unspecified => rules::consume::tag_filter(&expression.expression)?,
    })
}

pub(in crate::edge) fn message_type(message_type: MessageType) -> v2::MessageType {
    match message_type {
        MessageType::Normal => v2::MessageType::Normal,
        MessageType::Fifo => v2::MessageType::Fifo,
        MessageType::Delay => v2::MessageType::Delay,
        MessageType::Transaction => v2::MessageType::Transaction,
        MessageType::Lite => v2::MessageType::Lite,
        MessageType::Priority => v2::MessageType::Priority,
    }
}

/// A wire timestamp; before 1970 counts as 1970.
pub(in crate::edge) fn timestamp(at: &prost_types::Timestamp) -> Timestamp {
    let seconds = u64::try_from(at.seconds).unwrap_or(0);
    Timestamp(seconds.saturating_mul(1000).saturating_add(u64::try_from(at.nanos / 1_000_000).unwrap_or(0)))
}

/// A wire duration; below 0 counts as 0.
pub(in crate::edge) fn millis(length: &prost_types::Duration) -> Millis {
    let seconds = u64::try_from(length.seconds).unwrap_or(0);
    Millis(seconds.saturating_mul(1000).saturating_add(u64::try_from(length.nanos / 1_000_000).unwrap_or(0)))
}

pub(in crate::edge) fn wire_timestamp(at: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.0 % 1000).expect("below 1000") * 1_000_000;
    prost_types::Timestamp { seconds: i64::try_from(at.0 / 1000).unwrap_or(i64::MAX), nanos }
}

pub(in crate::edge) fn wire_duration(length: Millis) -> prost_types::Duration {
    let nanos = i32::try_from(length.0 % 1000).expect("below 1000") * 1_000_000;
    prost_types::Duration { seconds: i64::try_from(length.0 / 1000).unwrap_or(i64::MAX), nanos }
}

pub(in crate::edge) fn wire_offset(offset: QueueOffset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_out_in_seconds_and_nanoseconds() {
        let at = wire_timestamp(Timestamp(1_234_567));
        assert_eq!((at.seconds, at.nanos), (1234, 567_000_000));
    }
}
