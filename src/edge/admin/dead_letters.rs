//! Dead letters of a group: list, redrive. Calls `broker/dead_letter` and `broker/inspect`.

use tonic::Status;

use crate::broker::Operator;
use crate::edge::admin::convert::{group_name, handle_key, limit, refuse};
use crate::edge::admin::messages::stored;
use crate::model::QueueOffset;
use crate::node::Node;
use crate::proto::admin as wire;

pub(super) async fn list(
    node: &Node,
    request: wire::ListDeadLettersRequest,
) -> Result<wire::ListDeadLettersResponse, Status> {
    let (from, limit) = (QueueOffset(request.from_offset), limit(request.limit));
    let topic = node.broker().dead_letter_topic(&group_name(&request.group)?).await.map_err(refuse)?;
    let (dead, end) = node.inspector().dead_letters(&topic, from, limit).await.map_err(refuse)?;
    let last = dead.last().and_then(|stored| stored.place);
    let key = handle_key(node).await?;
    Ok(wire::ListDeadLettersResponse {
        next_offset: last.map_or(end.0, |(_, offset)| offset.0 + 1),
        end_offset: end.0,
        messages: dead.into_iter().map(|letter| stored(letter, &key)).collect(),
    })
}

pub(super) async fn redrive(
    node: &Node,
    by: &Operator,
    request: wire::RedriveRequest,
) -> Result<wire::RedriveResponse, Status> {
    let offsets = request.offsets.into_iter().map(QueueOffset).collect();
    let redriven = node.broker().redrive(by, &group_name(&request.group)?, offsets).await.map_err(refuse)?;
    Ok(wire::RedriveResponse { redriven })
}
