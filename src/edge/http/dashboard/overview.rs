//! The cockpit: what moved in the last hour, the busiest topics, the largest lags, what lies dead or waits.
//!
//! Counts and rates are what this node counted, which is what all count; lags are found as metrics find them, and shown for
//! fifty times as long as finding them took.

use std::cmp::Reverse;
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::broker::{Backlog, Backlogs, MinuteFlows};
use crate::edge::http::dashboard::refused::Refused;
use crate::edge::http::dashboard::site::Site;
use crate::edge::http::tables::{Table, Tables};
use crate::model::Timestamp;

/// Rows of each list.
const ROWS: usize = 10;
/// A fiftieth of a core at most, while somebody looks.
const FRESH_TIMES: u32 = 50;

pub(super) async fn overview(site: &Arc<Site>, tables: &Arc<Tables>) -> Result<Value, Refused> {
    let inspector = site.node.inspector();
    let shard = inspector.shard_counts();
    let busiest =
        inspector.busiest(ROWS).map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let topics: Vec<Value> = busiest
        .into_iter()
        .map(|(topic, periods)| {
            json!({
                "topic": topic.to_string(),
                "in_per_second": periods.per_second,
                "in_last_hour": periods.hour.messages,
                "in_today": periods.today.messages,
            })
        })
        .collect();
    let (taken_in, given_out) = (shard.taken_in, shard.given_out);
    let table = tables.of(&site.node, FRESH_TIMES).await;
    Ok(json!({
        "schema": "raftmq.overview.v1",
        "counted": { "node": site.node.settings().name.to_string(), "since_ms": shard.since.0 },
        "in": { "per_second": taken_in.per_second, "today": taken_in.today.messages, "yesterday": taken_in.yesterday.messages },
        "out": {
            "per_second": given_out.per_second,
            "today": given_out.today.deliveries,
            "yesterday": given_out.yesterday.deliveries,
        },
        "dead_today": given_out.today.dead_letters,
        "minutes": minutes(&inspector.minutes()),
        "topics": topics,
        "waiting": table.map(|table| waiting(&table)),
    }))
}

fn minutes(flows: &MinuteFlows) -> Value {
    let points =
        |flows: &[(Timestamp, u64)]| flows.iter().map(|(at, messages)| json!([at.0, messages])).collect::<Vec<_>>();
    json!({ "in": points(&flows.taken_in), "out": points(&flows.given_out) })
}

fn waiting(table: &Table) -> Value {
    let Backlogs { topics, groups, rows, rows_left_out, dead_letters, delayed, halves } = &*table.backlogs;
    let mut lags: Vec<&Backlog> = rows.iter().filter(|row| row.lag > 0).collect();
    lags.sort_by_key(|row| (Reverse(row.lag), &row.group, &row.topic));
    let lag = |row: &&Backlog| {
        json!({
            "group": row.group.to_string(),
            "topic": row.topic.to_string(),
            "lag": row.lag,
            "in_flight": row.in_flight,
            "oldest_unsettled_at_ms": row.oldest_unsettled_at.map(|at| at.0),
        })
    };
    let mut dead: Vec<_> = dead_letters.iter().filter(|(_, count)| *count > 0).collect();
    dead.sort_by_key(|(group, count)| (Reverse(*count), group));
    let count = |counts: &Option<Vec<(_, u64)>>| {
        counts.as_ref().map(|counts| counts.iter().map(|(_, count)| count).sum::<u64>())
    };
    json!({
        "age_ms": u64::try_from(table.found_at.elapsed().as_millis()).unwrap_or(u64::MAX),
        "topics": topics,
        "groups": groups,
        "lag": rows.iter().map(|row| row.lag).sum::<u64>(),
        "left_out": rows_left_out,
        "lags": lags.iter().take(ROWS).map(lag).collect::<Vec<_>>(),
        "dead": dead.iter().take(ROWS).map(|(group, count)| json!({ "group": group.to_string(), "dead": count })).collect::<Vec<_>>(),
        "delayed": count(delayed),
        "halves": count(halves),
    })
}
