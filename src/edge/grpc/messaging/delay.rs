//! RecallMessage (contract §11), and the handles it takes. After: `broker/delay`.
//!
//! Any node can read a handle: it says where the message waits.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::Request;

use crate::edge::grpc::codes::{Refused, bad_topic, ok};
use crate::edge::grpc::messaging::{Messaging, name};
use crate::model::{LogIndex, MessageRef, Timestamp, TopicName};
use crate::proto::v2;
use crate::proto::v2::Code;

const VERSION: &str = "v1";

/// What a handle says.
#[derive(Debug, PartialEq, Eq)]
struct Handle {
    topic: String,
    at: Timestamp,
    message: MessageRef,
    message_id: String,
}

/// The handle of a message that waits: opaque to clients.
pub(in crate::edge) fn handle(topic: &TopicName, at: Timestamp, message: MessageRef, message_id: &str) -> String {
    let MessageRef { index, slot } = message;
    URL_SAFE_NO_PAD.encode(format!("{VERSION} {topic} {} {index} {slot} {message_id}", at.0))
}

/// Where a handle of a topic says that its message waits, and the message's id.
pub(in crate::edge) fn place_in(topic: &TopicName, text: &str) -> Option<(Timestamp, MessageRef, String)> {
    let handle = read(text).filter(|handle| handle.topic == topic.as_str())?;
    Some((handle.at, handle.message, handle.message_id))
}

fn read(text: &str) -> Option<Handle> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    // Last, because it may hold anything.
    let mut words = text.splitn(6, ' ');
    if words.next()? != VERSION {
        return None;
    }
    let topic = words.next()?.to_owned();
    let at = Timestamp(words.next()?.parse().ok()?);
    let message = MessageRef { index: LogIndex(words.next()?.parse().ok()?), slot: words.next()?.parse().ok()? };
    Some(Handle { topic, at, message, message_id: words.next()?.to_owned() })
}

pub(super) async fn recall(edge: &Messaging, request: Request<v2::RecallMessageRequest>) -> v2::RecallMessageResponse {
    match try_recall(edge, request).await {
        Ok(message_id) => v2::RecallMessageResponse { status: Some(ok()), message_id },
        Err(refused) => v2::RecallMessageResponse { status: Some(refused.status()), message_id: String::new() },
    }
}

async fn try_recall(edge: &Messaging, request: Request<v2::RecallMessageRequest>) -> Result<String, Refused> {
    let caller = edge.caller(&request)?;
    let request = request.into_inner();
    let topic = TopicName::parse(name(request.topic.as_ref())).map_err(|error| bad_topic(&error))?;
    let handle = read(&request.recall_handle).filter(|handle| handle.topic == topic.as_str());
    let handle = handle.ok_or_else(|| {
        Refused::new(Code::BadRequest, format!("the recall handle is invalid: no message of topic '{topic}' has it"))
    })?;
    edge.broker.recall(topic, handle.at, handle.message, caller.deadline()).await?;
    Ok(handle.message_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_where_its_message_waits_and_nothing_else_is_one() {
        let topic = TopicName::parse("t").unwrap();
        let message = MessageRef { index: LogIndex(7), slot: 3 };
        let text = handle(&topic, Timestamp(99), message, "an id");
        let read_back = Handle { topic: "t".into(), at: Timestamp(99), message, message_id: "an id".into() };
        assert_eq!(read(&text), Some(read_back));
        for bad in ["", "?", &text[1..], &text[..text.len() / 2]] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
