//! ReceiveMessage (contract §13). After: `broker/receive/poll`.
//!
//! Hot path. The stream's headers go out at once; its items are status, messages, delivery timestamp.

use futures_util::{StreamExt, stream};
use tokio::time::Instant;
use tonic::Request;

use crate::broker::{Delivery, Receive, Received};
use crate::edge::grpc::call_times::Call;
use crate::edge::grpc::codes::{Refused, ok, status};
use crate::edge::grpc::convert;
use crate::edge::grpc::messaging::context::{Caller, Items, Messaging, answers_of};
use crate::edge::grpc::outgoing;
use crate::edge::rules;
use crate::edge::rules::InvalidKind;
use crate::edge::rules::consume::PollTimes;
use crate::env::fault::planted_bug;
use crate::env::fault::planted_bug::PlantedBug;
use crate::model::limits::{INVISIBLE_RENEWED, RECEIVE_BATCH_MAX};
use crate::model::{HandleKey, Millis};
use crate::proto::v2;
use crate::proto::v2::Code;
use crate::proto::v2::receive_message_response::Content;

/// tonic hands the connection a part of an answer once it has so many bytes.
const FIRST_PART_BYTES: usize = 32 * 1024;
/// What a message has beside its body, at least.
const BESIDE_BODY_BYTES: usize = 512;

pub(super) fn receive(
    edge: Messaging,
    request: Request<v2::ReceiveMessageRequest>,
) -> Items<v2::ReceiveMessageResponse> {
    let items = async move {
        let began = Instant::now();
        let topic = request.get_ref().message_queue.as_ref().and_then(|queue| queue.topic.clone()).unwrap_or_default();
        let (first, received) = match try_receive(&edge, request).await {
            Ok(Some(received)) => (ok(), Some(received)),
            Ok(None) => (status(Code::MessageNotFound, "no message arrived in time"), None),
            Err(refused) => (refused.status(), None),
        };
        edge.call_times.note(Call::ReceiveMessage, first.code, began.elapsed());
        let (keyed, rest) = received.map(|(key, got)| ((key, got.deliveries), (got.leases, got.held))).unzip();
        let (leases, held) = rest.unzip();
        // Converted one by one as the connection takes them.
        let deliveries = keyed.into_iter().flat_map(|(key, all): (HandleKey, Vec<_>)| {
            Taking { deliveries: all.into_iter(), taken: 0 }.map(move |one| (key, one))
        });
        let messages =
            deliveries.map(move |(key, delivery)| Content::Message(outgoing::delivery(delivery, &topic, &key)));
        let last = async move {
            // Given back when all was taken, or the stream is dropped.
            drop(held);
            // The connection asks for this item when it has taken all others; a stream that is dropped earlier gives
            // the leases back.
            if let Some(leases) = leases {
                leases.delivered();
            }
            Content::DeliveryTimestamp(convert::wire_timestamp(edge.broker.now()))
        };
        stream::iter(std::iter::once(Content::Status(first)).chain(messages)).chain(stream::once(last))
    };
    let item = |content| Ok(v2::ReceiveMessageResponse { content: Some(content) });
    Box::pin(stream::once(items).flatten().map(item))
}

async fn try_receive(
    edge: &Messaging,
    request: Request<v2::ReceiveMessageRequest>,
) -> Result<Option<(HandleKey, Received)>, Refused> {
    let caller = edge.caller(&request)?;
    let share = answers_of(&request);
    let request = request.into_inner();
    let queue = request.message_queue.as_ref();
    let topic = caller.topic(queue.and_then(|queue| queue.topic.as_ref()))?;
    let group = caller.group(request.group.as_ref())?;
    let is_planted = planted_bug::is(PlantedBug::RequestPanics) && group.as_str() == PlantedBug::RequestPanics.name();
    assert!(!is_planted, "as planted");
    edge.node.consumes_over_grpc(&group, &caller.client.client_id)?;
    let filter = convert::filter(request.filter_expression.as_ref())?;
    let invisible = invisible_for(&request)?;
    let request_timeout = edge.node.sessions().request_timeout(&caller.client.client_id);
    let asked = request.long_polling_timeout.as_ref().map(convert::millis);
    let wait = poll_wait(asked, request_timeout, &caller)?;
    let receive = Receive {
        group,
        topic,
        filter,
        batch: u32::try_from(request.batch_size).unwrap_or(0).clamp(1, RECEIVE_BATCH_MAX),
        invisible,
        renew: request.auto_renew,
        wait,
        client_id: caller.client.client_id.clone(),
        attempt_id: request.attempt_id.filter(|id| !id.is_empty()),
        share,
    };
    let key = edge.broker.handle_key(caller.deadline()).await?;
    Ok(edge.broker.receive(receive).await?.map(|received| (key, received)))
}

/// Deliveries as they are taken. What is left of them when the connection has enough for a first part may wait for long.
struct Taking {
    deliveries: std::vec::IntoIter<Delivery>,
    taken: usize,
}

impl Iterator for Taking {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        let delivery = self.deliveries.next()?;
        let had_enough = self.taken >= FIRST_PART_BYTES;
        self.taken += delivery.message.body.len() + BESIDE_BODY_BYTES;
        if !had_enough && self.taken >= FIRST_PART_BYTES {
            self.deliveries.as_mut_slice().iter_mut().for_each(Delivery::keep_no_more_than_its_own);
        }
        Some(delivery)
    }
}

fn invisible_for(request: &v2::ReceiveMessageRequest) -> Result<Millis, Refused> {
    if request.auto_renew {
        return Ok(INVISIBLE_RENEWED);
    }
    Ok(rules::consume::invisible_for(convert::millis(&request.invisible_duration.unwrap_or_default()))?)
}

fn poll_wait(asked: Option<Millis>, request_timeout: Option<Millis>, caller: &Caller) -> Result<Millis, Refused> {
    let left = caller.timeout.map(Millis::from);
    rules::consume::poll_wait(PollTimes { asked, request_timeout, left }).map_err(|invalid| {
        // Clients before 5.0.3 do not know the code.
        let is_old = caller.client.version.as_str() < "5.0.3";
        let is_unknown = is_old && invalid.kind == InvalidKind::PollTime;
        let refused = Refused::from(invalid);
        if is_unknown { Refused { code: Code::BadRequest, ..refused } } else { refused }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::broker::ClientInfo;
    use crate::model::{
        BodyEncoding, GroupId, LeaseId, Message, MessageType, QueueId, QueueOffset, ReceiptHandle, Timestamp, TopicId,
    };

    /// A delivery whose body is a part of so many bytes.
    fn delivery(body: usize, shared_bytes: usize) -> Delivery {
        let message = Message {
            message_type: MessageType::Normal,
            body_encoding: BodyEncoding::Identity,
            body: Bytes::from(vec![7; shared_bytes]).slice(..body),
            body_md5: None,
            tag: None,
            keys: Vec::new(),
            properties: Vec::new(),
            born_at: Timestamp(0),
            born_host: String::new(),
            message_id: String::new(),
            message_group: None,
            delivery_at: None,
            trace_context: None,
            priority: None,
            recovery_after: None,
            classic: None,
        };
        let (queue, offset) = (QueueId(0), QueueOffset(0));
        let handle = ReceiptHandle { group: GroupId(1), topic: TopicId(1), queue, offset, lease: LeaseId(1) };
        let (stored_at, store_host) = (Timestamp(0), String::new());
        Delivery { message, shared_bytes, handle, queue, offset, attempt: 1, died_in: None, stored_at, store_host }
    }

    /// What the deliveries keep in memory that are not taken when the connection has its first part.
    fn kept(body: usize, shared_bytes: usize, count: usize) -> Vec<usize> {
        let deliveries: Vec<_> = (0..count).map(|_| delivery(body, shared_bytes)).collect();
        let mut taking = Taking { deliveries: deliveries.into_iter(), taken: 0 };
        while taking.taken < FIRST_PART_BYTES && taking.next().is_some() {}
        taking.map(|delivery| delivery.shared_bytes).collect()
    }

    #[test]
    fn p20_messages_that_wait_for_their_client_keep_no_large_entries_in_memory() {
        assert_eq!(kept(40_000, 1 << 20, 3), [40_000, 40_000]);
        assert_eq!(kept(1000, 256 << 10, 32), [1000; 10]);
        assert_eq!(kept(40_000, 60_000, 2), [60_000], "a copy would be as large as what it saves");
        assert_eq!(kept(100, 1 << 20, 32), [0; 0], "all are taken at once");
    }

    fn poll(asked: Option<u64>, left: Option<u64>, version: &str) -> Result<u64, Code> {
        let client = ClientInfo { version: version.into(), ..ClientInfo::default() }.into();
        let (namespace, asked_at) = (String::new(), tokio::time::Instant::now());
        let caller = Caller { client, namespace, asked_at, timeout: left.map(Duration::from_millis) };
        poll_wait(asked.map(Millis), None, &caller).map(|wait| wait.0).map_err(|refused| refused.code)
    }

    #[test]
    fn a_deadline_without_time_for_a_poll_has_a_code_the_client_knows() {
        assert_eq!(poll(Some(8_000), Some(8_000), ""), Ok(7_500));
        assert_eq!(poll(Some(5_000), Some(4_999), "5.0.3"), Err(Code::IllegalPollingTime));
        assert_eq!(poll(Some(5_000), Some(4_999), "5.0.2"), Err(Code::BadRequest));
        assert_eq!(poll(Some(5_000), Some(4_999), ""), Err(Code::BadRequest));
    }

    #[test]
    fn invisible_times_keep_their_bounds() {
        let of = |millis: i64, auto_renew| {
            let duration = prost_types::Duration { seconds: millis / 1000, nanos: (millis % 1000) as i32 * 1_000_000 };
            let request =
                v2::ReceiveMessageRequest { invisible_duration: Some(duration), auto_renew, ..Default::default() };
            invisible_for(&request).map(|length| length.0).map_err(|refused| refused.text)
        };
        assert_eq!(of(10_000, false), Ok(10_000));
        assert_eq!(of(43_200_000, false), Ok(43_200_000));
        assert!(of(9_999, false).unwrap_err().contains("the invisibleTime is too small"));
        assert!(of(43_200_001, false).unwrap_err().contains("the invisibleTime is too large"));
        assert_eq!(of(0, true), Ok(60_000));
    }
}
