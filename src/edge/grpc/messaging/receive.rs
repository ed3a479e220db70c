//! ReceiveMessage (contract §13). After: `broker/receive/poll`.
//!
//! Hot path. The stream's headers go out at once; its items are status, messages, delivery timestamp.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tonic::Request;

use crate::broker::{Receive, Received};
use crate::edge::grpc::codes::{Refused, bad_group, bad_topic, ok, status};
use crate::edge::grpc::convert;
use crate::edge::grpc::digest::with_digests;
use crate::edge::grpc::messaging::{Caller, Items, Messaging, name};
use crate::edge::grpc::validate::millis;
use crate::model::filter::sql::SqlFilter;
use crate::model::limits::{
    FILTER_BYTES_MAX, INVISIBLE_MAX, INVISIBLE_MIN, INVISIBLE_RENEWED, POLL_MARGIN, POLL_MAX, POLL_MIN,
    RECEIVE_BATCH_MAX,
};
use crate::model::{Filter, GroupName, Millis, TagFilter, TopicName};
use crate::proto::v2;
use crate::proto::v2::Code;
use crate::proto::v2::receive_message_response::Content;

/// The request timeout of a client that never told its own.
const REQUEST_TIMEOUT: Millis = Millis::from_secs(3);

pub(super) fn receive(
    edge: Messaging,
    request: Request<v2::ReceiveMessageRequest>,
) -> Items<v2::ReceiveMessageResponse> {
    let items = async move {
        let topic = request.get_ref().message_queue.as_ref().and_then(|queue| queue.topic.clone()).unwrap_or_default();
        let (first, received) = match try_receive(&edge, request).await {
            Ok(Some(received)) => (ok(), Some(received)),
            Ok(None) => (status(Code::MessageNotFound, "no message arrived in time"), None),
            Err(refused) => (refused.status(), None),
        };
        let (deliveries, leases) = received.map_or((Vec::new(), None), |got| (got.deliveries, Some(got.leases)));
        // Converted one by one as the connection takes them.
        let messages = with_digests(deliveries, |delivery| &delivery.message.body);
        let messages =
            messages.map(move |(delivery, digest)| Content::Message(convert::delivery(delivery, digest, &topic)));
        let last = async move {
            // The connection asks for this once it has taken all before; a stream dropped earlier takes the
            // leases with it.
            if let Some(leases) = leases {
                leases.delivered();
            }
            Content::DeliveryTimestamp(convert::timestamp(edge.broker.now()))
        };
        stream::iter(std::iter::once(Content::Status(first)).chain(messages)).chain(stream::once(last))
    };
    let item = |content| Ok(v2::ReceiveMessageResponse { content: Some(content) });
    Box::pin(stream::once(items).flatten().map(item))
}

async fn try_receive(
    edge: &Messaging,
    request: Request<v2::ReceiveMessageRequest>,
) -> Result<Option<Received>, Refused> {
    let caller = edge.caller(&request)?;
    let request = request.into_inner();
    let queue = request.message_queue.as_ref();
    let topic = name(queue.and_then(|queue| queue.topic.as_ref()));
    let topic = TopicName::parse(topic).map_err(|error| bad_topic(&error))?;
    let group = GroupName::parse(name(request.group.as_ref())).map_err(|error| bad_group(&error))?;
    let filter = filter(request.filter_expression.as_ref())?;
    let invisible = invisible(&request)?;
    let request_timeout = edge.node.sessions().request_timeout(&caller.client.client_id);
    let wait = poll_time(request.long_polling_timeout.as_ref().map(millis), request_timeout, &caller)?;
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
    };
    Ok(edge.broker.receive(receive).await?)
}

pub(super) fn filter(expression: Option<&v2::FilterExpression>) -> Result<Filter, Refused> {
    let Some(expression) = expression else { return Ok(Filter::Tags(TagFilter::All)) };
    let bytes = expression.expression.len();
    if bytes > FILTER_BYTES_MAX {
        let text = format!("the filter expression of {bytes} bytes is longer than {FILTER_BYTES_MAX}");
        return Err(Refused::new(Code::IllegalFilterExpression, text));
    }
    match expression.r#type() {
        v2::FilterType::Sql => match SqlFilter::parse(&expression.expression) {
            Ok(condition) => Ok(Filter::Sql(Arc::new(condition))),
            Err(error) => {
                let text = format!("the SQL filter expression '{}': {error}", expression.expression);
                Err(Refused::new(Code::IllegalFilterExpression, text))
            }
        },
        v2::FilterType::Tag | v2::FilterType::Unspecified => Ok(Filter::Tags(TagFilter::parse(&expression.expression))),
    }
}

fn invisible(request: &v2::ReceiveMessageRequest) -> Result<Millis, Refused> {
    if request.auto_renew {
        return Ok(INVISIBLE_RENEWED);
    }
    let invisible = millis(&request.invisible_duration.unwrap_or_default());
    if invisible < INVISIBLE_MIN {
        let text = format!("the invisibleTime is too small: {invisible} is below {INVISIBLE_MIN}");
        return Err(Refused::new(Code::IllegalInvisibleTime, text));
    }
    if invisible > INVISIBLE_MAX {
        let text = format!("the invisibleTime is too large: {invisible} is above {INVISIBLE_MAX}");
        return Err(Refused::new(Code::IllegalInvisibleTime, text));
    }
    Ok(invisible)
}

/// Contract §13.3, and finished half a second before the caller's deadline: a later answer would make
/// messages invisible for a client that has already given up.
fn poll_time(wanted: Option<Millis>, request_timeout: Option<Millis>, caller: &Caller) -> Result<Millis, Refused> {
    let left = caller.timeout.map(Millis::from);
    let half_timeout = Millis(request_timeout.unwrap_or(REQUEST_TIMEOUT).0 / 2);
    let wanted = wanted.or_else(|| left.map(|left| Millis(left.0.saturating_sub(half_timeout.0))));
    let wanted = wanted.unwrap_or(POLL_MAX).clamp(POLL_MIN, POLL_MAX);
    let Some(left) = left else { return Ok(wanted) };
    if wanted > left && left < POLL_MIN {
        let is_old = caller.client.version.is_empty() || caller.client.version.as_str() < "5.0.3";
        let code = if is_old { Code::BadRequest } else { Code::IllegalPollingTime };
        let text = format!("the deadline leaves {left} for a poll, less than {POLL_MIN}; give the call more time");
        return Err(Refused::new(code, text));
    }
    Ok(wanted.min(Millis(left.0.saturating_sub(POLL_MARGIN.0))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::ClientInfo;

    fn poll(wanted: Option<u64>, left: Option<u64>, version: &str) -> Result<u64, Code> {
        let client = ClientInfo { version: version.into(), ..ClientInfo::default() }.into();
        let caller = Caller { client, asked_at: tokio::time::Instant::now(), timeout: left.map(Duration::from_millis) };
        poll_time(wanted.map(Millis), None, &caller).map(|wait| wait.0).map_err(|refused| refused.code)
    }

    #[test]
    fn polls_are_clamped_and_end_before_the_deadline() {
        assert_eq!(poll(None, None, ""), Ok(20_000));
        assert_eq!(poll(Some(1_000), None, ""), Ok(5_000));
        assert_eq!(poll(Some(30_000), Some(33_000), ""), Ok(20_000));
        assert_eq!(poll(Some(20_000), Some(20_000), ""), Ok(19_500));
        assert_eq!(poll(Some(8_000), Some(8_000), ""), Ok(7_500));
        assert_eq!(poll(None, Some(13_000), ""), Ok(11_500));
        assert_eq!(poll(Some(5_000), Some(4_999), "5.0.3"), Err(Code::IllegalPollingTime));
        assert_eq!(poll(Some(5_000), Some(4_999), "5.0.2"), Err(Code::BadRequest));
        assert_eq!(poll(Some(5_000), Some(4_999), ""), Err(Code::BadRequest));
        assert_eq!(poll(Some(6_000), Some(5_000), ""), Ok(4_500));
    }

    #[test]
    fn invisible_times_keep_their_bounds() {
        let of = |millis: i64, auto_renew| {
            let duration = prost_types::Duration { seconds: millis / 1000, nanos: (millis % 1000) as i32 * 1_000_000 };
            let request =
                v2::ReceiveMessageRequest { invisible_duration: Some(duration), auto_renew, ..Default::default() };
            invisible(&request).map(|length| length.0).map_err(|refused| refused.text)
        };
        assert_eq!(of(10_000, false), Ok(10_000));
        assert_eq!(of(43_200_000, false), Ok(43_200_000));
        assert!(of(9_999, false).unwrap_err().contains("the invisibleTime is too small"));
        assert!(of(43_200_001, false).unwrap_err().contains("the invisibleTime is too large"));
        assert_eq!(of(0, true), Ok(60_000));
    }
}
