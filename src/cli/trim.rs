//! `raftmq cluster trim`: deletes messages that are older than a time, or says what that would delete.

use indicatif::ProgressBar;
use serde::Serialize;

use crate::model::{Millis, Timestamp};
use crate::proto::admin::trim_request::Before;
use crate::proto::admin::{TrimRequest, TrimmedTopic};

use crate::cli::confirm::is_confirmed;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::moment::{Moment, moment};
use crate::cli::options::{Context, Format};
use crate::cli::render;
use crate::cli::render::{Column, bytes, grouped, utc};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Those stored longer ago than this, such as 2h or 7d; or before 2026-11-28, 2026-11-28T10:00:00Z or milliseconds since 1970
    #[arg(long, value_name = "AGE|TIME", value_parser = before)]
    before: Before,
    /// Only of this topic, which may have a retention of its own; without it topics that have one are left out
    #[arg(long)]
    topic: Option<String>,
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
    /// Do not ask; required when there is no terminal
    #[arg(long)]
    yes: bool,
}

/// What went of a topic, or would. Keys of the JSON.
#[derive(Debug, PartialEq, Serialize)]
struct TrimRow {
    topic: String,
    messages: u64,
    /// Estimated from some of the messages.
    bytes_about: u64,
    /// It stays: the topic has a retention of its own and was not named.
    left_out: bool,
    retention_ms: Option<u64>,
}

/// What went everywhere, or would.
#[derive(Debug)]
struct Report {
    rows: Vec<TrimRow>,
    before: Timestamp,
}

/// Asks for it page by page; without `--yes` first what it would be, and then the person at the terminal.
pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let Args { before, topic, dry_run, yes } = args;
    let topic = topic.unwrap_or_default();
    let request = TrimRequest { topic: topic.clone(), before: Some(before), dry_run, ..Default::default() };
    if dry_run || yes {
        return print(context, &trim(context, request).await?, dry_run);
    }
    let found = trim(context, TrimRequest { dry_run: true, ..request.clone() }).await?;
    let (messages, _) = found.going();
    if messages == 0 {
        return print(context, &found, true);
    }
    let of = if topic.is_empty() { String::new() } else { format!(" --topic {topic}") };
    // What was counted, however long the answer takes.
    let at = found.before.0;
    if !is_confirmed(&found.summary("delete"), &format!("raftmq cluster trim --before {at}{of}"))? {
        context.say("nothing done");
        return Ok(Exit::Ok);
    }
    print(context, &trim(context, TrimRequest { before: Some(Before::TimestampMs(at)), ..request }).await?, false)
}

async fn trim(context: &Context, mut request: TrimRequest) -> Result<Report, Failure> {
    let topic = request.topic.clone();
    let subject = if topic.is_empty() { Subject::Cluster } else { Subject::Topic(&topic) };
    let bar = if context.has_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let mut report = Report { rows: Vec::new(), before: Timestamp(0) };
    loop {
        let page = match context.admin.trim(request.clone()).await {
            Ok(page) => page,
            Err(error) if request.dry_run => return Err(context.failure(&error, subject).await),
            Err(error) => {
                let (messages, _) = report.going();
                let failure = context.failure(&error, subject).await;
                return Err(failure.remedy("so far:", format!("{} messages deleted", grouped(messages))));
            }
        };
        report.before = Timestamp(page.before_ms);
        page.topics.into_iter().for_each(|topic| report.add(topic));
        bar.set_message(report.summary(if request.dry_run { "found" } else { "deleted" }));
        bar.tick();
        if page.cursor.is_empty() {
            bar.finish_and_clear();
            return Ok(report);
        }
        request.cursor = page.cursor;
    }
}

impl Report {
    /// A topic may go on on the next page.
    fn add(&mut self, topic: TrimmedTopic) {
        match self.rows.last_mut().filter(|last| last.topic == topic.topic) {
            Some(last) => {
                last.messages += topic.messages;
                last.bytes_about += topic.bytes_about;
            }
            None => self.rows.push(TrimRow {
                topic: topic.topic,
                messages: topic.messages,
                bytes_about: topic.bytes_about,
                left_out: topic.left_out,
                retention_ms: topic.retention_ms,
            }),
        }
    }

    /// Messages and bytes, without what stays.
    fn going(&self) -> (u64, u64) {
        let going = self.rows.iter().filter(|row| !row.left_out);
        going.fold((0, 0), |(messages, bytes), row| (messages + row.messages, bytes + row.bytes_about))
    }

    fn summary(&self, what: &str) -> String {
        let (messages, size) = self.going();
        let (messages, size, before) = (grouped(messages), bytes(size), utc(self.before));
        format!("{what} {messages} messages, about {size}, stored before {before} UTC")
    }

    fn text(&self, dry_run: bool) -> String {
        let summary = self.summary(if dry_run { "would delete" } else { "deleted" }) + "\n";
        if self.rows.is_empty() {
            return summary;
        }
        let columns =
            [Column::Text("TOPIC"), Column::Number("MESSAGES"), Column::Number("ABOUT"), Column::Text("STATE")];
        let cells = |row: &TrimRow| {
            let state = match (row.left_out, row.retention_ms) {
                (true, kept_for) => {
                    let kept_for = Millis(kept_for.unwrap_or(0)).in_one_unit();
                    format!("stays: it is kept for {kept_for}; name it with --topic")
                }
                (false, _) if dry_run => "would go".to_owned(),
                (false, _) => "gone".to_owned(),
            };
            vec![row.topic.clone(), grouped(row.messages), bytes(row.bytes_about), state]
        };
        render::table(&columns, self.rows.iter().map(cells)) + &summary
    }
}

fn print(context: &Context, report: &Report, dry_run: bool) -> Result<Exit, Failure> {
    let (messages, bytes_about) = report.going();
    let text = match context.global.output {
        Format::Table | Format::Wide => report.text(dry_run),
        Format::Json => render::document(&serde_json::json!({
            "schema": "raftmq.trim.v1",
            "dry_run": dry_run,
            "before_ms": report.before.0,
            "messages": messages,
            "bytes_about": bytes_about,
            "topics": report.rows,
        }))?,
        Format::Jsonl => report.rows.iter().map(render::line).collect::<Result<String, _>>()?,
    };
    render::print(&text)?;
    if !dry_run && messages > 0 {
        context.say("each node now deletes the files of its log in which nothing is needed any more");
    }
    Ok(Exit::Ok)
}

/// An age counts by the clock of the cluster.
fn before(text: &str) -> Result<Before, String> {
    Ok(match moment(text, "an age such as 90s, 2h or 7d")? {
        Moment::At(at) => Before::TimestampMs(at.0),
        Moment::Away(age) => Before::AgeMs(age.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, messages: u64, retention_ms: Option<u64>) -> TrimmedTopic {
        TrimmedTopic {
            topic: name.into(),
            messages,
            bytes_about: messages * 1024,
            left_out: retention_ms.is_some(),
            retention_ms,
        }
    }

    #[test]
    fn before_is_an_age_with_a_unit_or_a_time_without() {
        for two_hours in ["2h", "2 h"] {
            assert_eq!(before(two_hours), Ok(Before::AgeMs(7_200_000)), "{two_hours}");
        }
        assert_eq!(before("0s"), Ok(Before::AgeMs(0)));
        assert_eq!(before("2025-11-25"), Ok(Before::TimestampMs(1_764_028_800_000)));
        assert_eq!(before("1764028800000"), Ok(Before::TimestampMs(1_764_028_800_000)));
        for wrong in ["", "h", "-2h", "yesterday", "1.5h"] {
            assert!(before(wrong).unwrap_err().contains("write an age such as 90s"), "{wrong}");
        }
    }

    #[test]
    fn pages_are_added_up_and_what_stays_is_not_counted() {
        let mut report = Report { rows: Vec::new(), before: Timestamp(3_600_000) };
        assert_eq!(report.text(true), "would delete 0 messages, about 0 B, stored before 1970-01-01 01:00:00 UTC\n");
        for page in [topic("a", 1000, None), topic("a", 200, None), topic("b", 2048, Some(604_800_000))] {
            report.add(page);
        }
        assert_eq!(
            report.text(true),
            "TOPIC  MESSAGES    ABOUT  STATE\n\
             a         1,200  1.2 MiB  would go\n\
             b         2,048  2.0 MiB  stays: it is kept for 7d; name it with --topic\n\
             would delete 1,200 messages, about 1.2 MiB, stored before 1970-01-01 01:00:00 UTC\n"
        );
        assert!(report.text(false).contains("1.2 MiB  gone\n"));
    }
}
