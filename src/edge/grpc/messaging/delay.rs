//! RecallMessage (contract §11). After: `broker/delay`.

use tonic::Request;

use crate::edge::grpc::codes::{Refused, ok};
use crate::edge::grpc::messaging::context::Messaging;
use crate::edge::recall_handle::RecallHandle;
use crate::proto::v2;
use crate::proto::v2::Code;

pub(super) async fn recall(edge: &Messaging, request: Request<v2::RecallMessageRequest>) -> v2::RecallMessageResponse {
    match try_recall(edge, request).await {
        Ok(message_id) => v2::RecallMessageResponse { status: Some(ok()), message_id },
        Err(refused) => v2::RecallMessageResponse { status: Some(refused.status()), message_id: String::new() },
    }
}

async fn try_recall(edge: &Messaging, request: Request<v2::RecallMessageRequest>) -> Result<String, Refused> {
    let caller = edge.caller(&request)?;
    let request = request.into_inner();
    let topic = caller.topic(request.topic.as_ref())?;
    let key = edge.broker.handle_key(caller.deadline()).await?;
    let handle = RecallHandle::parse(&topic, &request.recall_handle, &key);
    let handle = handle.map_err(|text| Refused::new(Code::BadRequest, text))?;
    edge.broker.recall(topic, handle.delivery_at, handle.message, caller.deadline()).await?;
    Ok(handle.message_id)
}
