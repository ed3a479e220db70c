//! Stored messages: get, find, trace, resend. Calls `broker/inspect` and `broker/resend`.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tonic::Status;

use crate::broker::{EntryPlace, Event, GroupTrace, Life, MessageQuery, Operator, QueryCursor, Sent, StoredMessage};
use crate::edge::admin::convert::{find_topic, handle_key, limit, refuse};
use crate::edge::recall_handle::RecallHandle;
use crate::model::codec::Reader;
use crate::model::{HandleKey, LogIndex, QueueId, QueueOffset, Timestamp};
use crate::node::{Node, ReplicaStatus};
use crate::proto::admin as wire;

/// Longest search of the log for one trace.
const TRACE_SECONDS_MAX: u32 = 600;

pub(super) async fn get(node: &Node, request: wire::GetMessageRequest) -> Result<wire::GetMessageResponse, Status> {
    let (queue, offset) = (QueueId(request.queue), QueueOffset(request.offset));
    let topic = find_topic(node, &request.topic).await?;
    let found = node.inspector().message_at(&topic, queue, offset).await.map_err(refuse)?;
    let key = handle_key(node).await?;
    Ok(wire::GetMessageResponse { message: Some(stored(found, &key)) })
}

pub(super) async fn resend(
    node: &Node,
    by: &Operator,
    request: wire::ResendMessageRequest,
) -> Result<wire::ResendMessageResponse, Status> {
    let (queue, offset) = (QueueId(request.queue), QueueOffset(request.offset));
    let topic = find_topic(node, &request.topic).await?;
    let found = node.inspector().message_at(&topic, queue, offset).await.map_err(refuse)?;
    let (message_id, sent) = node.broker().resend(by, found).await.map_err(refuse)?;
    let place = match sent {
        Sent::Stored { queue, offset } => Some((queue.0, offset.0)),
        Sent::Delayed { .. } | Sent::Half(_) => None,
    };
    let (queue, offset) = place.unzip();
    Ok(wire::ResendMessageResponse { message_id, queue, offset })
}

pub(super) async fn find(
    node: &Node,
    request: wire::FindMessagesRequest,
) -> Result<wire::FindMessagesResponse, Status> {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let wanted = MessageQuery {
        message_id: given(request.message_id),
        key: given(request.key),
        from: Timestamp(request.from_ms),
        to: Timestamp(request.to_ms),
    };
    let limit = limit(request.limit);
    let cursor = read_cursor(request.cursor)?;
    let topic = find_topic(node, &request.topic).await?;
    let found = node.inspector().find_messages(&topic, &wanted, cursor, limit).await.map_err(refuse)?;
    let key = handle_key(node).await?;
    Ok(wire::FindMessagesResponse {
        messages: found.messages.into_iter().map(|message| stored(message, &key)).collect(),
        searched: found.searched,
        cursor: found.cursor.map(put_cursor).unwrap_or_default(),
    })
}

pub(super) async fn trace(
    node: &Node,
    request: wire::TraceMessageRequest,
) -> Result<wire::TraceMessageResponse, Status> {
    let time = Duration::from_secs(request.seconds.clamp(1, TRACE_SECONDS_MAX).into());
    let (queue, offset) = (QueueId(request.queue), QueueOffset(request.offset));
    let topic = find_topic(node, &request.topic).await?;
    let trace = if request.message_id.is_empty() {
        node.inspector().trace(&topic, queue, offset, time).await.map_err(refuse)?
    } else {
        let found = node.inspector().trace_id(&topic, &request.message_id, time).await.map_err(refuse)?;
        let id = &request.message_id;
        found.ok_or_else(|| Status::out_of_range(format!("no message with the id '{id}' was found in {time:?}")))?
    };
    let key = handle_key(node).await?;
    let entry = entry(node, trace.message.at.index, trace.entry).await;
    let (asked, asked_next_ms) = match trace.life {
        Life::Half { asked, due } => (asked, Some(due.0)),
        Life::Queued | Life::Delayed | Life::RolledBack => (0, None),
    };
    Ok(wire::TraceMessageResponse {
        message: Some(stored(trace.message, &key)),
        groups: trace.groups.into_iter().map(traced).collect(),
        searched_to: trace.searched_to.0,
        log_end: trace.log_end.0,
        entry: Some(entry),
        state: trace.life.name().to_owned(),
        asked,
        asked_next_ms,
    })
}

/// An entry with the nodes that have it: what a node has applied, or acknowledged to the leader, is durable in its log.
async fn entry(node: &Node, index: LogIndex, place: Option<EntryPlace>) -> wire::TracedEntry {
    let nodes = node.cluster_status().await;
    let answers = || nodes.iter().filter_map(|node| node.status.as_ref());
    let followers: Vec<_> = answers().filter_map(|status| status.sight.as_ref()).flat_map(|it| &it.followers).collect();
    let has = |status: &ReplicaStatus| {
        let is_matched = followers.iter().any(|mark| mark.node == status.node && mark.matching >= index);
        (status.applied >= index || is_matched) && status.log.is_some_and(|log| log.first <= index)
    };
    wire::TracedEntry {
        index: index.0,
        term: place.map_or(0, |place| place.term.0),
        segment: place.map(|place| place.segment.0),
        replicas: answers().filter(|status| has(status)).map(|status| status.node.name().to_string()).collect(),
        unknown: nodes.iter().filter(|node| node.status.is_none()).map(|node| node.id.name().to_string()).collect(),
    }
}

fn put_cursor(cursor: QueryCursor) -> Bytes {
    let mut out = BytesMut::with_capacity(12);
    out.put_u32(cursor.queue.0);
    out.put_u64(cursor.offset.0);
    out.freeze()
}

fn read_cursor(bytes: Bytes) -> Result<Option<QueryCursor>, Status> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(bytes, "cursor");
    let (Ok(queue), Ok(offset)) = (reader.u32(), reader.u64()) else {
        return Err(Status::invalid_argument("the cursor is not one that this service gave"));
    };
    Ok(Some(QueryCursor { queue: QueueId(queue), offset: QueueOffset(offset) }))
}

pub(super) fn stored(stored: StoredMessage, key: &HandleKey) -> wire::StoredMessage {
    let StoredMessage { topic, place, at, message, stored_at, waits_until, origin } = stored;
    let recall_handle = waits_until
        .map(|until| RecallHandle::new(&topic, until, at, &message.message_id).to_text(key))
        .unwrap_or_default();
    wire::StoredMessage {
        topic: topic.to_string(),
        queue: place.map(|(queue, _)| queue.0),
        offset: place.map(|(_, offset)| offset.0),
        entry: at.index.0,
        slot: at.slot,
        message_id: message.message_id,
        r#type: message.message_type.name().to_owned(),
        tag: message.tag.unwrap_or_default(),
        keys: message.keys,
        properties: message.properties.into_iter().collect(),
        message_group: message.message_group.unwrap_or_default(),
        born_host: message.born_host,
        born_at_ms: message.born_at.0,
        stored_at_ms: stored_at.0,
        delivery_at_ms: waits_until.or(message.delivery_at).map(|at| at.0),
        priority: message.priority,
        body: message.body,
        origin: origin.map(|origin| wire::Origin {
            topic: origin.topic.to_string(),
            queue: origin.place.map(|(queue, _)| queue.0),
            offset: origin.place.map(|(_, offset)| offset.0),
            attempts: origin.attempts,
            redriven_at_ms: origin.redriven_at.map(|at| at.0),
        }),
        recall_handle,
    }
}

fn traced(trace: GroupTrace) -> wire::TracedGroup {
    let event = |event: Event| wire::TraceEvent {
        at_ms: event.at.0,
        what: event.what.name().to_owned(),
        client: event.client,
        entry: event.entry.0,
    };
    wire::TracedGroup {
        group: trace.group.to_string(),
        state: trace.state.to_owned(),
        events: trace.events.into_iter().map(event).collect(),
    }
}
