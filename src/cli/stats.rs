//! `raftmq topic stats`, `raftmq group stats`, and mqadmin's `statsAll`: what entered topics and left them.

use crate::documents::counts;
use crate::documents::counts::{GroupRow, Source, TopicRow, rows};
use crate::model::Timestamp;

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, Format};
use crate::cli::render;
use crate::cli::render::{Column, bytes, grouped, known, rate, rough, utc};

/// What is asked for.
pub enum What<'a> {
    /// Topics; one with its groups.
    Topics(Option<&'a str>),
    Groups(Option<&'a str>),
    /// Each topic with each of its groups, in mqadmin's columns.
    All {
        topic: Option<&'a str>,
        active: bool,
    },
}

/// Asks, and prints.
pub async fn run(context: &Context, what: What<'_>) -> Result<Exit, Failure> {
    let (topic, group) = match what {
        What::Topics(topic) | What::All { topic, .. } => (topic.unwrap_or_default(), ""),
        What::Groups(group) => ("", group.unwrap_or_default()),
    };
    let answer = match context.admin.counts(topic, group).await {
        Ok(answer) => answer,
        Err(error) => {
            let subject = match (topic, group) {
                ("", "") => Subject::Cluster,
                ("", group) => Subject::Group(group),
                (topic, _) => Subject::Topic(topic),
            };
            return Err(context.failure(&error, subject).await);
        }
    };
    let source = Source::of(&answer);
    let (mut topics, mut groups) = rows(answer);
    if let What::Topics(Some(name)) | What::All { topic: Some(name), .. } = what
        && topics.is_empty()
    {
        topics.push(TopicRow { topic: name.to_owned(), ..TopicRow::default() });
    }
    if let What::All { active: true, .. } = what {
        groups.retain(|group| group.out_last_day > 0);
        topics.retain(|topic| topic.in_last_day > 0);
    }
    let text = match context.global.output {
        Format::Json => render::document(&counts::document(&source, &topics, &groups))?,
        Format::Jsonl => lines(&what, &topics, &groups)?,
        Format::Table | Format::Wide => head(&source, crate::env::clock::wall()) + &tables(&what, &topics, &groups),
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}

fn head(source: &Source, now: Timestamp) -> String {
    let since = Timestamp(source.since_ms);
    let who = if source.leads { "the leader" } else { "which does not lead: no leader answers" };
    format!("counted by {}, {who}, since {} ({})\n", source.node, utc(since), rough(now.since(since)))
}

fn tables(what: &What<'_>, topics: &[TopicRow], groups: &[GroupRow]) -> String {
    match what {
        What::Topics(None) => topic_table(topics),
        What::Topics(Some(_)) if groups.is_empty() => topic_table(topics),
        What::Topics(Some(_)) => topic_table(topics) + "\n" + &group_table(groups),
        What::Groups(_) => group_table(groups),
        What::All { .. } => all_table(topics, groups),
    }
}

fn lines(what: &What<'_>, topics: &[TopicRow], groups: &[GroupRow]) -> std::io::Result<String> {
    let topics = topics.iter().filter(|_| !matches!(what, What::Groups(_))).map(render::line);
    let groups = groups.iter().filter(|_| !matches!(what, What::Topics(None))).map(render::line);
    topics.chain(groups).collect()
}

fn topic_table(topics: &[TopicRow]) -> String {
    let columns = [
        Column::Text("TOPIC"),
        Column::Number("IN/s"),
        Column::Number("IN 1H"),
        Column::Number("IN 24H"),
        Column::Number("TODAY"),
        Column::Number("YESTERDAY"),
        Column::Number("TOTAL"),
        Column::Number("SIZE"),
        Column::Number("DELAYED"),
        Column::Number("HALF"),
        Column::Number("COMMITTED"),
        Column::Number("ROLLED BACK"),
    ];
    let cells = |row: &TopicRow| {
        let numbers = [row.in_last_hour, row.in_last_day, row.in_today, row.in_yesterday, row.in_total];
        let kinds = [row.delayed, row.halves, row.commits, row.rollbacks];
        let mut cells = vec![row.topic.clone(), rate(row.in_per_second)];
        cells.extend(numbers.map(grouped));
        cells.push(bytes(row.in_bytes_total));
        cells.extend(kinds.map(grouped));
        cells
    };
    render::table(&columns, topics.iter().map(cells))
}

fn group_table(groups: &[GroupRow]) -> String {
    let columns = [
        Column::Text("GROUP"),
        Column::Text("TOPIC"),
        Column::Number("LAG"),
        Column::Number("OUT/s"),
        Column::Number("OUT 1H"),
        Column::Number("OUT 24H"),
        Column::Number("TODAY"),
        Column::Number("YESTERDAY"),
        Column::Number("TOTAL"),
        Column::Number("AGAIN"),
        Column::Number("ACKED"),
        Column::Number("DEAD"),
    ];
    let cells = |row: &GroupRow| {
        let numbers = [row.out_last_hour, row.out_last_day, row.out_today, row.out_yesterday, row.out_total];
        let kinds = [row.redeliveries, row.acked, row.dead_letters];
        let mut cells = vec![row.group.clone(), row.topic.clone(), known(row.lag.map(grouped))];
        cells.push(rate(row.out_per_second));
        cells.extend(numbers.map(grouped));
        cells.extend(kinds.map(grouped));
        cells
    };
    render::table(&columns, groups.iter().map(cells))
}

/// mqadmin's statsAll: Topic, Consumer Group, Accumulation, InTPS, OutTPS, InMsg24Hour, OutMsg24Hour.
fn all_table(topics: &[TopicRow], groups: &[GroupRow]) -> String {
    let columns = [
        Column::Text("TOPIC"),
        Column::Text("CONSUMER GROUP"),
        Column::Number("ACCUMULATION"),
        Column::Number("InTPS"),
        Column::Number("OutTPS"),
        Column::Number("InMsg24Hour"),
        Column::Number("OutMsg24Hour"),
    ];
    let mut names: Vec<&str> = topics.iter().map(|row| row.topic.as_str()).collect();
    names.extend(groups.iter().map(|row| row.topic.as_str()));
    names.sort_unstable();
    names.dedup();
    let none = TopicRow::default();
    let mut rows = Vec::new();
    for name in names {
        let topic = topics.iter().find(|row| row.topic == name).unwrap_or(&none);
        let cells = |group: &str, lag: Option<u64>, out: f64, day: Option<u64>| {
            let (taken_in, in_day) = (format!("{:.2}", topic.in_per_second), topic.in_last_day.to_string());
            vec![name.to_owned(), group.to_owned(), known(lag), taken_in, format!("{out:.2}"), in_day, known(day)]
        };
        let before = rows.len();
        for row in groups.iter().filter(|row| row.topic == name) {
            rows.push(cells(&row.group, row.lag, row.out_per_second, Some(row.out_last_day)));
        }
        if rows.len() == before {
            rows.push(cells("", None, 0.0, None));
        }
    }
    render::table(&columns, rows.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::admin::{CountsResponse, CountsRow, Flow, GroupCounts, GroupPeriods, TopicCounts, TopicPeriods};

    fn counts() -> CountsResponse {
        let total = TopicCounts { messages: 12_000, bytes: 3 << 20, delayed: 1, halves: 2, ..Default::default() };
        let periods = TopicPeriods { total: Some(total), per_second: 20.0, ..Default::default() };
        let topic = |name: &str| CountsRow { topic: name.into(), of_topic: Some(periods), ..Default::default() };
        let total = GroupCounts { deliveries: 11, acked: 10, redeliveries: 1, ..Default::default() };
        let day = Some(Flow { messages: 11, bytes: 1100 });
        let of_group = Some(GroupPeriods { total: Some(total), day, ..Default::default() });
        let group = CountsRow { topic: "b".into(), group: "g".into(), of_group, lag: Some(7), ..Default::default() };
        CountsResponse { rows: vec![topic("b"), topic("a"), group], ..Default::default() }
    }

    #[test]
    fn topics_and_groups_are_shown_by_name() {
        let (topics, groups) = rows(counts());
        assert_eq!(
            tables(&What::Topics(Some("b")), &topics[1..], &groups),
            "TOPIC  IN/s  IN 1H  IN 24H  TODAY  YESTERDAY   TOTAL     SIZE  DELAYED  HALF  COMMITTED  ROLLED BACK\n\
             b      20.0      0       0      0          0  12,000  3.0 MiB        1     2          0            0\n\n\
             GROUP  TOPIC  LAG  OUT/s  OUT 1H  OUT 24H  TODAY  YESTERDAY  TOTAL  AGAIN  ACKED  DEAD\n\
             g      b        7    0.0       0       11      0          0     11      1     10     0\n"
        );
        assert_eq!(
            tables(&What::All { topic: None, active: false }, &topics, &groups),
            "TOPIC  CONSUMER GROUP  ACCUMULATION  InTPS  OutTPS  InMsg24Hour  OutMsg24Hour\n\
             a                                 -  20.00    0.00            0             -\n\
             b      g                          7  20.00    0.00            0            11\n"
        );
        let lines = lines(&What::Groups(None), &topics, &groups).unwrap();
        assert_eq!(lines.lines().count(), 1);
    }

    #[test]
    fn the_head_says_who_counted_and_since_when() {
        let mut source = Source { node: "n1".into(), leads: true, since_ms: 0, counted_after: 7 };
        let now = Timestamp(120_000);
        assert_eq!(head(&source, now), "counted by n1, the leader, since 1970-01-01 00:00:00 (2m)\n");
        source.leads = false;
        assert!(head(&source, now).contains("n1, which does not lead: no leader answers, since"));
    }
}
