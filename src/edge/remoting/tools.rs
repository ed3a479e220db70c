//! What tools ask of a group's consumers through a node (remoting §6.6): a reset of offsets, and what a client knows of itself.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::broker::{ResetTo, Where};
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Connection, Remoting, Request};
use crate::edge::rules;
use crate::model::Timestamp;
use crate::node::ClientQuestion;
use crate::proto::remoting::queue_data::{MessageQueue, offset_table};
use crate::proto::remoting::{Fields, RequestCode, ResponseCode};

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
    let moved = remoting.node.reset_group(&connection.operator(), group, topic.clone(), ResetTo::Place(wanted), false).await?;
    let broker_name = &remoting.node.settings().broker_name;
    let queue = |queue| MessageQueue { topic: topic.to_string(), broker_name: broker_name.clone(), queue };
    let offsets = moved.iter().map(|moved| (queue(moved.queue.0), moved.to.0));
    Ok(Answer::coded(ResponseCode::Success, Fields::default(), offset_table(offsets, false).into()))
}

/// Asks a client for what it knows of itself, and passes its answer on.
pub(super) async fn running_info(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let fields = &request.header.fields;
    let group = rules::names::group("", fields.text("consumerGroup")?)?;
    let client_id = fields.text("clientId")?;
    let (answer, answered) = oneshot::channel();
    let question = ClientQuestion {
        code: RequestCode::GetConsumerRunningInfo as i32,
        fields: fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        answer,
    };
    let is_here = remoting.node.heartbeat_clients().ask(&group, client_id, question);
    let answer = if is_here { tokio::time::timeout(CLIENT_WAIT, answered).await.ok() } else { None };
    let Some(Ok(answer)) = answer else {
        let text = format!(
            "client '{client_id}' of consumer group '{group}' is not connected to this node, or does not answer"
        );
        return Err(Refused::new(ResponseCode::ConsumerNotOnline, text));
    };
    match answer.code {
        0 => Ok(Answer::coded(ResponseCode::Success, Fields::default(), answer.body)),
        _ => Err(Refused::new(ResponseCode::SystemError, answer.remark.unwrap_or_default())),
    }
}
