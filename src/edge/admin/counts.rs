//! Statistics. Calls `node/counts`, and `broker/inspect` for what groups have not settled.

use bytes::{BufMut, Bytes, BytesMut};
use tonic::Status;

use crate::broker::{CountsKey, CountsOf, CountsQuery, CountsRow, Flow, Periods};
use crate::edge::admin::convert::{find_topic, group_name, refuse};
use crate::model::codec::Reader;
use crate::model::counts::{GroupCounts, TopicCounts};
use crate::model::{GroupId, NodeId, TopicId};
use crate::node::Node;
use crate::proto::admin as wire;

/// Rows of one answer.
const ROWS_MAX: usize = 512;

pub(super) async fn counts(node: &Node, request: wire::CountsRequest) -> Result<wire::CountsResponse, Status> {
    let cursor = read_cursor(request.cursor)?;
    let topic = if request.topic.is_empty() { None } else { Some(find_topic(node, &request.topic).await?.name) };
    let group = if request.group.is_empty() { None } else { Some(group_name(&request.group)?) };
    if let Some(group) = &group {
        node.inspector().find_group(group).await.map_err(refuse)?;
    }
    let (of, after) = cursor.unzip();
    let query = CountsQuery { topic, group, after, limit: ROWS_MAX };
    let counts = node.counts(&query, of).await.map_err(refuse)?;
    if counts.leads {
        // So that what groups have not settled is not older than what was counted; without a leader it may be.
        node.inspector().read_barrier().await.map_err(refuse)?;
    }
    let mut rows = Vec::with_capacity(counts.page.rows.len());
    for counted in counts.page.rows {
        let lag = match &counted.of {
            CountsOf::Group(group, _) => node.inspector().lag(&counted.topic, group).map_err(refuse)?,
            CountsOf::Topic(_) => None,
        };
        rows.push(wire::CountsRow { lag, ..row(counted) });
        tokio::task::yield_now().await;
    }
    Ok(wire::CountsResponse {
        node: counts.node.name().to_string(),
        leads: counts.leads,
        since_ms: counts.shard.since.0,
        counted_after: counts.shard.counted_after.0,
        all_topics: Some(of_topic(counts.shard.taken_in)),
        all_groups: Some(of_group(counts.shard.given_out)),
        rows,
        cursor: counts.page.next.map(|next| put_cursor(counts.node, next)).unwrap_or_default(),
    })
}

fn row(row: CountsRow) -> wire::CountsRow {
    let topic = row.topic.to_string();
    match row.of {
        CountsOf::Topic(periods) => wire::CountsRow { topic, of_topic: Some(of_topic(periods)), ..Default::default() },
        CountsOf::Group(group, periods) => {
            wire::CountsRow { topic, of_group: Some(of_group(periods)), group: group.to_string(), ..Default::default() }
        }
    }
}

fn of_topic(periods: Periods<TopicCounts>) -> wire::TopicPeriods {
    let counts = |counts: TopicCounts| {
        let TopicCounts { messages, bytes, delayed, delays_ended, halves, commits, rollbacks } = counts;
        Some(wire::TopicCounts { messages, bytes, delayed, delays_ended, halves, commits, rollbacks })
    };
    let Periods { total, today, yesterday, per_second, hour, day } = periods;
    let (total, today, yesterday) = (counts(total), counts(today), counts(yesterday));
    wire::TopicPeriods { total, today, yesterday, per_second, hour: flow(hour), day: flow(day) }
}

fn of_group(periods: Periods<GroupCounts>) -> wire::GroupPeriods {
    let counts = |counts: GroupCounts| {
        let GroupCounts { deliveries, bytes, redeliveries, acked, dead_letters } = counts;
        Some(wire::GroupCounts { deliveries, bytes, redeliveries, acked, dead_letters })
    };
    let Periods { total, today, yesterday, per_second, hour, day } = periods;
    let (total, today, yesterday) = (counts(total), counts(today), counts(yesterday));
    wire::GroupPeriods { total, today, yesterday, per_second, hour: flow(hour), day: flow(day) }
}

fn flow(flow: Flow) -> Option<wire::Flow> {
    Some(wire::Flow { messages: flow.messages, bytes: flow.bytes })
}

/// Names the node that counted: another one's counts are not the rest of its.
fn put_cursor(node: NodeId, next: CountsKey) -> Bytes {
    let mut out = BytesMut::with_capacity(17);
    out.put_u64(node.0);
    let (topic, group) = match next {
        CountsKey::Topic(topic) => (topic, None),
        CountsKey::Group(topic, group) => (topic, Some(group)),
    };
    out.put_u32(topic.0);
    if let Some(group) = group {
        out.put_u32(group.0);
    }
    out.freeze()
}

fn read_cursor(bytes: Bytes) -> Result<Option<(NodeId, CountsKey)>, Status> {
    let length = bytes.len();
    let mut reader = Reader::new(bytes, "cursor");
    let mut read = || {
        let (node, topic) = (NodeId(reader.u64().ok()?), TopicId(reader.u32().ok()?));
        let key = match length {
            12 => CountsKey::Topic(topic),
            16 => CountsKey::Group(topic, GroupId(reader.u32().ok()?)),
            _ => return None,
        };
        Some((node, key))
    };
    match read() {
        Some(cursor) => Ok(Some(cursor)),
        None if length == 0 => Ok(None),
        None => Err(Status::invalid_argument("the cursor is not one that this service gave")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_another_text_is_refused() {
        for key in [CountsKey::Topic(TopicId(7)), CountsKey::Group(TopicId(7), GroupId(8))] {
            let bytes = put_cursor(NodeId(2), key);
            assert_eq!(read_cursor(bytes.clone()).unwrap(), Some((NodeId(2), key)));
            assert!(read_cursor(bytes.slice(1..)).is_err());
        }
        assert_eq!(read_cursor(Bytes::new()).unwrap(), None);
    }
}
