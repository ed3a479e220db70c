//! `raftmq message`: get, find, trace, delayed, recall, move.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::Timestamp;
use crate::proto::admin::{FindMessagesRequest, StoredMessage, TraceEvent, TraceMessageResponse, TracedGroup};

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, Format};
use crate::cli::render;
use crate::cli::render::{Column, Listing, known, utc};

/// Characters of a body that a table shows.
const BODY_SHOWN: usize = 40;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show one message by its place
    #[command(
        after_long_help = "Examples:\n  raftmq message get orders 0 17\n  raftmq message get orders 0 17 -o json"
    )]
    Get {
        /// Its topic
        topic: String,
        /// Its queue
        queue: u32,
        /// Its offset
        offset: u64,
    },
    /// Look through a topic for messages by id, key or time of storage; without any of them it lists all
    #[command(after_long_help = "Examples:\n  raftmq message find orders --key order-17\n  \
                           raftmq message find orders --id 01ABCD --from 1764028800000")]
    Find {
        /// The topic
        topic: String,
        /// Message id
        #[arg(long, value_name = "ID", conflicts_with = "key")]
        id: Option<String>,
        /// Search key
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Stored then or later, in milliseconds since 1970
        #[arg(long, value_name = "MS", default_value_t = 0)]
        from: u64,
        /// Stored before, in milliseconds since 1970
        #[arg(long, value_name = "MS", default_value_t = 0, hide_default_value = true)]
        to: u64,
        /// Most messages
        #[arg(long, value_name = "N", default_value_t = 32)]
        limit: u32,
    },
    /// Show who received a message, when, how often, and whether it was acknowledged
    #[command(
        after_long_help = "Examples:\n  raftmq message trace orders 0 17\n  raftmq message trace orders 0 17 --search 60"
    )]
    Trace {
        /// Its topic
        topic: String,
        /// Its queue
        queue: u32,
        /// Its offset
        offset: u64,
        /// Seconds to look through the log
        #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
        search: u32,
    },
    /// List messages that wait for their delivery time, earliest first
    #[command(
        after_long_help = "Examples:\n  raftmq message delayed reminders\n  raftmq message delayed reminders --limit 5 -o json"
    )]
    Delayed {
        /// Their topic
        topic: String,
        /// Due then or later, in milliseconds since 1970
        #[arg(long, value_name = "MS", default_value_t = 0)]
        from: u64,
        /// Most messages
        #[arg(long, value_name = "N", default_value_t = 32)]
        limit: u32,
    },
    /// Take back a message that waits for its delivery time
    #[command(
        after_long_help = "Examples:\n  raftmq message recall reminders dGVzdA\n  raftmq message recall reminders dGVzdA -o json"
    )]
    Recall {
        /// Its topic
        topic: String,
        /// Its recall handle, as `message delayed -o json` shows it
        handle: String,
    },
    /// Give a message that waits another delivery time; its old recall handle does nothing any more
    #[command(after_long_help = "Examples:\n  raftmq message move reminders dGVzdA --to 1764028800000\n  \
                           raftmq message move reminders dGVzdA --to 0")]
    Move {
        /// Its topic
        topic: String,
        /// Its recall handle, as `message delayed -o json` shows it
        handle: String,
        /// New delivery time in milliseconds since 1970; one that has passed delivers at once
        #[arg(long, value_name = "MS")]
        to: u64,
    },
}

/// A message as it is printed. Keys of the JSON.
#[derive(Debug, Serialize)]
pub struct MessageRow {
    topic: String,
    queue: Option<u32>,
    offset: Option<u64>,
    message_id: String,
    r#type: String,
    tag: String,
    keys: Vec<String>,
    properties: BTreeMap<String, String>,
    message_group: String,
    born_host: String,
    born_at_ms: u64,
    stored_at_ms: u64,
    delivery_at_ms: Option<u64>,
    priority: Option<u32>,
    body_bytes: usize,
    /// With marks in place of what is not UTF-8.
    body: String,
    entry: u64,
    slot: u32,
    recall_handle: Option<String>,
    origin: Option<OriginRow>,
}

/// Where a dead letter was. Keys of the JSON.
#[derive(Debug, Serialize)]
struct OriginRow {
    topic: String,
    queue: u32,
    offset: u64,
    attempts: u32,
    redriven_at_ms: Option<u64>,
}

impl MessageRow {
    pub(super) fn of(message: StoredMessage) -> Self {
        let origin = message.origin.map(|origin| OriginRow {
            topic: origin.topic,
            queue: origin.queue,
            offset: origin.offset,
            attempts: origin.attempts,
            redriven_at_ms: origin.redriven_at_ms,
        });
        Self {
            topic: message.topic,
            queue: message.queue,
            offset: message.offset,
            message_id: message.message_id,
            r#type: message.r#type,
            tag: message.tag,
            keys: message.keys,
            properties: message.properties.into_iter().collect(),
            message_group: message.message_group,
            born_host: message.born_host,
            born_at_ms: message.born_at_ms,
            stored_at_ms: message.stored_at_ms,
            delivery_at_ms: message.delivery_at_ms,
            priority: message.priority,
            body_bytes: message.body.len(),
            body: String::from_utf8_lossy(&message.body).into_owned(),
            entry: message.entry,
            slot: message.slot,
            recall_handle: Some(message.recall_handle).filter(|handle| !handle.is_empty()),
            origin,
        }
    }
}

/// What happened to a message in a group. Keys of the JSON.
#[derive(Debug, Serialize)]
struct TraceRow {
    group: String,
    state: String,
    at_ms: Option<u64>,
    what: String,
    client: String,
    entry: Option<u64>,
}

/// Runs one of the commands.
pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Get { topic, queue, offset } => {
            let message = context.admin.get_message(&topic, queue, offset).await;
            print_rows(context, vec![MessageRow::of(or_failure(context, message, &topic).await?)])
        }
        Command::Find { topic, id, key, from, to, limit } => {
            let request = FindMessagesRequest {
                topic,
                message_id: id.unwrap_or_default(),
                key: key.unwrap_or_default(),
                from_ms: from,
                to_ms: to,
                limit,
                ..Default::default()
            };
            find(context, request).await
        }
        Command::Trace { topic, queue, offset, search } => {
            let trace = context.admin.trace_message(&topic, queue, offset, search).await;
            print_trace(context, or_failure(context, trace, &topic).await?)
        }
        Command::Delayed { topic, from, limit } => {
            let messages = context.admin.list_delayed(&topic, from, limit).await;
            let messages = or_failure(context, messages, &topic).await?;
            print_rows(context, messages.into_iter().map(MessageRow::of).collect())
        }
        Command::Recall { topic, handle } => {
            let recalled = context.admin.recall(&topic, &handle).await;
            let id = or_failure(context, recalled, &topic).await?;
            print_fact(context, "recalled", &serde_json::json!({ "topic": topic, "message_id": id }), &id)
        }
        Command::Move { topic, handle, to } => {
            let moved = context.admin.move_delayed(&topic, &handle, to).await;
            let handle = or_failure(context, moved, &topic).await?;
            let facts = serde_json::json!({ "topic": topic, "to_ms": to, "recall_handle": handle });
            print_fact(context, "moved", &facts, &handle)
        }
    }
}

async fn or_failure<T>(context: &Context, answer: Result<T, crate::client::Error>, topic: &str) -> Result<T, Failure> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(error) => Err(context.failure(&error, Subject::Topic(topic)).await),
    }
}

fn print_fact(context: &Context, what: &str, facts: &serde_json::Value, shown: &str) -> Result<Exit, Failure> {
    let text = match context.global.output {
        Format::Table => format!("{what} {shown}\n"),
        Format::Json => {
            render::document(&serde_json::json!({ "schema": format!("raftmq.message.{what}.v1"), "message": facts }))?
        }
        Format::Jsonl => render::line(facts)?,
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}

async fn find(context: &Context, mut request: FindMessagesRequest) -> Result<Exit, Failure> {
    let topic = request.topic.clone();
    let (mut rows, mut searched, wanted) = (Vec::new(), 0, request.limit);
    loop {
        let answer = context.admin.find_messages(request.clone()).await;
        let answer = or_failure(context, answer, &topic).await?;
        searched += answer.searched;
        rows.extend(answer.messages.into_iter().map(MessageRow::of));
        let left = wanted.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        if answer.cursor.is_empty() || left == 0 {
            context.say(&format!("searched {searched} messages"));
            return print_rows(context, rows);
        }
        request.cursor = answer.cursor;
        request.limit = left;
    }
}

/// Messages in the asked-for form.
pub(super) fn print_rows(context: &Context, rows: Vec<MessageRow>) -> Result<Exit, Failure> {
    Listing {
        schema: "raftmq.messages.v1",
        key: "messages",
        columns: &[
            Column::Number("QUEUE"),
            Column::Number("OFFSET"),
            Column::Text("ID"),
            Column::Text("TAG"),
            Column::Text("KEYS"),
            Column::Text("STORED"),
            Column::Text("DELIVERY"),
            Column::Text("FROM"),
            Column::Text("BODY"),
        ],
        rows,
        cells: |row: &MessageRow| {
            let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            let shown: String = row.body.chars().filter(|c| !c.is_control()).take(BODY_SHOWN).collect();
            let origin = row.origin.as_ref().map(|origin| {
                let redriven = if origin.redriven_at_ms.is_some() { ", redriven" } else { "" };
                let OriginRow { topic, queue, offset, attempts, .. } = origin;
                format!("{topic} {queue}/{offset} after {attempts}{redriven}")
            });
            vec![
                known(row.queue),
                known(row.offset),
                row.message_id.clone(),
                dash(&row.tag),
                dash(&row.keys.join(" ")),
                utc(Timestamp(row.stored_at_ms)),
                known(row.delivery_at_ms.map(|at| utc(Timestamp(at)))),
                known(origin),
                shown,
            ]
        },
    }
    .print(context.global.output)?;
    Ok(Exit::Ok)
}

fn print_trace(context: &Context, trace: TraceMessageResponse) -> Result<Exit, Failure> {
    if trace.searched_to < trace.log_end {
        let TraceMessageResponse { searched_to, log_end, .. } = trace;
        context.say(&format!("looked through the log to entry {searched_to} of {log_end}; give it more with --search"));
    }
    Listing {
        schema: "raftmq.trace.v1",
        key: "events",
        columns: &[
            Column::Text("GROUP"),
            Column::Text("STATE"),
            Column::Text("AT"),
            Column::Text("WHAT"),
            Column::Text("CLIENT"),
            Column::Number("ENTRY"),
        ],
        rows: trace.groups.into_iter().flat_map(trace_rows).collect(),
        cells: |row: &TraceRow| {
            vec![
                row.group.clone(),
                row.state.clone(),
                known(row.at_ms.map(|at| utc(Timestamp(at)))),
                row.what.clone(),
                row.client.clone(),
                known(row.entry),
            ]
        },
    }
    .print(context.global.output)?;
    Ok(Exit::Ok)
}

/// One row for each event; one for a group in which nothing happened.
fn trace_rows(of: TracedGroup) -> Vec<TraceRow> {
    let TracedGroup { group, state, events } = of;
    let row = |event: Option<TraceEvent>| {
        let (at_ms, entry) = (event.as_ref().map(|event| event.at_ms), event.as_ref().map(|event| event.entry));
        let (what, client) = event.map(|event| (event.what, event.client)).unwrap_or_default();
        let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        TraceRow { group: group.clone(), state: state.clone(), at_ms, what: dash(what), client: dash(client), entry }
    };
    if events.is_empty() { vec![row(None)] } else { events.into_iter().map(|event| row(Some(event))).collect() }
}
