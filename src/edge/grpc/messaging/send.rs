//! SendMessage (contract §9). After: `broker/send`.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tonic::Request;

use crate::broker::{SendReceipt, Sent};
use crate::edge::grpc::codes::{Refused, ok};
use crate::edge::grpc::convert::wire_offset;
use crate::edge::grpc::incoming;
use crate::edge::grpc::messaging::context::{EdgeSettings, Messaging};
use crate::edge::grpc::messaging::transaction;
use crate::edge::recall_handle::RecallHandle;
use crate::edge::rules::message::MessageLimits;
use crate::env::fault::planted_bug;
use crate::env::fault::planted_bug::PlantedBug;
use crate::env::panic::contain;
use crate::env::pool::Pool;
use crate::proto::admin;
use crate::proto::admin::SendAddition;
use crate::proto::admin::send_receipt::Durability;
use crate::proto::v2;
use crate::proto::v2::Code;

/// The bodies of a larger request are looked at on another thread: their digests take some milliseconds, and this thread may be
/// Raft's.
const CHECKED_HERE_MAX: usize = 1024 * 1024;

/// The answer, and what is added to it for those who know it (contract §9.6).
pub(super) async fn send(
    edge: &Messaging,
    request: Request<v2::SendMessageRequest>,
) -> (v2::SendMessageResponse, SendAddition) {
    match try_send(edge, request).await {
        Ok((entries, receipt)) => {
            (v2::SendMessageResponse { status: Some(ok()), entries }, SendAddition { receipt: Some(put(receipt)) })
        }
        Err(refused) => {
            let answer = v2::SendMessageResponse { status: Some(refused.status()), entries: Vec::new() };
            (answer, SendAddition::default())
        }
    }
}

fn put(receipt: SendReceipt) -> admin::SendReceipt {
    let SendReceipt { index, term, is_synced } = receipt;
    let durability = if is_synced { Durability::SyncedOnMajority } else { Durability::PageCacheOnMajority };
    admin::SendReceipt { term: term.0, index: index.0, durability: durability.into() }
}

async fn try_send(
    edge: &Messaging,
    request: Request<v2::SendMessageRequest>,
) -> Result<(Vec<v2::SendResultEntry>, SendReceipt), Refused> {
    let caller = edge.caller(&request)?;
    let EdgeSettings { body_bytes_max, delay_max } = edge.settings;
    let limits = MessageLimits { body_bytes_max, delay_max, now: edge.broker.now() };
    let request = request.into_inner();
    let body_bytes: usize = request.messages.iter().map(|message| message.body.len()).sum();
    let checked = if body_bytes > CHECKED_HERE_MAX {
        let (address, namespace) = (caller.client.address.clone(), caller.namespace.clone());
        apart(move || incoming::send(request, limits, &address, &namespace)).await?
    } else {
        incoming::send(request, limits, &caller.client.address, &caller.namespace)?
    };
    let ids: Vec<_> = checked.messages.iter().map(|message| message.message_id.clone()).collect();
    let is_planted = planted_bug::is(PlantedBug::RequestPanics) && ids[0] == PlantedBug::RequestPanics.name();
    assert!(!is_planted, "as planted");
    let topic = checked.topic.clone();
    // Before anything is stored: an answer without its handle would be none. It also keeps what older builds could not
    // read out of the log until one of this build leads.
    let key = edge.broker.handle_key(caller.deadline()).await?;
    let (sent, receipt) =
        edge.broker.send(checked.topic, checked.message_type, checked.messages, caller.deadline()).await?;
    let entry = |(message_id, sent): (String, Sent)| {
        let mut entry = v2::SendResultEntry { status: Some(ok()), ..Default::default() };
        match sent {
            Sent::Stored { offset, .. } => {
                entry.offset = wire_offset(offset);
                entry.transaction_id.clone_from(&message_id);
            }
            Sent::Delayed { message, delivery_at } => {
                entry.recall_handle = RecallHandle::new(&topic, delivery_at, message, &message_id).to_text(&key);
                entry.transaction_id.clone_from(&message_id);
            }
            Sent::Half(message) => entry.transaction_id = transaction::id(message, &key),
        }
        entry.message_id = message_id;
        entry
    };
    Ok((ids.into_iter().zip(sent).map(entry).collect(), receipt))
}

/// Boxed: few requests are so large, and the future of every send would be larger for them.
fn apart<T: Send + 'static>(
    check: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> BoxFuture<'static, Result<T, Refused>> {
    async move {
        match Pool::Bodies.run(move || contain(check)).await {
            Ok(Ok(checked)) => checked,
            Ok(Err(_)) | Err(_) => Err(Refused::new(Code::InternalError, "the messages could not be checked")),
        }
    }
    .boxed()
}
