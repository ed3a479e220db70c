//! EndTransaction (contract §10), and the ids it takes. After: `broker/transaction`.
//!
//! Any node can read an id: it says where the half message is stored.

use tonic::Request;

use crate::broker::OrphanedTransaction;
use crate::edge::grpc::codes::{Refused, ok};
use crate::edge::grpc::convert;
use crate::edge::grpc::messaging::context::Messaging;
use crate::edge::grpc::outgoing;
use crate::model::{LogIndex, MessageRef};
use crate::proto::v2;
use crate::proto::v2::Code;

/// The id of the transaction of a half message: opaque to clients.
pub(super) fn id(message: MessageRef) -> String {
    format!("{:016X}{:08X}", message.index.0, message.slot)
}

fn read(text: &str) -> Option<MessageRef> {
    if text.len() != 24 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (index, slot) = text.split_at(16);
    let index = LogIndex(u64::from_str_radix(index, 16).ok()?);
    Some(MessageRef { index, slot: u32::from_str_radix(slot, 16).ok()? })
}

pub(super) async fn end(edge: &Messaging, request: Request<v2::EndTransactionRequest>) -> v2::Status {
    try_end(edge, request).await.map_or_else(|refused| refused.status(), |()| ok())
}

async fn try_end(edge: &Messaging, request: Request<v2::EndTransactionRequest>) -> Result<(), Refused> {
    let caller = edge.caller(&request)?;
    let request = request.into_inner();
    let topic = convert::topic(request.topic.as_ref())?;
    let message = read(&request.transaction_id).ok_or_else(|| {
        let text = "this is not a transaction id of this cluster: no half message has it";
        Refused::new(Code::InvalidTransactionId, text)
    })?;
    let commit = match request.resolution() {
        v2::TransactionResolution::Commit => true,
        v2::TransactionResolution::Rollback => false,
        // The producer does not know either: it is asked again later.
        v2::TransactionResolution::Unspecified => return Ok(()),
    };
    Ok(edge.broker.end_transaction(topic, message, commit, caller.deadline()).await?)
}

/// A question as the stream of a producer carries it.
pub(super) fn question(question: OrphanedTransaction, store_host: &str) -> v2::RecoverOrphanedTransactionCommand {
    let topic = v2::Resource { resource_namespace: String::new(), name: question.topic.to_string() };
    let message = outgoing::stored(question.message, &topic, question.stored_at, store_host.to_owned());
    v2::RecoverOrphanedTransactionCommand { message: Some(message), transaction_id: id(question.at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_its_message_is_and_nothing_else_is_one() {
        let message = MessageRef { index: LogIndex(u64::MAX), slot: 3 };
        assert_eq!(read(&id(message)), Some(message));
        for bad in ["", "0", &"+".repeat(24), &"0".repeat(23), &"G".repeat(24)] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
