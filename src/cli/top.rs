//! `raftmq top`: nodes, busiest topics and groups with the largest lag, drawn anew every second.

use std::io::IsTerminal;
use std::time::Duration;

use tokio::time::Instant;

use crate::documents::counts::{GroupRow, TopicRow, rows};
use crate::model::Timestamp;
use crate::proto::admin::{ClusterStatusResponse, CountsResponse};

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, duration};
use crate::cli::render::{Column, grouped, known, rate};
use crate::cli::{cluster_status, render};

/// Of a terminal that does not say how wide and how high it is.
const SIZE_DEFAULT: (usize, usize) = (120, 40);
/// Lines beside the rows of topics and groups: heads, titles, blanks.
const LINES_BESIDE: usize = 8;
const ROWS_MIN: usize = 3;

/// Back to the corner; what is drawn replaces what was there, line by line, so that nothing flickers.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
const CLEAR: &str = "\x1b[2J";

#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Rates are those since the last picture; the first one, and --once, shows those of the last minute.\n\n\
                       Examples:\n  raftmq top\n  raftmq top --every 5s\n  raftmq top --once"
)]
pub struct Args {
    /// One picture, and no more
    #[arg(long)]
    once: bool,
    /// Time between pictures
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = duration)]
    every: Duration,
}

/// What one picture shows.
struct Picture {
    status: ClusterStatusResponse,
    counted_by: String,
    topics: Vec<TopicRow>,
    groups: Vec<GroupRow>,
    at: Instant,
}

/// Draws until ctrl-c; once if nobody looks.
pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    if args.once || !std::io::stdout().is_terminal() {
        let picture = match picture(context).await {
            Ok(picture) => picture,
            Err(error) => return Err(context.failure(&error, Subject::Cluster).await),
        };
        render::print(&text(&picture, usize::MAX, crate::env::clock::wall()))?;
        return Ok(Exit::Ok);
    }
    render::print(CLEAR)?;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut before: Option<Picture> = None;
    loop {
        let seen = tokio::select! {
            _ = &mut interrupt => break,
            seen = picture(context) => seen,
        };
        let drawn = match seen {
            Ok(mut picture) => {
                if let Some(before) = &before {
                    since(&mut picture, before);
                }
                let drawn = text(&picture, rows_that_fit(&picture), crate::env::clock::wall());
                before = Some(picture);
                drawn
            }
            // It may come back; what was there goes on being shown below.
            Err(error) => format!("{}\n", Failure::of(&error, Subject::Cluster).text().trim_end()),
        };
        render::print(&frame(&drawn, terminal()))?;
        tokio::select! {
            _ = &mut interrupt => break,
            () = tokio::time::sleep(args.every) => {}
        }
    }
    Ok(Exit::Ok)
}

async fn picture(context: &Context) -> Result<Picture, crate::client::Error> {
    let status = context.admin.cluster_status().await?;
    let counts: CountsResponse = context.admin.counts("", "").await?;
    let counted_by = counts.node.clone();
    let (topics, groups) = rows(counts);
    Ok(Picture { status, counted_by, topics, groups, at: Instant::now() })
}

/// Rates since the picture before, if the same node counted both: else those of the last minute stay.
fn since(picture: &mut Picture, before: &Picture) {
    let seconds = picture.at.saturating_duration_since(before.at).as_secs_f64();
    if picture.counted_by != before.counted_by || seconds < 0.1 {
        return;
    }
    let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
    for row in &mut picture.topics {
        let then = before.topics.iter().find(|old| old.topic == row.topic).map_or(0, |old| old.in_total);
        row.in_per_second = per_second(row.in_total, then);
    }
    for row in &mut picture.groups {
        let is_it = |old: &&GroupRow| (&old.group, &old.topic) == (&row.group, &row.topic);
        let then = before.groups.iter().find(is_it).map_or(0, |old| old.out_total);
        row.out_per_second = per_second(row.out_total, then);
    }
}

fn rows_that_fit(picture: &Picture) -> usize {
    let left = terminal().1.saturating_sub(LINES_BESIDE + picture.status.nodes.len());
    (left / 2).max(ROWS_MIN)
}

/// Columns and lines.
fn terminal() -> (usize, usize) {
    terminal_size::terminal_size().map_or(SIZE_DEFAULT, |(width, height)| (width.0.into(), height.0.into()))
}

/// Cut to the terminal: a line that went on in the next one, or one too many, would push the picture up.
fn frame(text: &str, (width, height): (usize, usize)) -> String {
    let cut = |line: &str| line.chars().take(width).chain(CLEAR_LINE.chars()).chain(['\n']).collect::<String>();
    let lines: String = text.lines().take(height.saturating_sub(1)).map(cut).collect();
    format!("{HOME}{lines}{CLEAR_BELOW}")
}

fn text(picture: &Picture, rows_max: usize, now: Timestamp) -> String {
    let mut topics: Vec<&TopicRow> = picture.topics.iter().collect();
    topics.sort_by(|a, b| b.in_per_second.total_cmp(&a.in_per_second).then(b.in_last_hour.cmp(&a.in_last_hour)));
    let mut groups: Vec<&GroupRow> = picture.groups.iter().collect();
    groups.sort_by(|a, b| b.lag.cmp(&a.lag).then(b.out_per_second.total_cmp(&a.out_per_second)));
    let sum = |rates: &mut dyn Iterator<Item = f64>| rate(rates.sum());
    let all_in = sum(&mut picture.topics.iter().map(|row| row.in_per_second));
    let all_out = sum(&mut picture.groups.iter().map(|row| row.out_per_second));
    format!(
        "{}in {all_in}/s  out {all_out}/s\n\n{}\n{}",
        cluster_status::table_text(picture.status.clone(), now),
        topic_table(topics.into_iter().take(rows_max)),
        group_table(groups.into_iter().take(rows_max)),
    )
}

fn topic_table<'a>(rows: impl Iterator<Item = &'a TopicRow>) -> String {
    let columns = [
        Column::Text("TOPIC"),
        Column::Number("IN/s"),
        Column::Number("IN 1H"),
        Column::Number("TODAY"),
        Column::Number("TOTAL"),
        Column::Number("DELAYED"),
        Column::Number("HALF"),
    ];
    let cells = |row: &TopicRow| {
        let waiting = row.delayed.saturating_sub(row.delays_ended);
        let open = row.halves.saturating_sub(row.commits + row.rollbacks);
        let numbers = [row.in_last_hour, row.in_today, row.in_total, waiting, open];
        [vec![row.topic.clone(), rate(row.in_per_second)], numbers.map(grouped).to_vec()].concat()
    };
    render::table(&columns, rows.map(cells))
}

fn group_table<'a>(rows: impl Iterator<Item = &'a GroupRow>) -> String {
    let columns = [
        Column::Text("GROUP"),
        Column::Text("TOPIC"),
        Column::Number("LAG"),
        Column::Number("OUT/s"),
        Column::Number("OUT 1H"),
        Column::Number("AGAIN"),
        Column::Number("ACKED"),
        Column::Number("DEAD"),
    ];
    let cells = |row: &GroupRow| {
        let head = vec![row.group.clone(), row.topic.clone(), known(row.lag.map(grouped)), rate(row.out_per_second)];
        let numbers = [row.out_last_hour, row.redeliveries, row.acked, row.dead_letters];
        [head, numbers.map(grouped).to_vec()].concat()
    };
    render::table(&columns, rows.map(cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, in_total: u64, in_per_second: f64) -> TopicRow {
        TopicRow { topic: name.into(), in_total, in_per_second, ..TopicRow::default() }
    }

    fn group(name: &str, lag: u64) -> GroupRow {
        GroupRow { group: name.into(), topic: "t".into(), lag: Some(lag), ..GroupRow::default() }
    }

    fn picture(topics: Vec<TopicRow>, groups: Vec<GroupRow>, at: Instant) -> Picture {
        Picture { status: ClusterStatusResponse::default(), counted_by: "n0".into(), topics, groups, at }
    }

    #[test]
    fn the_busiest_topics_and_the_largest_lags_come_first_and_no_more_than_fit() {
        let topics = vec![topic("calm", 9, 0.5), topic("busy", 5, 20.0), topic("still", 1, 0.0)];
        let shown = text(&picture(topics, vec![group("a", 1), group("b", 7)], Instant::now()), 2, Timestamp(0));
        let rows: Vec<&str> = shown.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let from = rows.iter().position(|word| *word == "TOPIC").unwrap();
        assert_eq!(rows[from..], ["TOPIC", "busy", "calm", "GROUP", "b", "a"], "{shown}");
        assert!(shown.contains("in 20.5/s  out 0.0/s"), "{shown}");
    }

    #[test]
    fn rates_are_those_since_the_picture_before_of_the_same_node() {
        let start = Instant::now();
        let before = picture(vec![topic("t", 100, 0.0)], Vec::new(), start);
        let mut now = picture(vec![topic("t", 130, 0.0)], Vec::new(), start + Duration::from_secs(2));
        since(&mut now, &before);
        assert_eq!(now.topics[0].in_per_second, 15.0);
        let mut other = picture(vec![topic("t", 9, 3.0)], Vec::new(), start + Duration::from_secs(4));
        other.counted_by = "n1".into();
        since(&mut other, &now);
        assert_eq!(other.topics[0].in_per_second, 3.0);
    }

    #[test]
    fn a_frame_overwrites_the_one_before_and_is_no_larger_than_the_terminal() {
        assert_eq!(frame("a\nb\n", (80, 24)), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(frame("abc\nd\ne\n", (2, 3)), "\x1b[Hab\x1b[K\nd\x1b[K\n\x1b[J");
    }
}
