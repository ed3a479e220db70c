//! SendMessage (contract §9). After: `broker/send`.

use tonic::Request;

use super::Messaging;
use crate::broker::Sent;
use crate::edge::status::{Refused, ok};
use crate::edge::validate::{self, Rules};
use crate::proto::v2;

pub(super) async fn send(edge: &Messaging, request: Request<v2::SendMessageRequest>) -> v2::SendMessageResponse {
    match try_send(edge, request).await {
        Ok(entries) => v2::SendMessageResponse { status: Some(ok()), entries },
        Err(refused) => v2::SendMessageResponse { status: Some(refused.status()), entries: Vec::new() },
    }
}

async fn try_send(
    edge: &Messaging,
    request: Request<v2::SendMessageRequest>,
) -> Result<Vec<v2::SendResultEntry>, Refused> {
    let caller = edge.caller(&request)?;
    let rules = Rules { body_bytes_max: edge.settings.body_bytes_max, now: edge.broker.now() };
    let checked = validate::send(request.into_inner(), rules, &caller.client.address)?;
    let ids: Vec<String> = checked.messages.iter().map(|message| message.message_id.clone()).collect();
    let sent = edge.broker.send(checked.topic, checked.message_type, checked.messages, caller.deadline()).await?;
    let entry = |(id, sent): (String, Sent)| match sent {
        Sent::Stored { offset, .. } => v2::SendResultEntry {
            status: Some(ok()),
            transaction_id: id.clone(),
            message_id: id,
            offset: i64::try_from(offset.0).unwrap_or(i64::MAX),
            recall_handle: String::new(),
        },
    };
    Ok(ids.into_iter().zip(sent).map(entry).collect())
}
