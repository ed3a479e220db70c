//! Answers of consumers to messages whose producers wait for them (remoting §5.3). An answer is no message: it goes to the
//! producer's connection, or is refused, and nothing is stored.
//!
//! A producer that waits sends heartbeats to every node of its topic's route before, so each node knows it.

use std::borrow::Cow;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Connection, Request};
use crate::edge::remoting::send_marks;
use crate::node::{ClientQuestion, Notice};
use crate::proto::remoting::{Fields, PROPERTIES_BYTES_MAX, RequestCode, ResponseCode, put_property, read_properties};

/// Of a message whose producer waits for an answer, and of the answer: the producer's client id.
const REPLY_TO: &str = "REPLY_TO_CLIENT";
/// Consumers derive the name of the topic for answers from it.
const CLUSTER: &str = "CLUSTER";
/// When the answer went to the producer.
const PUSHED_AT: &str = "PUSH_REPLY_TIME";
/// Consumers wait for three seconds.
const CLIENT_WAIT: Duration = Duration::from_millis(2500);

/// The fields of an answer, in the long form, which the producer is told, and in the short one.
const FIELDS: [(&str, &str); 11] = [
    ("producerGroup", "a"),
    ("topic", "b"),
    ("defaultTopic", "c"),
    ("defaultTopicQueueNums", "d"),
    ("queueId", "e"),
    ("sysFlag", "f"),
    ("bornTimestamp", "g"),
    ("flag", "h"),
    ("properties", "i"),
    ("reconsumeTimes", "j"),
    ("unitMode", "k"),
];

/// The properties of a message as they are stored: one whose producer waits says which cluster it is in.
pub(super) fn marked<'a>(properties: &'a str, cluster: &str) -> Cow<'a, str> {
    let has = |wanted| read_properties(properties).any(|(name, _)| name == wanted);
    if !properties.contains(REPLY_TO) || !has(REPLY_TO) || has(CLUSTER) {
        return Cow::Borrowed(properties);
    }
    let end = if properties.ends_with('\u{2}') { "" } else { "\u{2}" };
    Cow::Owned(format!("{properties}{end}{CLUSTER}\u{1}{cluster}\u{2}"))
}

/// SEND_REPLY_MESSAGE and SEND_REPLY_MESSAGE_V2.
pub(super) async fn reply(connection: &Connection, request: &Request, code: RequestCode) -> Result<Answer, Refused> {
    let remoting = &connection.remoting;
    let (bytes, max) = (request.body.len(), remoting.settings.body_bytes_max);
    if bytes > max {
        let text = format!("the body of {bytes} bytes is larger than {max} (maxMessageSize)");
        return Err(Refused::new(ResponseCode::MessageIllegal, text));
    }
    let asked = &request.header.fields;
    let of_form = |(long, short): (&'static str, &'static str)| {
        let name = if code == RequestCode::SendReplyMessage { long } else { short };
        Some((long, asked.get(name)?))
    };
    let properties = FIELDS.into_iter().filter_map(of_form).find(|(name, _)| *name == "properties");
    let properties = properties.map_or("", |(_, properties)| properties);
    let client_id = read_properties(properties).find(|(name, _)| *name == REPLY_TO).map(|(_, id)| id);
    let Some(client_id) = client_id else {
        let text = format!("an answer has the property {REPLY_TO}, the id of the client that waits for it");
        return Err(Refused::new(ResponseCode::SystemError, text));
    };
    let now = remoting.broker.now().0;
    let mut with_time = properties.to_owned();
    if !with_time.ends_with('\u{2}') {
        with_time.push('\u{2}');
    }
    put_property(&mut with_time, PUSHED_AT, &now.to_string()).map_err(|_| {
        let text =
            format!("the properties of an answer leave no room for its time: {PROPERTIES_BYTES_MAX} bytes at most");
        Refused::new(ResponseCode::MessageIllegal, text)
    })?;
    let mut fields: Vec<_> = FIELDS.into_iter().filter_map(of_form).filter(|(name, _)| *name != "properties").collect();
    let (now, store_host) = (now.to_string(), remoting.store_host.now(remoting.node.routes()).to_string());
    let born_host = connection.peer.to_string();
    fields.extend([("properties", &with_time[..]), ("bornHost", &born_host), ("storeHost", &store_host)]);
    fields.push(("storeTimestamp", &now));
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    push(connection, client_id, fields, request).await?;
    let mut fields = Fields::default();
    for (name, value) in [("msgId", 0), ("queueId", 0), ("queueOffset", 0)] {
        fields.put(name, value);
    }
    send_marks::put(&mut fields, &remoting.settings);
    Ok(Answer::with(fields))
}

/// Gives the answer to the client that waits, and waits until it has it.
async fn push(
    connection: &Connection,
    client_id: &str,
    fields: Vec<(String, String)>,
    request: &Request,
) -> Result<(), Refused> {
    let failed = |text: String| Refused::new(ResponseCode::SystemError, text);
    let (answer, answered) = oneshot::channel();
    let code = RequestCode::PushReplyMessageToClient as i32;
    let question = ClientQuestion { code, fields, body: request.body.clone(), answer };
    let producers = connection.remoting.node.heartbeat_producers();
    if !producers.tell(client_id, Notice::Question(question)) {
        return Err(failed(format!(
            "client '{client_id}', which waits for this answer, is not connected to this node"
        )));
    }
    match tokio::time::timeout(CLIENT_WAIT, answered).await {
        Ok(Ok(answer)) if answer.code == ResponseCode::Success as i32 => Ok(()),
        Ok(Ok(answer)) => {
            let why = answer.remark.unwrap_or_default();
            Err(failed(format!("client '{client_id}' did not take this answer: {} {why}", answer.code)))
        }
        Ok(Err(_)) | Err(_) => Err(failed(format!("client '{client_id}' did not take this answer in {CLIENT_WAIT:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_message_whose_producer_waits_says_its_cluster() {
        let waits = "a\u{1}b\u{2}REPLY_TO_CLIENT\u{1}c@1";
        let marked_with = |end: &str| format!("{waits}{end}CLUSTER\u{1}C\u{2}");
        assert_eq!(marked(waits, "C"), marked_with("\u{2}"));
        assert_eq!(marked(&format!("{waits}\u{2}"), "C"), marked_with("\u{2}"));
        for same in ["", "a\u{1}b\u{2}", "a\u{1}REPLY_TO_CLIENT\u{2}", &marked_with("\u{2}")] {
            assert_eq!(marked(same, "D"), same);
        }
    }
}
