//! AckMessage (contract §14). After: `broker/ack`.

use tonic::Request;

use crate::broker::{Acked, Error};
use crate::edge::grpc::codes::{Refused, ok, status};
use crate::edge::grpc::messaging::context::Messaging;
use crate::edge::rules;
use crate::model::ReceiptHandle;
use crate::proto::v2;
use crate::proto::v2::Code;

pub(super) async fn ack(edge: &Messaging, request: Request<v2::AckMessageRequest>) -> v2::AckMessageResponse {
    let entries = request.get_ref().entries.clone();
    match try_ack(edge, request).await {
        Ok(answers) => {
            let entries: Vec<_> =
                entries.into_iter().zip(answers).map(|(entry, acked)| result(entry, &acked)).collect();
            v2::AckMessageResponse { status: Some(common(&entries)), entries }
        }
        // The entries are echoed with the reason: the Rust client reads the first one, always.
        Err(refused) => v2::AckMessageResponse {
            status: Some(refused.status()),
            entries: entries.into_iter().map(|entry| echo(entry, refused.status())).collect(),
        },
    }
}

async fn try_ack(edge: &Messaging, request: Request<v2::AckMessageRequest>) -> Result<Vec<Acked>, Refused> {
    let caller = edge.caller(&request)?;
    let request = request.into_inner();
    let topic = caller.topic(request.topic.as_ref())?;
    let group = caller.group(request.group.as_ref())?;
    rules::consume::ack_entries(request.entries.len())?;
    let key = edge.broker.handle_key(caller.deadline()).await?;
    let handles = request.entries.iter().map(|entry| ReceiptHandle::parse(&entry.receipt_handle, &key)).collect();
    Ok(edge.broker.ack(group, topic, handles, caller.deadline()).await?)
}

fn result(entry: v2::AckMessageEntry, acked: &Acked) -> v2::AckMessageResultEntry {
    let status = match acked {
        Acked::Done => ok(),
        Acked::LeaseEnded => Refused::from(Error::LeaseEnded).status(),
        Acked::NotAReceiptHandle(refused) => Refused::from(Error::NotAReceiptHandle(*refused)).status(),
        Acked::ForeignReceiptHandle => Refused::from(Error::ForeignReceiptHandle).status(),
    };
    echo(entry, status)
}

fn echo(entry: v2::AckMessageEntry, status: v2::Status) -> v2::AckMessageResultEntry {
    v2::AckMessageResultEntry {
        message_id: entry.message_id,
        receipt_handle: entry.receipt_handle,
        status: Some(status),
    }
}

/// The one status of all entries, or that they differ.
fn common(entries: &[v2::AckMessageResultEntry]) -> v2::Status {
    let mut statuses = entries.iter().filter_map(|entry| entry.status.as_ref());
    match statuses.next() {
        Some(first) if statuses.all(|other| other.code == first.code) => {
            status(first.code(), first.code().as_str_name())
        }
        _ => status(Code::MultipleResults, Code::MultipleResults.as_str_name()),
    }
}
