//! Delayed messages: list, move, recall. Calls `broker/delay` and `broker/inspect`.

use tonic::Status;

use crate::broker::Operator;
use crate::edge::admin::convert::{find_topic, handle_key, limit, refuse, topic_name};
use crate::edge::admin::messages::stored;
use crate::edge::recall_handle::RecallHandle;
use crate::model::Timestamp;
use crate::node::Node;
use crate::proto::admin as wire;

pub(super) async fn list(node: &Node, request: wire::ListDelayedRequest) -> Result<wire::ListDelayedResponse, Status> {
    let limit = limit(request.limit);
    let (topic, from) = (find_topic(node, &request.topic).await?, Timestamp(request.from_ms));
    let waiting = node.inspector().delayed_messages(&topic, from, limit).await.map_err(refuse)?;
    let key = handle_key(node).await?;
    Ok(wire::ListDelayedResponse { messages: waiting.into_iter().map(|message| stored(message, &key)).collect() })
}

pub(super) async fn move_to(
    node: &Node,
    by: &Operator,
    request: wire::MoveDelayedRequest,
) -> Result<wire::MoveDelayedResponse, Status> {
    let topic = topic_name(&request.topic)?;
    let key = handle_key(node).await?;
    let handle = RecallHandle::parse(&topic, &request.recall_handle, &key).map_err(Status::invalid_argument)?;
    // A time that has passed means now; the machine decides the same.
    let to = Timestamp(request.to_ms).max(node.broker().now());
    let moved =
        node.broker().move_delayed(by, topic.clone(), handle.delivery_at, handle.message, &handle.message_id, to);
    moved.await.map_err(refuse)?;
    let moved = RecallHandle::new(&topic, to, handle.message, &handle.message_id);
    Ok(wire::MoveDelayedResponse { recall_handle: moved.to_text(&key) })
}

pub(super) async fn recall(
    node: &Node,
    by: &Operator,
    request: wire::RecallDelayedRequest,
) -> Result<wire::RecallDelayedResponse, Status> {
    let topic = topic_name(&request.topic)?;
    let key = handle_key(node).await?;
    let handle = RecallHandle::parse(&topic, &request.recall_handle, &key).map_err(Status::invalid_argument)?;
    let recalled = node.broker().recall_for(by, topic, handle.delivery_at, handle.message, &handle.message_id);
    recalled.await.map_err(refuse)?;
    Ok(wire::RecallDelayedResponse { message_id: handle.message_id })
}
