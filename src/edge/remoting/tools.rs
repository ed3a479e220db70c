//! What tools ask of a group's consumers through a node (remoting §6.6): a reset of offsets, what a client
//! knows of itself, and a message that it is to consume.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::broker::{ResetTo, Where};
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Connection, Remoting, Request};
use crate::edge::remoting::physical_offset::message_at;
use crate::edge::remoting::queries::with_messages;
use crate::edge::rules;
use crate::model::{GroupName, Timestamp};
use crate::node::ClientQuestion;
use crate::proto::remoting::queue_data::{MessageQueue, offset_table};
use crate::proto::remoting::{Fields, OffsetId, RequestCode, ResponseCode};

/// Tools wait for five seconds.
const CLIENT_WAIT: Duration = Duration::from_secs(3);

/// Sets the offsets of a group by time, or to the end for a time below 0; its consumers that run follow.
pub(super) async fn reset(connection: &Connection, request: &Request) -> Result<Answer, Refused> {
    let (remoting, fields) = (&connection.remoting, &request.header.fields);
    let group = rules::names::group("", fields.text("group")?)?;
    let topic = rules::names::topic("", fields.text("topic")?)?;
    let at: i64 = fields.number("timestamp")?;
    if fields.number_if_given::<i32>("queueId")?.is_some_and(|queue| queue >= 0) {
        let text = "a reset of one queue is not served: leave out the queue, or use raftmq group reset-offset";
        return Err(Refused::new(ResponseCode::InvalidParameter, text));
    }
    let wanted = u64::try_from(at).map_or(Where::End, |at| Where::At(Timestamp(at)));
    let moved =
        remoting.node.reset_group(&connection.operator(), group, topic.clone(), ResetTo::Place(wanted), false).await?;
    let broker_name = &remoting.node.settings().broker_name;
    let queue = |queue| MessageQueue { topic: topic.to_string(), broker_name: broker_name.clone(), queue };
    let offsets = moved.iter().map(|moved| (queue(moved.queue.0), moved.to.0));
    Ok(Answer::coded(ResponseCode::Success, Fields::default(), offset_table(offsets, false).into()))
}

/// GET_CONSUMER_RUNNING_INFO: asks a client for what it knows of itself, and passes its answer on.
pub(super) async fn running_info(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let fields = &request.header.fields;
    let group = rules::names::group("", fields.text("consumerGroup")?)?;
    relay(remoting, &group, fields.text("clientId")?, RequestCode::GetConsumerRunningInfo, request, Bytes::new()).await
}

/// CONSUME_MESSAGE_DIRECTLY: has a client consume a message that is stored, whatever it consumed before, and passes on what became
/// of it. Its offsets stay.
pub(super) async fn consume_directly(connection: &Connection, request: &Request) -> Result<Answer, Refused> {
    let remoting = &connection.remoting;
    let fields = &request.header.fields;
    let group = rules::names::group("", fields.text("consumerGroup")?)?;
    let named = fields.text("msgId")?;
    let id: OffsetId = named.parse().map_err(|_| {
        let text = format!("'{named}' is not the id of a message by its place, which has 32 or 56 hex digits");
        Refused::new(ResponseCode::InvalidParameter, text)
    })?;
    let found = match message_at(id.physical_offset) {
        Some(at) => remoting.node.inspector().message_by_place(at).await?,
        None => None,
    };
    let Some(found) = found else {
        let text = format!("no message is at the place that '{named}' names, or it is in no queue");
        return Err(Refused::new(ResponseCode::SystemError, text));
    };
    let Answer { body, room: _room, .. } = with_messages(connection, Answer::done(), vec![found]).await?;
    let clients = remoting.node.heartbeat_clients();
    let client_id = match fields.get("clientId").filter(|id| !id.is_empty()) {
        Some(id) => id.to_owned(),
        None => clients.ids(&group).into_iter().next().unwrap_or_default(),
    };
    relay(remoting, &group, &client_id, RequestCode::ConsumeMessageDirectly, request, body).await
}

/// Asks a consumer what a tool asks it, and passes its answer on.
async fn relay(
    remoting: &Remoting,
    group: &GroupName,
    client_id: &str,
    code: RequestCode,
    request: &Request,
    body: Bytes,
) -> Result<Answer, Refused> {
    let (answer, answered) = oneshot::channel();
    let fields = request.header.fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let question = ClientQuestion { code: code as i32, fields, body, answer };
    if !remoting.node.heartbeat_clients().ask(group, client_id, question) {
        let text = format!("client '{client_id}' of consumer group '{group}' is not connected to this node");
        return Err(Refused::new(ResponseCode::ConsumerNotOnline, text));
    }
    let Ok(Ok(answer)) = tokio::time::timeout(CLIENT_WAIT, answered).await else {
        let text = format!("client '{client_id}' of consumer group '{group}' did not answer in {CLIENT_WAIT:?}");
        return Err(Refused::new(ResponseCode::ConsumeMsgTimeout, text));
    };
    match answer.code {
        0 => Ok(Answer::coded(ResponseCode::Success, Fields::default(), answer.body)),
        _ => Err(Refused::new(ResponseCode::SystemError, answer.remark.unwrap_or_default())),
    }
}
