//! Offsets of groups and of queues (remoting §6.2). After: `broker/offset`.

use crate::broker::{Deadline, Where};
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Remoting, Request};
use crate::edge::remoting::pull::{offset_of, queue_of};
use crate::edge::rules;
use crate::model::{GroupName, QueueId, QueueOffset, Timestamp, TopicName};
use crate::proto::remoting::{Fields, ResponseCode};

/// The offset that a group committed, once it is in the log: it must not go back if this node dies (D223). Where a group begins
/// in a queue that it never committed: at 0 if the queue still has that, else where the client says.
pub(super) async fn of_group(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let fields = &request.header.fields;
    let (group, topic, queue) = (group_of(fields)?, topic_of(fields)?, queue_of(fields)?);
    let broker = &remoting.broker;
    if remoting.commits.has(&group, &topic, queue) {
        remoting.commits.settle(broker).await;
    }
    if let Some(found) = broker.position(group.clone(), topic.clone(), queue, Deadline::NONE).await? {
        return Ok(offset(found));
    }
    let min = broker.query_offset(topic.clone(), queue, Where::Beginning, Deadline::NONE).await?;
    let takes_zero = fields.get("setZeroIfNotFound").is_none_or(|_| fields.is_true("setZeroIfNotFound"));
    if min == QueueOffset(0) && takes_zero {
        return Ok(offset(min));
    }
    let text = format!("consumer group '{group}' has no offset in queue {queue} of topic '{topic}'");
    Err(Refused::new(ResponseCode::QueryNotFound, text))
}

/// Notes the offset; it is in the log a moment later.
pub(super) fn commit(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let fields = &request.header.fields;
    let offset = offset_of(fields.number("commitOffset")?)?;
    remoting.commits.put(&group_of(fields)?, &topic_of(fields)?, queue_of(fields)?, offset)?;
    Ok(Answer::done())
}

/// One end of a queue.
pub(super) async fn end(remoting: &Remoting, request: &Request, wanted: Where) -> Result<Answer, Refused> {
    let fields = &request.header.fields;
    query(remoting, topic_of(fields)?, queue_of(fields)?, wanted).await.map(offset)
}

/// The first offset of a time or later; for an upper bound, the last one of that time or before.
pub(super) async fn at_time(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let fields = &request.header.fields;
    let (topic, queue) = (topic_of(fields)?, queue_of(fields)?);
    let at: i64 = fields.number("timestamp")?;
    let at = u64::try_from(at).unwrap_or(0);
    if fields.get("boundaryType").is_some_and(|bound| bound.eq_ignore_ascii_case("UPPER")) {
        let after = query(remoting, topic.clone(), queue, Where::At(Timestamp(at.saturating_add(1)))).await?;
        let before = QueueOffset(after.0.saturating_sub(1));
        return query(remoting, topic, queue, Where::Exactly(before)).await.map(offset);
    }
    query(remoting, topic, queue, Where::At(Timestamp(at))).await.map(offset)
}

async fn query(remoting: &Remoting, topic: TopicName, queue: QueueId, wanted: Where) -> Result<QueueOffset, Refused> {
    Ok(remoting.broker.query_offset(topic, queue, wanted, Deadline::NONE).await?)
}

fn offset(offset: QueueOffset) -> Answer {
    Answer::with([("offset", offset)].into_iter().collect())
}

fn group_of(fields: &Fields) -> Result<GroupName, Refused> {
    Ok(rules::names::group("", fields.text("consumerGroup")?)?)
}

fn topic_of(fields: &Fields) -> Result<TopicName, Refused> {
    Ok(rules::names::topic("", fields.text("topic")?)?)
}
