//! Delayed messages: list, move. Calls `broker/delay` and `broker/inspect`.

use tonic::Status;

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
    request: wire::MoveDelayedRequest,
) -> Result<wire::MoveDelayedResponse, Status> {
    let topic = topic_name(&request.topic)?;
    let key = handle_key(node).await?;
    let handle = RecallHandle::parse(&topic, &request.recall_handle, &key).map_err(Status::invalid_argument)?;
    // A time that has passed means now; the machine decides the same.
    let to = Timestamp(request.to_ms).max(node.broker().now());
    node.broker().move_delayed(topic.clone(), handle.delivery_at, handle.message, to).await.map_err(refuse)?;
    let moved = RecallHandle::new(&topic, to, handle.message, &handle.message_id);
    Ok(wire::MoveDelayedResponse { recall_handle: moved.to_text(&key) })
}
