//! PullMessage, UpdateOffset, GetOffset and QueryOffset (contract §20). After: `broker/offset`.

use futures_util::{StreamExt, stream};
use tokio::time::Instant;
use tonic::Request;

use crate::broker::{AnswerRoom, Pull, Pulled, Where};
use crate::edge::grpc::call_times::Call;
use crate::edge::grpc::codes::{Refused, ok, status};
use crate::edge::grpc::convert;
use crate::edge::grpc::messaging::context::{Caller, Items, Messaging, answers_of};
use crate::edge::grpc::outgoing;
use crate::model::limits::{POLL_MARGIN, POLL_MAX, RECEIVE_BYTES_MAX};
use crate::model::{Millis, QueueId, QueueOffset, TopicName};
use crate::proto::v2;
use crate::proto::v2::Code;
use crate::proto::v2::pull_message_response::Content;

pub(super) fn pull(edge: Messaging, request: Request<v2::PullMessageRequest>) -> Items<v2::PullMessageResponse> {
    let items = async move {
        let began = Instant::now();
        let queue = request.get_ref().message_queue.clone().unwrap_or_default();
        let topic = queue.topic.unwrap_or_default();
        let (first, pulled) = match try_pull(&edge, request).await {
            Ok(pulled) if pulled.messages.is_empty() => {
                (status(Code::MessageNotFound, "no message arrived in time"), Some(pulled))
            }
            Ok(pulled) => (ok(), Some(pulled)),
            Err(refused) => (refused.status(), None),
        };
        edge.call_times.note(Call::PullMessage, first.code, began.elapsed());
        let store_host = edge.node.settings().store_host.clone();
        let mut contents = vec![Content::Status(first)];
        // Until the stream is dropped, which is when all was taken.
        let mut room = None;
        if let Some(Pulled { messages, next, room: taken, .. }) = pulled {
            room = taken;
            contents.extend(messages.into_iter().map(|pulled| {
                let mut message = outgoing::stored(pulled.message, &topic, pulled.stored_at, store_host.clone());
                let system = message.system_properties.get_or_insert_default();
                system.queue_id = queue.id;
                system.queue_offset = Some(convert::wire_offset(pulled.offset));
                Content::Message(message)
            }));
            contents.push(Content::NextOffset(convert::wire_offset(next)));
        }
        stream::iter(contents).inspect(move |_| {
            let _keeps = &room;
        })
    };
    let item = |content| Ok(v2::PullMessageResponse { content: Some(content) });
    Box::pin(stream::once(items).flatten().map(item))
}

async fn try_pull(edge: &Messaging, request: Request<v2::PullMessageRequest>) -> Result<Pulled, Refused> {
    let caller = edge.caller(&request)?;
    let room = answers_of(&request).map(|share| AnswerRoom { places: None, share });
    let request = request.into_inner();
    let (topic, queue) = queue_of(&caller, request.message_queue.as_ref())?;
    let group = caller.group(request.group.as_ref())?;
    let left = caller.timeout.map_or(POLL_MAX, Millis::from);
    let wait = request.long_polling_timeout.as_ref().map_or(Millis(0), convert::millis).min(POLL_MAX);
    let pull = Pull {
        group,
        topic,
        queue,
        offset: offset_of(request.offset)?,
        filter: convert::filter(request.filter_expression.as_ref())?,
        batch: u32::try_from(request.batch_size).unwrap_or(0),
        bytes_max: RECEIVE_BYTES_MAX,
        room,
        wait: wait.min(Millis(left.0.saturating_sub(POLL_MARGIN.0))),
    };
    Ok(edge.broker.pull(pull, caller.deadline()).await?)
}

pub(super) async fn update(edge: &Messaging, request: Request<v2::UpdateOffsetRequest>) -> v2::Status {
    try_update(edge, request).await.map_or_else(|refused| refused.status(), |()| ok())
}

async fn try_update(edge: &Messaging, request: Request<v2::UpdateOffsetRequest>) -> Result<(), Refused> {
    let caller = edge.caller(&request)?;
    let request = request.into_inner();
    let (topic, queue) = queue_of(&caller, request.message_queue.as_ref())?;
    let group = caller.group(request.group.as_ref())?;
    let offset = offset_of(request.offset)?;
    Ok(edge.broker.set_position(group, topic, queue, offset, caller.deadline()).await?)
}

pub(super) async fn get(edge: &Messaging, request: Request<v2::GetOffsetRequest>) -> v2::GetOffsetResponse {
    let found = try_get(edge, request).await;
    let (status, offset) =
        found.map_or_else(|refused| (refused.status(), 0), |offset| (ok(), convert::wire_offset(offset)));
    v2::GetOffsetResponse { status: Some(status), offset }
}

async fn try_get(edge: &Messaging, request: Request<v2::GetOffsetRequest>) -> Result<QueueOffset, Refused> {
    let caller = edge.caller(&request)?;
    let request = request.into_inner();
    let (topic, queue) = queue_of(&caller, request.message_queue.as_ref())?;
    let group = caller.group(request.group.as_ref())?;
    let position = edge.broker.position(group, topic, queue, caller.deadline()).await?;
    position.ok_or_else(|| Refused::new(Code::OffsetNotFound, "the consumer group has no position in this queue"))
}

pub(super) async fn query(edge: &Messaging, request: Request<v2::QueryOffsetRequest>) -> v2::QueryOffsetResponse {
    let found = try_query(edge, request).await;
    let (status, offset) =
        found.map_or_else(|refused| (refused.status(), 0), |offset| (ok(), convert::wire_offset(offset)));
    v2::QueryOffsetResponse { status: Some(status), offset }
}

async fn try_query(edge: &Messaging, request: Request<v2::QueryOffsetRequest>) -> Result<QueueOffset, Refused> {
    let caller = edge.caller(&request)?;
    let request = request.into_inner();
    let (topic, queue) = queue_of(&caller, request.message_queue.as_ref())?;
    let wanted = match (request.query_offset_policy(), &request.timestamp) {
        (v2::QueryOffsetPolicy::Beginning, _) => Where::Beginning,
        (v2::QueryOffsetPolicy::End, _) => Where::End,
        (v2::QueryOffsetPolicy::Timestamp, Some(at)) => Where::At(convert::timestamp(at)),
        (v2::QueryOffsetPolicy::Timestamp, None) => {
            return Err(Refused::new(Code::BadRequest, "the policy is TIMESTAMP and no timestamp is given"));
        }
    };
    Ok(edge.broker.query_offset(topic, queue, wanted, caller.deadline()).await?)
}

fn queue_of(caller: &Caller, queue: Option<&v2::MessageQueue>) -> Result<(TopicName, QueueId), Refused> {
    let queue = queue.ok_or_else(|| Refused::new(Code::BadRequest, "the message queue is missing"))?;
    let topic = caller.topic(queue.topic.as_ref())?;
    let id = u32::try_from(queue.id)
        .map_err(|_| Refused::new(Code::BadRequest, format!("the queue id {} is below 0", queue.id)))?;
    Ok((topic, QueueId(id)))
}

fn offset_of(offset: i64) -> Result<QueueOffset, Refused> {
    let offset = u64::try_from(offset);
    offset.map(QueueOffset).map_err(|_| Refused::new(Code::IllegalOffset, "the offset is below 0"))
}
