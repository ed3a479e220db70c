//! `raftmq consume`: receives messages, prints them, then acknowledges them.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tokio::time::Instant;

use crate::client::{Consumer, Error, FilterText, Received};
use crate::model::{Timestamp, limits};

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, Format, duration};
use crate::cli::render;
use crate::cli::render::{grouped, utc};

/// A poll with an end in sight, and one that waits for whatever comes. The server takes 5 to 20 s.
const WAIT_WITH_MAX: Duration = Duration::from_secs(5);
const WAIT_WITHOUT_MAX: Duration = Duration::from_secs(15);
/// How long a cluster may be out of reach before the command gives up.
const PATIENCE_MIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);
/// Without a bound a JSON document would be held in memory for ever.
const DOCUMENT_MESSAGES_MAX: u64 = 100_000;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
With --max the command ends when so many messages are acknowledged, or when none came during one poll.
Without it, it waits; ctrl-c finishes the batch at hand.

Examples:
  raftmq consume demo --group demo-cg --max 1000
  raftmq consume demo --group demo-cg --filter 'TagA||TagB' -o jsonl
  raftmq consume orders --group eu-cg --sql \"region = 'eu' AND amount > 100\"")]
pub struct Args {
    /// Topic to receive from
    topic: String,
    /// Consumer group; made at first use
    #[arg(short, long)]
    group: String,
    /// End after this many messages, or when no more come
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Tags wanted: 'a||b', or '*' for all
    #[arg(long, value_name = "EXPR", default_value = "*")]
    filter: String,
    /// SQL92 expression over the properties of a message (and TAGS) instead
    #[arg(long, value_name = "EXPR", conflicts_with = "filter")]
    sql: Option<String>,
    /// Length of one poll, 5s to 20s [default: 5s with --max, 15s without]
    #[arg(long, value_name = "DUR", value_parser = duration)]
    wait: Option<Duration>,
    /// How long an unacknowledged message stays with this consumer, 10s to 12h
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration)]
    invisible: Duration,
    /// Do not acknowledge: the messages come back
    #[arg(long)]
    no_ack: bool,
}

/// A message as it is printed. Keys of the JSON.
#[derive(Debug, Serialize)]
struct MessageRow {
    topic: String,
    queue: u32,
    offset: u64,
    id: String,
    tag: Option<String>,
    keys: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, String>,
    attempt: u32,
    r#type: String,
    /// Where a message of this kind has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_at_ms: Option<u64>,
    /// Of a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    died_in: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_before: Option<String>,
    born_host: String,
    born_at_ms: u64,
    /// The node that gave it out.
    broker: String,
    stored_at_ms: u64,
    body_bytes: usize,
    is_gzip: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// In place of `body` when that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// What has happened so far.
#[derive(Default)]
struct Tally {
    received: u64,
    acked: u64,
    /// The first failed acknowledgement.
    failure: Option<Error>,
    /// Rows of a JSON document, which is printed at the end.
    rows: Vec<MessageRow>,
}

enum End {
    Enough,
    NoMore,
    Interrupted,
    Failed(Error),
}

/// Receives until the end, then says how much was acknowledged.
pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    if context.global.output == Format::Json && args.max.is_none_or(|max| max > DOCUMENT_MESSAGES_MAX) {
        return Err(Failure::new(Exit::Usage, format!("-o json needs --max of at most {DOCUMENT_MESSAGES_MAX}"))
            .remedy("endless:", "-o jsonl"));
    }
    let wanted = args.sql.clone().map_or_else(|| FilterText::Tags(args.filter.clone()), FilterText::Sql);
    let consumer = Consumer::new(context.connection.clone(), &args.group, &args.topic, &wanted);
    let mut tally = Tally::default();
    let end = receive_all(context, &args, &consumer, &mut tally).await?;
    if let Err(error) = consumer.close().await {
        tracing::info!(%error, "the cluster was not told of the end");
    }
    // That there is nothing is not known, if the first poll failed.
    if tally.received > 0 || !matches!(end, End::Failed(_)) {
        tally.report(context, &args)?;
    }
    let subject = Subject::TopicAndGroup(&args.topic, &args.group);
    match end {
        End::Failed(error) => Err(context.failure(&error, subject).await),
        End::Interrupted => Ok(Exit::Interrupted),
        End::Enough | End::NoMore => match &tally.failure {
            Some(error) => {
                let mut failure = context.failure(error, subject).await;
                if tally.acked > 0 {
                    failure.exit = Exit::Partly;
                }
                Err(failure)
            }
            None => Ok(Exit::Ok),
        },
    }
}

async fn receive_all(context: &Context, args: &Args, consumer: &Consumer, tally: &mut Tally) -> Result<End, Failure> {
    let wait = args.wait.unwrap_or(if args.max.is_some() { WAIT_WITH_MAX } else { WAIT_WITHOUT_MAX });
    let patience = context.connection.timeout().max(PATIENCE_MIN);
    let mut answered_at = Instant::now();
    // One future for the whole run: a ctrl-c between two polls must not be missed.
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    if context.global.output.is_table() && !context.global.quiet {
        render::print(&heading())?;
    }
    loop {
        let left = args.max.map_or(u64::MAX, |max| max.saturating_sub(tally.received));
        if left == 0 {
            return Ok(End::Enough);
        }
        let batch = u32::try_from(left).unwrap_or(u32::MAX).min(limits::RECEIVE_BATCH_MAX);
        // Messages leased by a poll that is dropped here come back when their lease ends.
        let answer = tokio::select! {
            biased;
            _ = &mut interrupt => return Ok(End::Interrupted),
            answer = consumer.receive(batch, args.invisible, wait) => answer,
        };
        match answer {
            Ok(messages) if messages.is_empty() && args.max.is_some() => return Ok(End::NoMore),
            Ok(messages) => {
                answered_at = Instant::now();
                tally.take(context, args, consumer, messages).await?;
            }
            Err(error) if error.is_retryable() && answered_at.elapsed() < patience => {
                tracing::info!(%error, "receiving again");
                context.connection.prefer_next();
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Ok(End::Failed(error)),
        }
    }
}

impl Tally {
    /// Prints first and acknowledges then: what a reader did not get comes back.
    async fn take(
        &mut self,
        context: &Context,
        args: &Args,
        consumer: &Consumer,
        messages: Vec<Received>,
    ) -> Result<(), Failure> {
        self.received += messages.len() as u64;
        let rows = messages.iter().map(row);
        match context.global.output {
            Format::Table => render::print(&rows.map(|row| line(&row)).collect::<String>())?,
            Format::Wide => render::print(&rows.map(|row| line(&row) + &more(&row)).collect::<String>())?,
            Format::Jsonl => render::print(&rows.map(|row| render::line(&row)).collect::<Result<String, _>>()?)?,
            Format::Json => self.rows.extend(rows),
        }
        if args.no_ack {
            return Ok(());
        }
        for result in consumer.ack(&messages, context.connection.timeout()).await {
            match result {
                Ok(()) => self.acked += 1,
                Err(error) => {
                    self.failure.get_or_insert(error);
                }
            }
        }
        Ok(())
    }

    fn report(&self, context: &Context, args: &Args) -> std::io::Result<()> {
        if context.global.output == Format::Json {
            render::print(&render::document(&serde_json::json!({
                "schema": "raftmq.messages.v1",
                "messages": self.rows,
                "received": self.received,
                "acked": self.acked,
            }))?)?;
        }
        context.say(&match (self.received, args.no_ack) {
            (0, _) => "no messages".to_owned(),
            (received, true) => format!("received {}, acknowledged none: they come back", grouped(received)),
            (received, false) => format!("acked {} of {}", self.acked, received),
        });
        Ok(())
    }
}

fn row(message: &Received) -> MessageRow {
    let text = std::str::from_utf8(&message.body).ok();
    MessageRow {
        topic: message.topic.clone(),
        queue: message.queue,
        offset: message.queue_offset,
        id: message.message_id.clone(),
        tag: message.tag.clone(),
        keys: message.keys.clone(),
        properties: message.properties.clone(),
        attempt: message.attempt,
        r#type: message.kind.clone(),
        message_group: message.message_group.clone(),
        priority: message.priority,
        delivery_at_ms: message.delivery_at.map(|at| at.0),
        died_in: message.died_in.as_ref().map(|(topic, _)| topic.clone()),
        id_before: message.died_in.as_ref().map(|(_, id)| id.clone()),
        born_host: message.born_host.clone(),
        born_at_ms: message.born_at.0,
        broker: message.store_host.clone(),
        stored_at_ms: message.stored_at.0,
        body_bytes: message.body.len(),
        is_gzip: message.is_gzip,
        body: text.map(ToOwned::to_owned),
        body_base64: text.is_none().then(|| STANDARD.encode(&message.body)),
    }
}

fn columns(queue: &str, offset: &str, id: &str, tag: &str, keys: &str, attempt: &str, body: &str) -> String {
    format!("{queue:>5}  {offset:>8}  {id:<34}  {tag:<8}  {keys:<12}  {attempt:>7}  {body}\n")
}

fn heading() -> String {
    columns("QUEUE", "OFFSET", "ID", "TAG", "KEYS", "ATTEMPT", "BODY")
}

/// A row of the table; rows come one by one, so the columns have fixed widths.
fn line(row: &MessageRow) -> String {
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let body = row.body.as_deref().or(row.body_base64.as_deref()).unwrap_or_default();
    columns(
        &row.queue.to_string(),
        &row.offset.to_string(),
        &row.id,
        &dash(visible(row.tag.as_deref().unwrap_or_default())),
        &dash(visible(&row.keys.join(","))),
        &row.attempt.to_string(),
        &visible(body),
    )
}

/// What else there is to a message, below its row.
fn more(row: &MessageRow) -> String {
    let times = format!("stored {} at {}", utc(Timestamp(row.stored_at_ms)), row.broker);
    let mut parts = vec![times, format!("made {} at {}", utc(Timestamp(row.born_at_ms)), visible(&row.born_host))];
    parts.push(format!("{} bytes{}", row.body_bytes, if row.is_gzip { ", gzip" } else { "" }));
    parts.push(row.r#type.clone());
    parts.extend(row.message_group.as_ref().map(|group| format!("message group {}", visible(group))));
    parts.extend(row.priority.map(|priority| format!("priority {priority}")));
    parts.extend(row.delivery_at_ms.map(|at| format!("due {}", utc(Timestamp(at)))));
    parts.extend(row.died_in.as_ref().map(|topic| format!("dead letter of {topic}")));
    parts.extend(row.properties.iter().map(|(key, value)| format!("{}={}", visible(key), visible(value))));
    format!("       {}\n", parts.join("  "))
}

/// Control letters as escapes: one message is one line, and none steers the terminal.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &'static [u8]) -> Received {
        Received {
            topic: "demo".into(),
            queue: 3,
            queue_offset: 0,
            message_id: "01A2".into(),
            tag: Some("TagA".into()),
            keys: vec!["k-0".into()],
            properties: Default::default(),
            attempt: 1,
            born_at: Timestamp(0),
            born_host: "made-here".into(),
            stored_at: Timestamp(1000),
            store_host: "10.0.0.1:8081".into(),
            delivery_at: None,
            kind: "NORMAL".into(),
            message_group: None,
            priority: None,
            died_in: None,
            is_gzip: false,
            body: bytes::Bytes::from_static(body),
            handle: "secret".into(),
        }
    }

    #[test]
    fn a_json_line_has_the_documented_keys_in_order() {
        assert_eq!(
            render::line(&row(&message(b"hi"))).unwrap(),
            "{\"topic\":\"demo\",\"queue\":3,\"offset\":0,\"id\":\"01A2\",\"tag\":\"TagA\",\"keys\":[\"k-0\"],\
             \"attempt\":1,\"type\":\"NORMAL\",\"born_host\":\"made-here\",\"born_at_ms\":0,\"broker\":\"10.0.0.1:8081\",\
             \"stored_at_ms\":1000,\"body_bytes\":2,\"is_gzip\":false,\"body\":\"hi\"}\n"
        );
        let wide = more(&row(&Received { message_group: Some("a\nb".into()), priority: Some(3), ..message(b"hi") }));
        assert_eq!(
            wide,
            "       stored 1970-01-01 00:00:01 at 10.0.0.1:8081  made 1970-01-01 00:00:00 at made-here  2 bytes  NORMAL  \
             message group a\\nb  priority 3\n"
        );
    }

    #[test]
    fn a_body_that_is_not_text_is_base64() {
        let line = render::line(&row(&message(b"\xFF\xFE"))).unwrap();
        assert!(line.ends_with("\"body_base64\":\"//4=\"}\n"), "{line}");
        assert!(!line.contains("\"body\""));
    }

    #[test]
    fn a_table_line_stays_one_line_and_steers_no_terminal() {
        let text = line(&row(&message(b"a\nb\x1B[2J")));
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.ends_with("a\\nb\\u{1b}[2J\n"), "{text}");
        assert_eq!(heading().find("ATTEMPT").map(|at| at + 7), text.find("1  a").map(|at| at + 1));
    }
}
