//! Pulls: messages of a queue from an offset on, waiting for the first if the client wants that (remoting §6.1). After:
//! `broker/offset`. Hot path.
//!
//! A consumer that waits has one pull open for each of its queues; each is a task that an arrival in its queue wakes.

use bytes::BytesMut;

use crate::broker::{Deadline, Error, Pull, Pulled};
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Connection, Remoting, Request};
use crate::edge::remoting::{delivered, filter, send_marks};
use crate::edge::rules;
use crate::model::limits::RECEIVE_BATCH_MAX;
use crate::model::{Filter, GroupName, Millis, QueueId, QueueOffset, TopicName};
use crate::proto::remoting::sys_flag::{PULL_CLASS_FILTER, PULL_COMMITS, PULL_SUBSCRIBES, PULL_SUSPENDS};
use crate::proto::remoting::{Fields, ResponseCode};

/// Clients give up after thirty seconds.
const WAIT_MAX: Millis = Millis::from_secs(20);
/// Bytes of one answer: no message is added once there are this many.
const ANSWER_BYTES_MAX: u64 = 512 * 1024;
/// What a message mostly takes beside its body, so that the answer is seldom moved as it grows.
const ABOUT_A_BODY: usize = 256;

/// What a pull asks for.
struct Asked {
    pull: Pull,
    /// The client's offset in this queue, to be kept.
    commits: Option<QueueOffset>,
}

pub(super) async fn pull(connection: &Connection, request: &Request) -> Result<Answer, Refused> {
    let remoting = &connection.remoting;
    let Asked { pull, commits } = read(connection, &request.header.fields).await?;
    let (topic, queue, offset) = (pull.topic.clone(), pull.queue, pull.offset);
    if let Some(commits) = commits {
        remoting.commits.put(&pull.group, &topic, queue, commits)?;
    }
    let pulled = tokio::select! {
        pulled = remoting.broker.pull(pull, Deadline::NONE) => pulled,
        () = connection.ending.cancelled() => Ok(Pulled { next: offset, ..Pulled::default() }),
    };
    let (code, pulled) = match pulled {
        Ok(pulled) if !pulled.messages.is_empty() => (ResponseCode::Success, pulled),
        Ok(pulled) if pulled.next > offset => (ResponseCode::PullRetryImmediately, pulled),
        Ok(pulled) => (ResponseCode::PullNotFound, pulled),
        Err(Error::IllegalOffset { offset, min, max }) => {
            let next = offset.clamp(min, max);
            (ResponseCode::PullOffsetMoved, Pulled { next, min, max, ..Pulled::default() })
        }
        Err(error) => return Err(error.into()),
    };
    let Pulled { messages, mut next, min, max, mut room } = pulled;
    let messages = match &mut room {
        Some(room) => {
            let offsets: Vec<_> = messages.iter().map(|pulled| pulled.offset).collect();
            let unpacked = remoting.unpacking.unpack(messages, ANSWER_BYTES_MAX as usize, room).await?;
            // What was left out is pulled next.
            next = offsets.get(unpacked.len()).copied().unwrap_or(next);
            unpacked
        }
        None => messages,
    };
    // All four are read without a check.
    let fields: Fields =
        [("suggestWhichBrokerId", 0), ("nextBeginOffset", next.0), ("minOffset", min.0), ("maxOffset", max.0)]
            .into_iter()
            .collect();
    let (store_host, marks) =
        (remoting.store_host.now(remoting.node.routes()), send_marks::of_message(&remoting.settings));
    let sizes = messages.iter().map(|pulled| pulled.message.body.len() + ABOUT_A_BODY);
    let mut body = BytesMut::with_capacity(sizes.sum());
    for message in messages {
        delivered::put(&mut body, message, &topic, queue, store_host, marks)?;
    }
    let mut answer = Answer::coded(code, fields, body.freeze());
    answer.room = room;
    Ok(answer)
}

async fn read(connection: &Connection, fields: &Fields) -> Result<Asked, Refused> {
    let remoting = &connection.remoting;
    let flags: i32 = fields.number("sysFlag")?;
    if flags & PULL_CLASS_FILTER != 0 {
        let text = "filters by a class are not served; use tags or SQL92";
        return Err(Refused::new(ResponseCode::SubscriptionParseFailed, text));
    }
    let group = rules::names::group("", fields.text("consumerGroup")?)?;
    let topic = rules::names::topic("", fields.text("topic")?)?;
    let wait: i64 = fields.number_if_given("suspendTimeoutMillis")?.unwrap_or(0);
    let wait = Millis(u64::try_from(wait).unwrap_or(0)).min(WAIT_MAX);
    let batch: i32 = fields.number("maxMsgNums")?;
    let commits = if flags & PULL_COMMITS == 0 { None } else { Some(offset_of(fields.number("commitOffset")?)?) };
    let pull = Pull {
        filter: filter_of(remoting, fields, flags, &group, &topic).await?,
        group,
        topic,
        queue: queue_of(fields)?,
        offset: offset_of(fields.number("queueOffset")?)?,
        batch: u32::try_from(batch).unwrap_or(1).clamp(1, RECEIVE_BATCH_MAX),
        bytes_max: ANSWER_BYTES_MAX,
        room: Some(connection.room.clone()),
        wait: if flags & PULL_SUSPENDS == 0 { Millis(0) } else { wait },
    };
    Ok(Asked { pull, commits })
}

/// The filter that the pull brings along, or that the group's heartbeats said.
async fn filter_of(
    remoting: &Remoting,
    fields: &Fields,
    flags: i32,
    group: &GroupName,
    topic: &TopicName,
) -> Result<Filter, Refused> {
    if flags & PULL_SUBSCRIBES != 0 {
        let (kind, text) = (fields.get("expressionType"), fields.get("subscription"));
        return Ok(filter::parse(kind.unwrap_or_default(), text.unwrap_or_default())?.0);
    }
    let version: i64 = fields.number_if_given("subVersion")?.unwrap_or(0);
    // A client that finds its node again after a restart pulls before its next heartbeat.
    let Some(known) = remoting.node.classic_subscription(group, topic, version).await else {
        let text = format!("no consumer of group '{group}' subscribed to topic '{topic}' by its heartbeats");
        return Err(Refused::new(ResponseCode::SubscriptionNotExist, text));
    };
    if known.version < version {
        let text = format!("the subscription of group '{group}' to topic '{topic}' is newer than its heartbeats said");
        return Err(Refused::new(ResponseCode::SubscriptionNotLatest, text));
    }
    let subscription = known.subscription;
    Ok(filter::parse(if subscription.is_sql { "SQL92" } else { "TAG" }, &subscription.expression)?.0)
}

pub(super) fn queue_of(fields: &Fields) -> Result<QueueId, Refused> {
    Ok(QueueId(fields.number("queueId")?))
}

pub(super) fn offset_of(offset: i64) -> Result<QueueOffset, Refused> {
    let wrong = |_| Refused::new(ResponseCode::InvalidParameter, format!("the offset {offset} is below 0"));
    u64::try_from(offset).map(QueueOffset).map_err(wrong)
}
