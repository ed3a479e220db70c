//! Messages: resend; those that wait, and dead letters: recall, move, redrive.

use serde_json::{Value, json};
use tonic::Request;

use crate::broker::Deadline;
use crate::edge::admin::refuse;
use crate::edge::http::dashboard::actions::command_line::CommandLine;
use crate::edge::http::dashboard::actions::done::Done;
use crate::edge::http::dashboard::actions::given::Given;
use crate::edge::http::dashboard::refused::Refused;
use crate::edge::http::dashboard::site::Site;
use crate::edge::recall_handle::RecallHandle;
use crate::model::TopicName;
use crate::proto::admin as wire;
use crate::proto::admin::admin_server::Admin;

/// Dead letters that one action delivers again at most, and those that one request of it does.
const REDRIVEN_MAX: usize = 10_000;
const BATCH: usize = 256;

pub(super) async fn redrive(site: &Site, given: &Given) -> Result<Done, Refused> {
    let group = given.text("group")?;
    let command = CommandLine::of(site, &["group", "dlq", "redrive", group]);
    let (offsets, command) = if given.flag("all") {
        (not_redriven(site, group).await?, command.word("--all"))
    } else {
        let offsets = given.numbers("offsets")?;
        let command = offsets.iter().fold(command, |line, offset| line.option("--offset", Some(offset)));
        (offsets, command)
    };
    if offsets.is_empty() {
        return Err(Refused::request("there is no dead letter to be delivered again"));
    }
    if offsets.len() > REDRIVEN_MAX {
        let text = format!("{} dead letters at once are more than {REDRIVEN_MAX}; use the command", offsets.len());
        return Err(Refused::request(text));
    }
    let facts = vec![("group", json!(group)), ("dead_letters", json!(offsets.len()))];
    let mut document = Value::Null;
    if !given.is_trial() {
        let (mut redriven, mut left) = (0, Vec::new());
        for batch in offsets.chunks(BATCH) {
            let request = wire::RedriveRequest { group: group.to_owned(), offsets: batch.to_vec() };
            let answers = site.admin.redrive(given.request(request)).await?.into_inner().redriven;
            redriven += answers.iter().filter(|is| **is).count();
            left.extend(batch.iter().zip(answers).filter(|(_, is)| !is).map(|(offset, _)| *offset));
        }
        let facts = json!({ "group": group, "redriven": redriven, "left": left });
        document = json!({ "schema": "raftmq.redriven.v1", "redriven": facts });
    }
    Ok(Done { command, facts, document })
}

/// Offsets of the dead letters that were not delivered again; one more than is allowed at most.
async fn not_redriven(site: &Site, group: &str) -> Result<Vec<u64>, Refused> {
    let (mut offsets, mut from) = (Vec::new(), 0);
    loop {
        let limit = u32::try_from(BATCH).unwrap_or(u32::MAX);
        let request = wire::ListDeadLettersRequest { group: group.to_owned(), from_offset: from, limit };
        let page = site.admin.list_dead_letters(Request::new(request)).await?.into_inner();
        let is_left = |message: &&wire::StoredMessage| {
            message.origin.as_ref().is_some_and(|origin| origin.redriven_at_ms.is_none())
        };
        offsets.extend(page.messages.iter().filter(is_left).filter_map(|message| message.offset));
        if page.next_offset >= page.end_offset || offsets.len() > REDRIVEN_MAX {
            return Ok(offsets);
        }
        from = page.next_offset;
    }
}

pub(super) async fn resend(site: &Site, given: &Given) -> Result<Done, Refused> {
    let topic = given.text("topic")?;
    let queue = given.small_if_any("queue")?.ok_or_else(|| Refused::request("'queue' is missing"))?;
    let offset = given.number("offset")?;
    let command = CommandLine::of(site, &["message", "resend", topic, &queue.to_string(), &offset.to_string()]);
    let request = wire::GetMessageRequest { topic: topic.to_owned(), queue, offset };
    let message = site.admin.get_message(Request::new(request)).await?.into_inner().message.unwrap_or_default();
    let groups = site.admin.describe_topic(Request::new(wire::DescribeTopicRequest { name: topic.to_owned() })).await?;
    let mut groups: Vec<String> = groups.into_inner().positions.into_iter().map(|position| position.group).collect();
    groups.sort();
    groups.dedup();
    let facts = vec![
        ("topic", json!(topic)),
        ("message_id", json!(message.message_id)),
        ("tag", json!(Some(message.tag).filter(|tag| !tag.is_empty()))),
        ("keys", json!(message.keys)),
        ("bytes", json!(message.body.len())),
        ("reaches", json!(groups)),
    ];
    let mut document = Value::Null;
    if !given.is_trial() {
        let request = wire::ResendMessageRequest { topic: topic.to_owned(), queue, offset };
        let sent = site.admin.resend_message(given.request(request)).await?.into_inner();
        let message =
            json!({ "topic": topic, "message_id": sent.message_id, "queue": sent.queue, "offset": sent.offset });
        document = json!({ "schema": "raftmq.message.resent.v1", "message": message });
    }
    Ok(Done { command, facts, document })
}

pub(super) async fn recall(site: &Site, given: &Given) -> Result<Done, Refused> {
    let (topic, handle) = (given.text("topic")?, given.text("handle")?);
    let command = CommandLine::of(site, &["message", "recall", topic, handle]);
    let waits = handle_of(site, topic, handle).await?;
    let facts = facts_of(topic, &waits);
    let mut document = Value::Null;
    if !given.is_trial() {
        let request = wire::RecallDelayedRequest { topic: topic.to_owned(), recall_handle: handle.to_owned() };
        let recalled = site.admin.recall_delayed(given.request(request)).await?.into_inner();
        let message = json!({ "topic": topic, "message_id": recalled.message_id });
        document = json!({ "schema": "raftmq.message.recalled.v1", "message": message });
    }
    Ok(Done { command, facts, document })
}

pub(super) async fn move_delayed(site: &Site, given: &Given) -> Result<Done, Refused> {
    let (topic, handle, to_ms) = (given.text("topic")?, given.text("handle")?, given.number("to_ms")?);
    let command = CommandLine::of(site, &["message", "move", topic, handle]).option("--to", Some(to_ms));
    let waits = handle_of(site, topic, handle).await?;
    let mut facts = facts_of(topic, &waits);
    facts.push(("to_ms", json!(to_ms)));
    let mut document = Value::Null;
    if !given.is_trial() {
        let request = wire::MoveDelayedRequest { topic: topic.to_owned(), recall_handle: handle.to_owned(), to_ms };
        let moved = site.admin.move_delayed(given.request(request)).await?.into_inner();
        let message = json!({ "topic": topic, "to_ms": to_ms, "recall_handle": moved.recall_handle });
        document = json!({ "schema": "raftmq.message.moved.v1", "message": message });
    }
    Ok(Done { command, facts, document })
}

async fn handle_of(site: &Site, topic: &str, handle: &str) -> Result<RecallHandle, Refused> {
    let name = TopicName::parse(topic).map_err(|error| Refused::request(error.to_string()))?;
    let key = site.node.broker().handle_key(Deadline::NONE).await.map_err(refuse)?;
    RecallHandle::parse(&name, handle, &key).map_err(Refused::request)
}

fn facts_of(topic: &str, waits: &RecallHandle) -> Vec<(&'static str, Value)> {
    vec![
        ("topic", json!(topic)),
        ("message_id", json!(waits.message_id)),
        ("delivery_at_ms", json!(waits.delivery_at.0)),
    ]
}
