//! EndTransaction (contract §10), and the ids it takes. After: `broker/transaction`.
//!
//! Any node can read an id: it says where the half message is stored.
//!
//! * Shape of what is sealed: `index varint, slot varint`.

use tonic::Request;

use crate::broker::OrphanedTransaction;
use crate::edge::grpc::codes::{Refused, ok};
use crate::edge::grpc::messaging::context::Messaging;
use crate::edge::grpc::outgoing;
use crate::model::codec::Writer;
use crate::model::{HandleKey, HandleKind, LogIndex, MessageRef, NotAHandle};
use crate::proto::v2;
use crate::proto::v2::Code;

/// The ids of earlier builds were hex digits.
const EARLIER_CHARS: usize = 24;

/// The id of the transaction of a half message: opaque to clients.
pub(super) fn id(message: MessageRef, key: &HandleKey) -> String {
    key.seal(HandleKind::Transaction, |out| {
        out.put_varint(message.index.0);
        out.put_varint(message.slot.into());
    })
}

fn read(text: &str, key: &HandleKey) -> Result<MessageRef, NotAHandle> {
    let is_of_earlier_build = text.len() == EARLIER_CHARS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut reader = key.open(HandleKind::Transaction, text).map_err(|error| match error {
        NotAHandle::NeverGiven(kind) if is_of_earlier_build => NotAHandle::OfEarlierBuild(kind),
        error => error,
    })?;
    match (reader.varint(), reader.varint_u32()) {
        (Ok(index), Ok(slot)) => Ok(MessageRef { index: LogIndex(index), slot }),
        _ => Err(NotAHandle::NeverGiven(HandleKind::Transaction)),
    }
}

pub(super) async fn end(edge: &Messaging, request: Request<v2::EndTransactionRequest>) -> v2::Status {
    try_end(edge, request).await.map_or_else(|refused| refused.status(), |()| ok())
}

async fn try_end(edge: &Messaging, request: Request<v2::EndTransactionRequest>) -> Result<(), Refused> {
    let caller = edge.caller(&request)?;
    let request = request.into_inner();
    let topic = caller.topic(request.topic.as_ref())?;
    let key = edge.broker.handle_key(caller.deadline()).await?;
    let message = read(&request.transaction_id, &key)
        .map_err(|error| Refused::new(Code::InvalidTransactionId, error.to_string()))?;
    let commit = match request.resolution() {
        v2::TransactionResolution::Commit => true,
        v2::TransactionResolution::Rollback => false,
        // The producer does not know either: it is asked again later.
        v2::TransactionResolution::Unspecified => return Ok(()),
    };
    Ok(edge.broker.end_transaction(topic, message, commit, caller.deadline()).await?)
}

/// A question as the stream of a producer carries it; `topic` is as the producer names it.
pub(super) fn question(
    question: OrphanedTransaction,
    topic: &v2::Resource,
    store_host: &str,
    key: &HandleKey,
) -> v2::RecoverOrphanedTransactionCommand {
    let message = outgoing::stored(question.message, topic, question.stored_at, store_host.to_owned());
    v2::RecoverOrphanedTransactionCommand { message: Some(message), transaction_id: id(question.at, key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_its_message_is_and_nothing_else_is_one() {
        let message = MessageRef { index: LogIndex(u64::MAX), slot: 3 };
        let key = HandleKey::new([2; 16]);
        assert_eq!(read(&id(message, &key), &key), Ok(message));
        for bad in ["", "0", &"+".repeat(24), &"0".repeat(23), &"G".repeat(24)] {
            assert_eq!(read(bad, &key), Err(NotAHandle::NeverGiven(HandleKind::Transaction)), "{bad}");
        }
        assert_eq!(read(&"0".repeat(24), &key), Err(NotAHandle::OfEarlierBuild(HandleKind::Transaction)));
    }

    #[test]
    fn fuzz_transaction_ids() {
        const KEY: HandleKey = HandleKey::new([2; 16]);
        let corpus = [id(MessageRef { index: LogIndex(300), slot: 3 }, &KEY), "0".repeat(24)];
        let mend = |bytes: &mut Vec<u8>, rng: &mut odd_bytes::Rng| {
            let text = KEY.seal(HandleKind::Transaction, |out| {
                out.extend_from_slice(bytes.get(..rng.below(bytes.len().min(24))).unwrap_or_default());
                out.put_varint(rng.next());
                out.put_varint(rng.next() >> 40);
            });
            *bytes = text.into_bytes();
        };
        odd_bytes::Fuzz::of("transaction_ids", corpus).mend(mend).run(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            let message = read(&text, &KEY).map_err(|error| error.to_string())?;
            assert_eq!(read(&id(message, &KEY), &KEY), Ok(message));
            Ok("an id".to_owned())
        });
    }
}
