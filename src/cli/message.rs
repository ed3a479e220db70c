//! `raftmq message`: get, find, trace, resend, delayed, recall, move.

use crate::documents::messages::{MessageRow, OriginRow};
use crate::model::Timestamp;
use crate::proto::admin::FindMessagesRequest;

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::moment::{coming, past};
use crate::cli::options::{Context, Format};
use crate::cli::render;
use crate::cli::render::{Column, Listing, known, utc};
use crate::cli::trace;
use crate::client::Traced;

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
                           raftmq message find orders --id 01ABCD --from 2h\n  \
                           raftmq message find orders --from 2026-11-28 --to 2026-11-28T12:00:00Z")]
    Find {
        /// The topic
        topic: String,
        /// Message id
        #[arg(long, value_name = "ID", conflicts_with = "key")]
        id: Option<String>,
        /// Search key
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Stored then or later: 2h ago, 2026-11-28, 2026-11-28T10:00:00Z or milliseconds since 1970
        #[arg(long, value_name = "TIME", value_parser = past)]
        from: Option<Timestamp>,
        /// Stored before
        #[arg(long, value_name = "TIME", value_parser = past)]
        to: Option<Timestamp>,
        /// Most messages
        #[arg(long, value_name = "N", default_value_t = 32)]
        limit: u32,
    },
    /// Show where a message is stored, who received it, when, how often, and whether it was acknowledged
    #[command(
        after_long_help = "Examples:\n  raftmq message trace orders 0 17\n  raftmq message trace orders --id 01ABCD --search 60"
    )]
    Trace {
        /// Its topic
        topic: String,
        /// Its queue
        #[arg(required_unless_present = "id", requires = "offset")]
        queue: Option<u32>,
        /// Its offset
        offset: Option<u64>,
        /// Its id instead: also of a message that waits for its delivery time or its transaction
        #[arg(long, value_name = "ID", conflicts_with = "queue")]
        id: Option<String>,
        /// Seconds to look through the log
        #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
        search: u32,
    },
    /// Store a message once more in its topic, under a new id: all groups of the topic get it again
    #[command(
        after_long_help = "It has the body, properties, keys, tag, message group and priority of the first, and is due at once.\n\n\
                           Examples:\n  raftmq message resend orders 0 17\n  raftmq message resend orders 0 17 -o json"
    )]
    Resend {
        /// Its topic
        topic: String,
        /// Its queue
        queue: u32,
        /// Its offset
        offset: u64,
    },
    /// List messages that wait for their delivery time, earliest first
    #[command(
        after_long_help = "Examples:\n  raftmq message delayed reminders\n  raftmq message delayed reminders --limit 5 -o json"
    )]
    Delayed {
        /// Their topic
        topic: String,
        /// Due then or later: in 2h, 2026-11-28, 2026-11-28T10:00:00Z or milliseconds since 1970
        #[arg(long, value_name = "TIME", value_parser = coming)]
        from: Option<Timestamp>,
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
    #[command(after_long_help = "Examples:\n  raftmq message move reminders dGVzdA --to 2h\n  \
                           raftmq message move reminders dGVzdA --to 2026-11-28T10:00:00Z\n  \
                           raftmq message move reminders dGVzdA --to now")]
    Move {
        /// Its topic
        topic: String,
        /// Its recall handle, as `message delayed -o json` shows it
        handle: String,
        /// New delivery time: in 2h, 2026-11-28T10:00:00Z or milliseconds since 1970; one that has passed delivers at once
        #[arg(long, value_name = "TIME", value_parser = coming)]
        to: Timestamp,
    },
}

/// Runs one of the commands.
pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Get { topic, queue, offset } => {
            let message = context.admin.get_message(&topic, queue, offset).await;
            print_rows(context, vec![MessageRow::of(or_failure(context, message, &topic).await?)])
        }
        Command::Find { topic, id, key, from, to, limit } => {
            if let (Some(from), Some(to)) = (from, to)
                && from > to
            {
                let text = format!("--from, {}, is after --to, {}: nothing was stored then", from.utc(), to.utc());
                return Err(Failure::new(Exit::Usage, text));
            }
            let request = FindMessagesRequest {
                topic,
                message_id: id.unwrap_or_default(),
                key: key.unwrap_or_default(),
                from_ms: from.unwrap_or_default().0,
                to_ms: to.unwrap_or_default().0,
                limit,
                ..Default::default()
            };
            find(context, request).await
        }
        Command::Trace { topic, queue, offset, id, search } => {
            let place = Traced::Place { queue: queue.unwrap_or_default(), offset: offset.unwrap_or_default() };
            let message = id.as_deref().map_or(place, Traced::Id);
            let trace = context.admin.trace_message(&topic, message, search).await;
            trace::print(context, or_failure(context, trace, &topic).await?)
        }
        Command::Resend { topic, queue, offset } => {
            let sent = context.admin.resend_message(&topic, queue, offset).await;
            let sent = or_failure(context, sent, &topic).await?;
            let facts = serde_json::json!({
                "topic": topic, "message_id": sent.message_id, "queue": sent.queue, "offset": sent.offset,
            });
            print_fact(context, "resent", &facts, &sent.message_id)
        }
        Command::Delayed { topic, from, limit } => {
            let messages = context.admin.list_delayed(&topic, from.unwrap_or_default().0, limit).await;
            let messages = or_failure(context, messages, &topic).await?;
            print_rows(context, messages.into_iter().map(MessageRow::of).collect())
        }
        Command::Recall { topic, handle } => {
            let recalled = context.admin.recall(&topic, &handle).await;
            let id = or_failure(context, recalled, &topic).await?;
            print_fact(context, "recalled", &serde_json::json!({ "topic": topic, "message_id": id }), &id)
        }
        Command::Move { topic, handle, to } => {
            let moved = context.admin.move_delayed(&topic, &handle, to.0).await;
            let handle = or_failure(context, moved, &topic).await?;
            let facts = serde_json::json!({ "topic": topic, "to_ms": to.0, "recall_handle": handle });
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
        Format::Table | Format::Wide => format!("{what} {shown}\n"),
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

const COLUMNS: [Column; 9] = [
    Column::Number("QUEUE"),
    Column::Number("OFFSET"),
    Column::Text("ID"),
    Column::Text("TAG"),
    Column::Text("KEYS"),
    Column::Text("STORED"),
    Column::Text("DELIVERY"),
    Column::Text("FROM"),
    Column::Text("BODY"),
];
const WIDE: [Column; 15] = [
    Column::Number("QUEUE"),
    Column::Number("OFFSET"),
    Column::Text("ID"),
    Column::Text("TAG"),
    Column::Text("KEYS"),
    Column::Text("STORED"),
    Column::Text("DELIVERY"),
    Column::Text("FROM"),
    Column::Text("TYPE"),
    Column::Text("MADE"),
    Column::Text("BY"),
    Column::Number("BYTES"),
    Column::Text("ENTRY"),
    Column::Text("PROPERTIES"),
    Column::Text("BODY"),
];

/// Messages in the asked-for form.
pub(super) fn print_rows(context: &Context, rows: Vec<MessageRow>) -> Result<Exit, Failure> {
    let (schema, key) = ("raftmq.messages.v1", "messages");
    let listing = match context.global.output {
        Format::Wide => Listing { schema, key, columns: &WIDE, rows, cells: wide_cells },
        Format::Table | Format::Json | Format::Jsonl => Listing { schema, key, columns: &COLUMNS, rows, cells },
    };
    listing.print(context.global.output)?;
    Ok(Exit::Ok)
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn cells(row: &MessageRow) -> Vec<String> {
    let shown: String = row.body.chars().filter(|c| !c.is_control()).take(BODY_SHOWN).collect();
    let origin = row.origin.as_ref().map(|origin| {
        let redriven = if origin.redriven_at_ms.is_some() { ", redriven" } else { "" };
        let OriginRow { topic, queue, offset, attempts, .. } = origin;
        let place = queue.zip(*offset).map(|(queue, offset)| format!(" {queue}/{offset}")).unwrap_or_default();
        format!("{topic}{place} after {attempts}{redriven}")
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
}

/// The same with more before the body.
fn wide_cells(row: &MessageRow) -> Vec<String> {
    let mut cells = cells(row);
    let properties: Vec<String> = row.properties.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let visible = |text: &str| dash(&text.replace(|c: char| c.is_control(), " "));
    let more = [
        row.r#type.clone(),
        utc(Timestamp(row.born_at_ms)),
        visible(&row.born_host),
        row.body_bytes.to_string(),
        format!("{}/{}", row.entry, row.slot),
        visible(&properties.join(" ")),
    ];
    let body = cells.len() - 1;
    cells.splice(body..body, more);
    cells
}
