//! Families about topics and groups: what moved, what waits. Only the leader shows them, as all nodes know the same.

use std::fmt;

use crate::broker::{Backlog, TopicTraffic};
use crate::edge::http::metrics::families::{Families, about, about_in};
use crate::edge::http::metrics::snapshot::{LeaderSnapshot, Snapshot};
use crate::edge::http::tables::Table;
use crate::model::Timestamp;

/// RocketMQ's own topics are marked so; there are none here.
const NOT_SYSTEM: (&str, &str) = ("is_system", "false");
const STORAGE: [(&str, &str); 2] = [("storage_type", "local"), ("storage_medium", "disk")];
/// A node can be read and written, or with too little room on the disks read only.
const READ_WRITE: i64 = 6;
const READ_ONLY: i64 = 4;

pub(super) fn put(out: &mut Families<'_>, snapshot: &Snapshot) -> fmt::Result {
    let Some(node) = &snapshot.node else { return Ok(()) };
    let Some(leader) = &node.leader else { return Ok(()) };
    let permission = if leader.has_room { READ_WRITE } else { READ_ONLY };
    let help = "6: readable and writable; 4: sends are refused, because a majority of the disks is short of room";
    out.gauge(about("rocketmq_broker_permission", help), permission)?;
    let help = "What the oldest message is late by whose delivery time, or lease, should have ended";
    let late = [(STORAGE, leader.due_late_ms)];
    out.gauges(about_in("rocketmq_timer_dequeue_latency", "milliseconds", help), late)?;
    moved_in(out, &leader.topics)?;
    moved_out(out, leader)?;
    let Some(table) = &leader.table else { return Ok(()) };
    let backlogs = &table.backlogs;
    out.gauge(about("rocketmq_topic_number", "Topics"), backlogs.topics)?;
    out.gauge(about("rocketmq_consumer_group_number", "Consumer groups"), backlogs.groups)?;
    waiting(out, &backlogs.rows, node.now)?;
    let topics = |rows: &Option<Vec<_>>| rows.iter().flatten().cloned().collect::<Vec<_>>();
    let delayed = topics(&backlogs.delayed);
    let rows = delayed.iter().map(|(topic, count)| ([STORAGE[0], STORAGE[1], ("topic", topic.as_str())], *count));
    out.gauges(about("rocketmq_timing_messages", "Messages that wait for their delivery time"), rows)?;
    let halves = topics(&backlogs.halves);
    let rows = halves.iter().map(|(topic, count)| ([("topic", topic.as_str())], *count));
    out.gauges(about("rocketmq_half_messages", "Transactional messages without a decision"), rows)?;
    let rows = backlogs.dead_letters.iter().map(|(group, count)| ([("consumer_group", group.as_str())], *count));
    out.gauges(about("raftmq_dead_letters", "Dead letters of a group that were not redriven"), rows)?;
    of_the_table(out, table)
}

fn moved_in(out: &mut Families<'_>, topics: &[TopicTraffic]) -> fmt::Result {
    let rows = |of: fn(&TopicTraffic) -> u64| {
        topics.iter().map(move |topic| {
            let labels = [("topic", topic.topic.as_str()), ("message_type", type_of(topic)), NOT_SYSTEM];
            (labels, of(topic))
        })
    };
    let help = "Messages stored since this node began to count, delayed and half ones too";
    out.counters(about("rocketmq_messages_in", help), rows(|topic| topic.counts.messages))?;
    let help = "Their encoded bytes";
    out.counters(about("rocketmq_throughput_in", help), rows(|topic| topic.counts.bytes))?;
    let some = |of: fn(&TopicTraffic) -> u64| {
        let rows = topics.iter().filter(move |topic| of(topic) > 0);
        rows.map(move |topic| ([("topic", topic.topic.as_str())], of(topic)))
    };
    let commits = some(|topic| topic.counts.commits);
    out.counters(about("rocketmq_commit_messages", "Transactions that were committed"), commits)?;
    let rollbacks = some(|topic| topic.counts.rollbacks);
    out.counters(about("rocketmq_rollback_messages", "Transactions that were rolled back"), rollbacks)?;
    let timed = |of: fn(&TopicTraffic) -> u64| {
        let rows = topics.iter().filter(move |topic| of(topic) > 0);
        rows.map(move |topic| ([STORAGE[0], STORAGE[1], ("topic", topic.topic.as_str())], of(topic)))
    };
    let enqueued = timed(|topic| topic.counts.delayed);
    out.counters(about("rocketmq_timer_enqueue", "Messages stored with a delivery time"), enqueued)?;
    let dequeued = timed(|topic| topic.counts.delays_ended);
    out.counters(about("rocketmq_timer_dequeue", "Messages whose delivery time came"), dequeued)
}

fn type_of(topic: &TopicTraffic) -> &'static str {
    match topic.topic_type.name() {
        "NORMAL" => "normal",
        "FIFO" => "fifo",
        "DELAY" => "delay",
        "TRANSACTION" => "transaction",
        "MIXED" => "mixed",
        "PRIORITY" => "priority",
        _ => "unspecified",
    }
}

fn moved_out(out: &mut Families<'_>, leader: &LeaderSnapshot) -> fmt::Result {
    let rows = leader.groups.iter().flat_map(|group| {
        let labels = |is_retry| {
            [("consumer_group", group.group.as_str()), ("topic", group.topic.as_str()), NOT_SYSTEM, is_retry]
        };
        let counts = &group.counts;
        let again = Some((labels(("is_retry", "true")), counts.redeliveries)).filter(|(_, count)| *count > 0);
        let first = (labels(("is_retry", "false")), counts.deliveries.saturating_sub(counts.redeliveries));
        [first].into_iter().chain(again)
    });
    out.counters(
        about("rocketmq_messages_out", "Deliveries: messages leased to consumers, each as often as it was"),
        rows,
    )?;
    let labels = |group: &str, topic: &str| [("consumer_group", group.to_owned()), ("topic", topic.to_owned())];
    let rows = leader.groups.iter().map(|group| {
        let [of_group, of_topic] = labels(group.group.as_str(), group.topic.as_str());
        ([of_group, of_topic, ("is_system", "false".to_owned())], group.counts.bytes)
    });
    out.counters(about("rocketmq_throughput_out", "Their encoded bytes"), rows)?;
    let dead = leader.groups.iter().filter(|group| group.counts.dead_letters > 0).map(|group| {
        let labels = [("consumer_group", group.group.as_str()), ("topic", group.topic.as_str()), NOT_SYSTEM];
        (labels, group.counts.dead_letters)
    });
    out.counters(about("rocketmq_send_to_dlq_messages", "Messages that became dead letters"), dead)?;
    let acked = leader.groups.iter().map(|group| {
        let labels = [("consumer_group", group.group.as_str()), ("topic", group.topic.as_str()), NOT_SYSTEM];
        (labels, group.counts.acked)
    });
    out.counters(about("raftmq_messages_acked", "Messages settled by acks, and by consumers that pull"), acked)
}

fn waiting(out: &mut Families<'_>, rows: &[Backlog], now: Timestamp) -> fmt::Result {
    let table = |of: fn(&Backlog, Timestamp) -> u64| {
        rows.iter().map(move |row| {
            let labels = [
                ("consumer_group", row.group.as_str()),
                ("topic", row.topic.as_str()),
                ("is_retry", "false"),
                NOT_SYSTEM,
            ];
            (labels, of(row, now))
        })
    };
    let age = |at: Option<Timestamp>, now: Timestamp| at.map_or(0, |at| now.since(at).0);
    let help = "Messages that a group has not settled, those in flight included";
    out.gauges(about("rocketmq_consumer_lag_messages", help), table(|row, _| row.lag))?;
    let help = "Of these, messages that a consumer has: leased and not settled";
    out.gauges(about("rocketmq_consumer_inflight_messages", help), table(|row, _| row.in_flight))?;
    let help = "Of these, messages that wait for a consumer";
    let ready = table(|row, _| row.lag.saturating_sub(row.in_flight));
    out.gauges(about("rocketmq_consumer_ready_messages", help), ready)?;
    let help = "How long ago the oldest message was stored that a group has not settled";
    let lag_age: Vec<_> = rows.iter().map(|row| age(row.oldest_unsettled_at, now)).collect();
    let rows_of = |ages: Vec<u64>| table(|_, _| 0).zip(ages).map(|((labels, _), age)| (labels, age));
    out.gauges(about_in("rocketmq_consumer_lag_latency", "milliseconds", help), rows_of(lag_age))?;
    let help = "How long ago the oldest message was stored that waits for a consumer";
    let ready_age: Vec<_> = rows.iter().map(|row| age(row.oldest_ready_at, now)).collect();
    out.gauges(about_in("rocketmq_consumer_queueing_latency", "milliseconds", help), rows_of(ready_age))
}

fn of_the_table(out: &mut Families<'_>, table: &Table) -> fmt::Result {
    let help = "How long ago lag, delayed, half messages and dead letters were looked at";
    out.gauge(about_in("raftmq_metrics_age", "seconds", help), table.found_at.elapsed().as_secs_f64())?;
    let help = "How long that took";
    out.gauge(about_in("raftmq_metrics_took", "seconds", help), table.took.as_secs_f64())?;
    let left_out = [
        ("groups", table.backlogs.rows_left_out),
        ("delayed", u64::from(table.backlogs.delayed.is_none())),
        ("half", u64::from(table.backlogs.halves.is_none())),
    ];
    let help = "Groups in topics that are not shown, as there are too many; of delayed and half messages, 1 if they are not \
                counted for that reason";
    out.gauges(about("raftmq_metrics_left_out", help), left_out.map(|(kind, count)| ([("kind", kind)], count)))
}
