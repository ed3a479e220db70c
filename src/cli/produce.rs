//! `raftmq produce`: sends messages from arguments, a count or stdin, several batches at a time.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::{EntryReceipt, Error, Kind, Outgoing, Producer, SendReceipt};
use crate::model::limits;

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, Format, byte_count, duration};
use crate::cli::render;
use crate::cli::render::grouped;

const SIZE_DEFAULT: usize = 100;
const BATCH_DEFAULT: u32 = 32;
/// Batches under way at once: enough to keep a round of replication busy, few enough to bound memory.
const IN_FLIGHT_MAX: usize = 4;
/// A batch is closed early once it is this large.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
const LINES_WAITING_MAX: usize = 1024;

// clap reads `{n}` in help as a line feed; an escape sequence inside, which a terminal swallows and clap strips
// elsewhere, keeps it as it is.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Without BODY and --count each line of stdin is one message.
{\u{1b}[0mn} in a body or key stands for the message's number, from 0.

Examples:
  raftmq produce demo 'hello' 'world'
  raftmq produce demo --count 1000 --size 200 --tag TagA --key 'k-{\u{1b}[0mn}'
  raftmq produce reminders 'time is up' --delay 10m
  raftmq produce orders 'paid' 'sent' --message-group order-17 --property region=eu")]
pub struct Args {
    /// Topic to send to
    topic: String,
    /// Bodies, one message each; with --count the one that is repeated
    body: Vec<String>,
    /// Send this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Size of made-up bodies [default: 100]
    #[arg(long, value_name = "BYTES", value_parser = byte_count, conflicts_with = "body", requires = "count")]
    size: Option<usize>,
    /// Tag for filters
    #[arg(long)]
    tag: Option<String>,
    #[arg(long, help = "Search key; {\u{1b}[0mn} is the message's number")]
    key: Option<String>,
    /// User property, for SQL filters; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = property)]
    property: Vec<(String, String)>,
    /// Deliver so long after sending; needs a topic of type DELAY or MIXED
    #[arg(long, value_name = "DUR", value_parser = duration, group = "kind")]
    delay: Option<Duration>,
    /// Deliver in order within this message group; needs a topic of type FIFO or MIXED
    #[arg(long, value_name = "NAME", group = "kind")]
    message_group: Option<String>,
    /// Deliver higher priorities first; needs a topic of type PRIORITY
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(i32::MAX)), group = "kind")]
    priority: Option<u32>,
    /// Messages in one request
    #[arg(long, value_name = "B", default_value_t = BATCH_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=limits::SEND_MESSAGES_MAX as i64))]
    batch: u32,
    /// At most this many messages a second
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

impl Args {
    fn kind(&self) -> Kind {
        match (self.delay, &self.message_group, self.priority) {
            (Some(delay), _, _) => Kind::Delay(delay),
            (_, Some(group), _) => Kind::Fifo(group.clone()),
            (_, _, Some(priority)) => Kind::Priority(priority),
            (None, None, None) => Kind::Normal,
        }
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Where bodies come from.
enum Source {
    Given(std::vec::IntoIter<String>),
    Repeated { body: Body, next: u64, count: u64 },
    Lines(mpsc::Receiver<std::io::Result<String>>),
}

enum Body {
    Template(String),
    MadeUp(usize),
}

const SYNCED: &str = "synced_on_majority";

/// How long requests took: microseconds, rounded to two digits, and how many messages each.
#[derive(Debug, Default)]
struct Latencies(BTreeMap<u64, u64>);

/// What has happened so far.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    failed: u64,
    bytes: u64,
    latencies: Latencies,
    first_id: Option<String>,
    last_id: Option<String>,
    /// Of the last entry.
    last_entry: Option<EntryReceipt>,
    /// What the OKs meant; the weakest, if they differ.
    durability: Option<&'static str>,
    /// The first failure, which ends the run.
    failure: Option<Error>,
}

/// The summary. Keys of the JSON.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    schema: &'static str,
    topic: &'a str,
    sent: u64,
    failed: u64,
    elapsed_ms: f64,
    messages_per_second: f64,
    bytes_per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
    /// Where the last of them is in the Raft log.
    last_term: Option<u64>,
    last_index: Option<u64>,
    /// synced_on_majority, or page_cache_on_majority (a node has ASYNC_FLUSH); the weakest of all.
    durability: Option<&'static str>,
}

/// A sent message as a line of `-o jsonl`.
#[derive(Debug, Serialize)]
struct SentRow<'a> {
    topic: &'a str,
    offset: u64,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    recall_handle: Option<&'a str>,
    /// Its entry in the Raft log; of one that had been sent before, that of the repetition.
    term: Option<u64>,
    index: Option<u64>,
    durability: Option<&'static str>,
}

/// One finished request.
struct Finished {
    number_first: u64,
    took: Duration,
    bytes: u64,
    results: Vec<Result<SendReceipt, Error>>,
}

/// Sends everything, prints the summary, and fails as the first failed message did.
pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let expected = args.count.or((!args.body.is_empty()).then_some(args.body.len() as u64));
    let mut source = source(context, &args)?;
    let progress = progress(context, expected);
    let producer = Producer::new(context.connection.clone());
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut under_way = FuturesUnordered::new();
    let mut number: u64 = 0;
    // Two requests at once may change places.
    let in_flight_max = if args.message_group.is_some() { 1 } else { IN_FLIGHT_MAX };
    let mut has_more = true;
    let mut interrupted = false;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    while has_more || !under_way.is_empty() {
        let may_send = has_more && under_way.len() < in_flight_max;
        let due = args.rate.map_or(started, |rate| started + Duration::from_secs_f64(number as f64 / f64::from(rate)));
        tokio::select! {
            biased;
            _ = &mut interrupt, if !interrupted => {
                interrupted = true;
                has_more = false;
            }
            Some(finished) = under_way.next(), if !under_way.is_empty() => {
                tally.add(context, &args.topic, finished)?;
                progress.set_position(tally.sent);
                // What is under way is still counted, but nothing new is begun.
                has_more &= tally.failure.is_none();
            }
            batch = gather(&mut source, due, number, &args), if may_send => {
                let batch = batch?;
                if batch.is_empty() {
                    has_more = false;
                    continue;
                }
                let number_first = number;
                number += batch.len() as u64;
                let (producer, topic, patience) = (&producer, args.topic.as_str(), context.connection.timeout());
                under_way.push(async move {
                    let bytes = batch.iter().map(|message| message.body.len() as u64).sum();
                    let began = Instant::now();
                    let results = producer.send(topic, batch, patience).await;
                    Finished { number_first, took: began.elapsed(), bytes, results }
                });
            }
        }
    }
    progress.finish_and_clear();
    tally.report(context, &args.topic, started.elapsed())?;
    match &tally.failure {
        Some(error) => {
            let mut failure = context.failure(error, Subject::Topic(&args.topic)).await;
            if tally.sent > 0 {
                failure.exit = Exit::Partly;
            }
            Err(failure)
        }
        None if interrupted => Ok(Exit::Interrupted),
        None => Ok(Exit::Ok),
    }
}

fn source(context: &Context, args: &Args) -> Result<Source, Failure> {
    Ok(match (args.count, args.body.as_slice()) {
        (None, []) => {
            if std::io::stdin().is_terminal() {
                context.say("each line is one message; ctrl-d ends");
            }
            Source::Lines(lines())
        }
        (None, bodies) => Source::Given(Vec::from(bodies).into_iter()),
        (Some(count), []) => Source::Repeated { body: Body::MadeUp(args.size.unwrap_or(SIZE_DEFAULT)), next: 0, count },
        (Some(count), [body]) => Source::Repeated { body: Body::Template(body.clone()), next: 0, count },
        (Some(_), _) => return Err(Failure::new(Exit::Usage, "--count repeats one body, but several are given")),
    })
}

/// Lines of stdin, read by a thread because stdin cannot be waited for otherwise.
#[allow(clippy::disallowed_methods, reason = "a command is no node: nothing else waits on its threads")]
fn lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (lines, receiver) = mpsc::channel(LINES_WAITING_MAX);
    tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lock().lines() {
            let is_last = line.is_err();
            if lines.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// Waits until `due`, then takes the next messages; empty at the end. Safe to drop: it takes nothing before its last wait.
async fn gather(source: &mut Source, due: Instant, number: u64, args: &Args) -> Result<Vec<Outgoing>, Failure> {
    tokio::time::sleep_until(due).await;
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut add = |text: String| {
        let n = number + batch.len() as u64;
        bytes += text.len();
        batch.push(Outgoing {
            body: Bytes::from(text),
            tag: args.tag.clone(),
            keys: args.key.iter().map(|key| numbered(key, n)).collect(),
            properties: args.property.iter().cloned().collect(),
            kind: args.kind(),
        });
        batch.len() < args.batch as usize && bytes < BATCH_BYTES_MAX
    };
    match source {
        Source::Given(bodies) => {
            for body in bodies.by_ref() {
                if !add(body) {
                    break;
                }
            }
        }
        Source::Repeated { body, next, count } => {
            while next < count {
                let text = body.text(*next);
                *next += 1;
                if !add(text) {
                    break;
                }
            }
        }
        Source::Lines(lines) => {
            let mut line = lines.recv().await;
            while let Some(text) = line.transpose()? {
                // An empty body is refused by the protocol; a blank line is no message.
                if !text.is_empty() && !add(text) {
                    break;
                }
                line = lines.try_recv().ok();
            }
        }
    }
    Ok(batch)
}

impl Body {
    fn text(&self, number: u64) -> String {
        match self {
            Self::Template(text) => numbered(text, number),
            Self::MadeUp(bytes) => {
                let mut text = format!("message {number} ");
                let missing = bytes.saturating_sub(text.len());
                text.extend(std::iter::repeat_n('.', missing));
                text.truncate(*bytes);
                text
            }
        }
    }
}

/// The template with the number in place of each `{n}`.
fn numbered(template: &str, number: u64) -> String {
    template.replace("{n}", &number.to_string())
}

fn progress(context: &Context, expected: Option<u64>) -> ProgressBar {
    let Some(expected) = expected.filter(|_| context.has_progress()) else { return ProgressBar::hidden() };
    let style = ProgressStyle::with_template("sending  [{bar:40}] {pos}/{len}  {per_sec}  eta {eta}")
        .expect("the template is a constant")
        .progress_chars("##-");
    ProgressBar::new(expected).with_style(style)
}

impl Latencies {
    fn add(&mut self, took: Duration, messages: u64) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Two leading digits are enough to read, and bound the number of entries.
        let unit = 10_u64.pow(micros.checked_ilog10().unwrap_or(0).saturating_sub(1));
        *self.0.entry(micros / unit * unit).or_default() += messages;
    }

    /// Milliseconds within which the part of all messages was answered.
    fn quantile(&self, part: f64) -> Option<f64> {
        let all: u64 = self.0.values().sum();
        let wanted = (all as f64 * part).ceil() as u64;
        let mut seen = 0;
        self.0.iter().find_map(|(micros, count)| {
            seen += count;
            (seen >= wanted && all > 0).then_some(*micros as f64 / 1000.0)
        })
    }
}

impl Tally {
    fn add(&mut self, context: &Context, topic: &str, finished: Finished) -> std::io::Result<()> {
        let mut lines = String::new();
        let messages = finished.results.len() as u64;
        self.latencies.add(finished.took, messages);
        self.bytes += finished.bytes;
        for (number, result) in (finished.number_first..).zip(finished.results) {
            match result {
                Ok(sent) => {
                    self.sent += 1;
                    self.note(sent.entry);
                    match context.global.output {
                        Format::Jsonl => lines.push_str(&render::line(&sent_row(topic, &sent))?),
                        Format::Wide => lines.push_str(&receipt_text(&sent)),
                        Format::Table | Format::Json => {}
                    }
                    if number == 0 {
                        self.first_id = Some(sent.message_id.clone());
                    }
                    // Ids of one producer sort by sequence, and requests end in any order.
                    if self.last_id.as_ref().is_none_or(|last| *last < sent.message_id) {
                        self.last_id = Some(sent.message_id);
                    }
                }
                Err(error) => {
                    self.failed += 1;
                    self.failure.get_or_insert(error);
                }
            }
        }
        if lines.is_empty() { Ok(()) } else { render::print(&lines) }
    }

    fn note(&mut self, entry: Option<EntryReceipt>) {
        let Some(entry) = entry else { return };
        if self.last_entry.is_none_or(|last| last.index < entry.index) {
            self.last_entry = Some(entry);
        }
        if self.durability.is_none() || entry.durability_name() != SYNCED {
            self.durability = Some(entry.durability_name());
        }
    }

    fn report(&self, context: &Context, topic: &str, elapsed: Duration) -> std::io::Result<()> {
        let summary = self.summary(topic, elapsed);
        match context.global.output {
            Format::Table | Format::Wide => render::print(&text(&summary)),
            Format::Json => render::print(&render::document(&summary)?),
            Format::Jsonl => {
                context.say(text(&summary).trim_end());
                Ok(())
            }
        }
    }

    fn summary<'a>(&'a self, topic: &'a str, elapsed: Duration) -> Summary<'a> {
        let secs = elapsed.as_secs_f64().max(1e-6);
        let (messages, bytes) = (self.sent as f64, self.bytes as f64);
        Summary {
            schema: "raftmq.produce.v1",
            topic,
            sent: self.sent,
            failed: self.failed,
            elapsed_ms: elapsed.as_secs_f64() * 1000.0,
            messages_per_second: messages / secs,
            bytes_per_second: bytes / secs,
            p50_ms: self.latencies.quantile(0.5),
            p99_ms: self.latencies.quantile(0.99),
            max_ms: self.latencies.quantile(1.0),
            first_id: self.first_id.as_deref(),
            last_id: self.last_id.as_deref(),
            last_term: self.last_entry.map(|entry| entry.term),
            last_index: self.last_entry.map(|entry| entry.index),
            durability: self.durability,
        }
    }
}

fn sent_row<'a>(topic: &'a str, sent: &'a SendReceipt) -> SentRow<'a> {
    SentRow {
        topic,
        offset: sent.queue_offset,
        id: &sent.message_id,
        recall_handle: sent.recall_handle.as_deref(),
        term: sent.entry.map(|entry| entry.term),
        index: sent.entry.map(|entry| entry.index),
        durability: sent.entry.map(|entry| entry.durability_name()),
    }
}

/// What an OK meant, for people.
fn receipt_text(sent: &SendReceipt) -> String {
    let entry = sent.entry.map_or_else(
        || "the server does not say what its OK means".to_owned(),
        |entry| format!("term {}  index {}  {}", entry.term, entry.index, entry.durability_name().replace('_', " ")),
    );
    format!("{}  offset {}  {entry}\n", sent.message_id, sent.queue_offset)
}

fn text(summary: &Summary<'_>) -> String {
    let latency = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} ms"));
    let mut text = format!(
        "sent {}  failed {}  in {:.0} ms  {} msg/s  {:.1} MB/s   p50 {}  p99 {}  max {}\n",
        grouped(summary.sent),
        grouped(summary.failed),
        summary.elapsed_ms,
        grouped(summary.messages_per_second as u64),
        summary.bytes_per_second / 1e6,
        latency(summary.p50_ms),
        latency(summary.p99_ms),
        latency(summary.max_ms),
    );
    if let (Some(first), Some(last)) = (summary.first_id, summary.last_id) {
        text.push_str(&format!("first id {first}  last id {last}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::admin::send_receipt::Durability;

    #[test]
    fn a_key_template_takes_the_number() {
        assert_eq!(numbered("k-{n}", 17), "k-17");
        assert_eq!(numbered("{n}/{n}", 2), "2/2");
        assert_eq!(numbered("plain {m}", 2), "plain {m}");
    }

    #[test]
    fn made_up_bodies_have_the_size_asked_for() {
        for bytes in [1, 5, 100, 4096] {
            assert_eq!(Body::MadeUp(bytes).text(1_000_000).len(), bytes);
        }
        assert_ne!(Body::MadeUp(100).text(1), Body::MadeUp(100).text(2));
    }

    #[test]
    fn quantiles_count_messages_not_requests() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        latencies.add(Duration::from_micros(1_149), 98);
        latencies.add(Duration::from_micros(6_200), 2);
        assert_eq!(latencies.quantile(0.5), Some(1.1));
        assert_eq!(latencies.quantile(0.99), Some(6.2));
        assert_eq!(latencies.quantile(1.0), Some(6.2));
        latencies.add(Duration::ZERO, 1);
        assert_eq!(latencies.quantile(0.001), Some(0.0));
    }

    #[test]
    fn the_weakest_durability_counts_and_the_last_entry() {
        let mut tally = Tally::default();
        let entry = |index, durability| Some(EntryReceipt { term: 3, index, durability });
        tally.note(None);
        for index in [7, 9, 8] {
            tally.note(entry(index, Durability::SyncedOnMajority));
        }
        let of = |tally: &Tally| (tally.durability, tally.last_entry.map(|entry| entry.index));
        assert_eq!(of(&tally), (Some("synced_on_majority"), Some(9)));
        tally.note(entry(1, Durability::PageCacheOnMajority));
        tally.note(entry(2, Durability::SyncedOnMajority));
        assert_eq!(of(&tally), (Some("page_cache_on_majority"), Some(9)));
        let sent = SendReceipt {
            message_id: "01A".into(),
            queue_offset: 5,
            recall_handle: None,
            entry: entry(9, Durability::SyncedOnMajority),
        };
        assert_eq!(receipt_text(&sent), "01A  offset 5  term 3  index 9  synced on majority\n");
    }

    #[test]
    fn the_summary_reads_as_in_the_example() {
        let mut tally = Tally { sent: 1000, bytes: 200_000, first_id: Some("01A".into()), ..Default::default() };
        tally.last_id = Some("01B".into());
        tally.latencies.add(Duration::from_micros(1_100), 1000);
        assert_eq!(
            text(&tally.summary("demo", Duration::from_millis(125))),
            "sent 1,000  failed 0  in 125 ms  8,000 msg/s  1.6 MB/s   p50 1.1 ms  p99 1.1 ms  max 1.1 ms\n\
             first id 01A  last id 01B\n"
        );
        let json = serde_json::to_value(tally.summary("demo", Duration::from_millis(125))).unwrap();
        assert_eq!(json["schema"], "raftmq.produce.v1");
        assert_eq!(json["sent"], 1000);
        assert!(json["durability"].is_null(), "another broker does not say it");
    }
}
