//! Queries for messages (remoting §10): by the place that their id names, by a key, by the id of their producer. Before:
//! `broker/inspect`.
//!
//! There is no index: a query reads what the topic stored, for a bounded time.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use crate::broker::{Deadline, Found, MessageQuery, StoredMessage};
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Connection, Remoting, Request};
use crate::edge::remoting::delivered::{self, Place};
use crate::edge::remoting::host::host;
use crate::edge::remoting::physical_offset::message_at;
use crate::edge::rules;
use crate::model::limits::QUERY_MESSAGES_MAX;
use crate::model::{HostPort, QueueId, QueueOffset, Timestamp};
use crate::node::NodeAddress;
use crate::proto::remoting::{Fields, ResponseCode};

/// Clients wait five seconds, the tools longer.
const QUERY_FOR: Duration = Duration::from_secs(4);
/// Bytes of an answer's bodies: none is added once there are so many.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The query is for the id that the producer gave.
const BY_ID: &str = "_UNIQUE_KEY_QUERY";

/// VIEW_MESSAGE_BY_ID.
pub(super) async fn view(connection: &Connection, request: &Request) -> Result<Answer, Refused> {
    let remoting = &connection.remoting;
    let offset: i64 = request.header.fields.number("offset")?;
    let found = match message_at(offset) {
        Some(at) => remoting.node.inspector().message_by_place(at).await?,
        None => None,
    };
    let Some(found) = found else {
        let text = format!("no message is at the offset {offset}, or it is in no queue");
        return Err(Refused::new(ResponseCode::SystemError, text));
    };
    with_messages(connection, Answer::done(), vec![found]).await
}

/// QUERY_MESSAGE. Tools ask every node for what they put together: only the host answers with what there is.
pub(super) async fn query(connection: &Connection, request: &Request) -> Result<Answer, Refused> {
    let remoting = &connection.remoting;
    let fields = &request.header.fields;
    let topic = rules::names::topic("", fields.text("topic")?)?;
    let key = fields.text("key")?.to_owned();
    let at_most: i32 = fields.number("maxNum")?;
    let at_most = usize::try_from(at_most).unwrap_or(1).clamp(1, QUERY_MESSAGES_MAX);
    let time = |time: i64| Timestamp(u64::try_from(time).unwrap_or(0));
    let end: i64 = fields.number("endTimestamp")?;
    let (message_id, key) = if fields.is_true(BY_ID) { (Some(key), None) } else { (None, Some(key)) };
    let (from, to) = (time(fields.number("beginTimestamp")?), time(end.checked_add(1).unwrap_or(0)));
    let wanted = MessageQuery { message_id, key, from, to };
    if !is_host(remoting)? {
        return Err(Refused::new(ResponseCode::QueryNotFound, "another node answers this query"));
    }
    let view = remoting.broker.find_topic(&topic, Deadline::NONE).await?;
    let (mut messages, mut bytes, mut searched, mut cursor) = (Vec::new(), 0, 0, None);
    let ends = Instant::now() + QUERY_FOR;
    let is_whole = loop {
        let found = remoting.node.inspector().find_messages(&view, &wanted, cursor, at_most - messages.len()).await?;
        let Found { messages: more, searched: also, cursor: next } = found;
        searched += also;
        bytes += more.iter().map(|found| found.message.body.len()).sum::<usize>();
        messages.extend(more);
        let is_enough = messages.len() >= at_most || bytes >= ANSWER_BYTES_MAX;
        cursor = next;
        if is_enough || cursor.is_none() {
            break true;
        }
        if Instant::now() >= ends {
            break false;
        }
    };
    if messages.is_empty() {
        let rest = if is_whole { "" } else { ", which took all the time there is: ask for a shorter time" };
        let text = format!("none of {searched} messages of topic '{topic}' is it{rest}");
        return Err(Refused::new(ResponseCode::QueryNotFound, text));
    }
    let mut fields = Fields::default();
    fields.put("indexLastUpdateTimestamp", remoting.broker.now().0);
    fields.put("indexLastUpdatePhyoffset", 0);
    with_messages(connection, Answer::with(fields), messages).await
}

fn is_host(remoting: &Remoting) -> Result<bool, Refused> {
    let nodes = remoting.node.routes().of_reachable()?;
    let own = &remoting.node.settings().store_host;
    let address = |node: &NodeAddress| HostPort { host: node.host.clone(), port: node.grpc_port }.to_string();
    Ok(host(&nodes).is_none_or(|host| address(host) == *own))
}

/// An answer with messages as its body.
pub(super) async fn with_messages(
    connection: &Connection,
    mut answer: Answer,
    messages: Vec<StoredMessage>,
) -> Result<Answer, Refused> {
    let remoting = &connection.remoting;
    let mut room = connection.room_of_one().await;
    let messages = remoting.unpacking.unpack(messages, ANSWER_BYTES_MAX, &mut room).await?;
    answer.body = body(remoting, &messages)?.freeze();
    answer.room = Some(room);
    Ok(answer)
}

fn body(remoting: &Remoting, messages: &[StoredMessage]) -> Result<BytesMut, Refused> {
    let store_host = remoting.store_host.now(remoting.node.routes());
    let mut body = BytesMut::new();
    for StoredMessage { topic, place, at, message, stored_at, .. } in messages {
        let (queue, offset) = place.unwrap_or((QueueId(0), QueueOffset(0)));
        let place = Place { topic, queue, offset, stored_at: *stored_at, at: *at, store_host };
        delivered::put_at(&mut body, message, place, &[])?;
    }
    Ok(body)
}
