//! ForwardMessageToDeadLetterQueue (contract §16). After: `broker/dead_letter`.

use tonic::Request;

use crate::broker::Error;
use crate::edge::grpc::codes::{Refused, ok};
use crate::edge::grpc::messaging::context::Messaging;
use crate::model::ReceiptHandle;
use crate::proto::v2;

pub(super) async fn forward(
    edge: &Messaging,
    request: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
) -> v2::Status {
    try_forward(edge, request).await.map_or_else(|refused| refused.status(), |()| ok())
}

async fn try_forward(
    edge: &Messaging,
    request: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
) -> Result<(), Refused> {
    let caller = edge.caller(&request)?;
    let request = request.into_inner();
    let topic = caller.topic(request.topic.as_ref())?;
    let group = caller.group(request.group.as_ref())?;
    let key = edge.broker.handle_key(caller.deadline()).await?;
    let handle = ReceiptHandle::parse(&request.receipt_handle, &key).map_err(Error::from)?;
    Ok(edge.broker.forward_to_dead_letters(group, topic, handle, caller.deadline()).await?)
}
