//! What entered topics and left them, as `topic stats -o json`, `group stats -o json` and the dashboard show it.

use serde::Serialize;
use serde_json::{Value, json};

use crate::proto::admin::{CountsResponse, CountsRow, Flow, GroupCounts, GroupPeriods, TopicCounts, TopicPeriods};

/// A topic as it is printed. Keys of the JSON.
#[derive(Debug, Default, Serialize)]
pub struct TopicRow {
    pub topic: String,
    pub in_per_second: f64,
    pub in_last_hour: u64,
    pub in_last_day: u64,
    pub in_bytes_last_day: u64,
    pub in_today: u64,
    pub in_yesterday: u64,
    /// Since the node began to count, as all that follows.
    pub in_total: u64,
    pub in_bytes_total: u64,
    pub delayed: u64,
    pub delays_ended: u64,
    pub halves: u64,
    pub commits: u64,
    pub rollbacks: u64,
}

/// A group in a topic as it is printed. Keys of the JSON.
#[derive(Debug, Default, Serialize)]
pub struct GroupRow {
    pub group: String,
    pub topic: String,
    /// Not yet settled.
    pub lag: Option<u64>,
    pub out_per_second: f64,
    pub out_last_hour: u64,
    pub out_last_day: u64,
    pub out_bytes_last_day: u64,
    pub out_today: u64,
    pub out_yesterday: u64,
    /// Since the node began to count, as all that follows.
    pub out_total: u64,
    pub out_bytes_total: u64,
    pub redeliveries: u64,
    pub acked: u64,
    pub dead_letters: u64,
}

/// Who counted, and since when.
#[derive(Debug, Serialize)]
pub struct Source {
    pub node: String,
    pub leads: bool,
    pub since_ms: u64,
    pub counted_after: u64,
}

impl Source {
    /// Who counted what was answered.
    pub fn of(counts: &CountsResponse) -> Self {
        let CountsResponse { leads, since_ms, counted_after, .. } = *counts;
        Self { node: counts.node.clone(), leads, since_ms, counted_after }
    }
}

/// `raftmq.counts.v1`.
pub fn document(source: &Source, topics: &[TopicRow], groups: &[GroupRow]) -> Value {
    json!({ "schema": "raftmq.counts.v1", "counted": source, "topics": topics, "groups": groups })
}

/// Topics, and groups in topics, by name.
pub fn rows(counts: CountsResponse) -> (Vec<TopicRow>, Vec<GroupRow>) {
    let (mut topics, mut groups) = (Vec::new(), Vec::new());
    for CountsRow { topic, of_topic, of_group, group, lag } in counts.rows {
        if let Some(periods) = of_topic {
            topics.push(topic_row(topic, periods));
        } else if let Some(periods) = of_group {
            groups.push(group_row(group, topic, lag, periods));
        }
    }
    topics.sort_by(|left, right| left.topic.cmp(&right.topic));
    groups.sort_by(|left, right| (&left.group, &left.topic).cmp(&(&right.group, &right.topic)));
    (topics, groups)
}

fn topic_row(topic: String, periods: TopicPeriods) -> TopicRow {
    let TopicPeriods { total, today, yesterday, per_second, hour, day } = periods;
    let TopicCounts { messages, bytes, delayed, delays_ended, halves, commits, rollbacks } = total.unwrap_or_default();
    let day: Flow = day.unwrap_or_default();
    TopicRow {
        topic,
        in_per_second: per_second,
        in_last_hour: hour.unwrap_or_default().messages,
        in_last_day: day.messages,
        in_bytes_last_day: day.bytes,
        in_today: today.unwrap_or_default().messages,
        in_yesterday: yesterday.unwrap_or_default().messages,
        in_total: messages,
        in_bytes_total: bytes,
        delayed,
        delays_ended,
        halves,
        commits,
        rollbacks,
    }
}

fn group_row(group: String, topic: String, lag: Option<u64>, periods: GroupPeriods) -> GroupRow {
    let GroupPeriods { total, today, yesterday, per_second, hour, day } = periods;
    let GroupCounts { deliveries, bytes, redeliveries, acked, dead_letters } = total.unwrap_or_default();
    let day: Flow = day.unwrap_or_default();
    GroupRow {
        group,
        topic,
        lag,
        out_per_second: per_second,
        out_last_hour: hour.unwrap_or_default().messages,
        out_last_day: day.messages,
        out_bytes_last_day: day.bytes,
        out_today: today.unwrap_or_default().deliveries,
        out_yesterday: yesterday.unwrap_or_default().deliveries,
        out_total: deliveries,
        out_bytes_total: bytes,
        redeliveries,
        acked,
        dead_letters,
    }
}
