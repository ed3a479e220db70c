//! Trims by an operator. Calls `broker/trim`.

use bytes::{BufMut, Bytes, BytesMut};
use tonic::Status;

use crate::broker::{Operator, TopicTrim, TrimBefore, TrimCursor};
use crate::edge::admin::convert::{refuse, topic_name};
use crate::model::codec::Reader;
use crate::model::{Millis, QueueId, Timestamp, TopicId};
use crate::node::Node;
use crate::proto::admin as wire;

pub(super) async fn trim(node: &Node, by: &Operator, request: wire::TrimRequest) -> Result<wire::TrimResponse, Status> {
    use wire::trim_request::Before;
    let topic = if request.topic.is_empty() { None } else { Some(topic_name(&request.topic)?) };
    let before = match (read_cursor(request.cursor)?, request.before) {
        (Some(cursor), _) => TrimBefore::Cursor(cursor),
        (None, Some(Before::AgeMs(age))) => TrimBefore::Age(Millis(age)),
        (None, Some(Before::TimestampMs(at))) => TrimBefore::Time(Timestamp(at)),
        (None, None) => return Err(Status::invalid_argument("the request does not say before when")),
    };
    let page = node.broker().trim(by, topic.as_ref(), before, request.dry_run).await.map_err(refuse)?;
    let row = |topic: TopicTrim| wire::TrimmedTopic {
        topic: topic.topic.to_string(),
        messages: topic.messages,
        bytes_about: topic.bytes_about,
        left_out: topic.is_left_out,
        retention_ms: topic.retention.map(|kept_for| kept_for.0),
    };
    Ok(wire::TrimResponse {
        topics: page.topics.into_iter().map(row).collect(),
        cursor: page.cursor.map(put_cursor).unwrap_or_default(),
        before_ms: page.before.0,
    })
}

fn put_cursor(cursor: TrimCursor) -> Bytes {
    let mut out = BytesMut::with_capacity(16);
    out.put_u64(cursor.before.0);
    out.put_u32(cursor.topic.0);
    out.put_u32(cursor.queue.0);
    out.freeze()
}

fn read_cursor(bytes: Bytes) -> Result<Option<TrimCursor>, Status> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(bytes, "cursor");
    let (Ok(before), Ok(topic), Ok(queue), 0) = (reader.u64(), reader.u32(), reader.u32(), reader.remaining()) else {
        return Err(Status::invalid_argument("the cursor is not one that this service gave"));
    };
    Ok(Some(TrimCursor { before: Timestamp(before), topic: TopicId(topic), queue: QueueId(queue) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_another_text_is_refused() {
        let cursor = TrimCursor { before: Timestamp(7), topic: TopicId(8), queue: QueueId(9) };
        let bytes = put_cursor(cursor);
        assert_eq!(read_cursor(bytes.clone()).unwrap(), Some(cursor));
        assert_eq!(read_cursor(Bytes::new()).unwrap(), None);
        assert!(read_cursor(bytes.slice(1..)).is_err());
        assert!(read_cursor([&bytes[..], b"x"].concat().into()).is_err());
    }
}
