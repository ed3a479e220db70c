//! Topics, queues and positions of groups as the commands print them.

use crate::documents::topics::{PositionRow, QueueRow, TopicRow};
use crate::model::{Millis, Timestamp};

use crate::cli::render;
use crate::cli::render::{Column, grouped, known, rough, utc};

/// How long its messages are kept; `default` is the nodes' `fileReservedTime`.
pub fn retention(topic: &TopicRow) -> String {
    topic.retention_ms.map_or_else(|| "default".to_owned(), |kept_for| Millis(kept_for).in_one_unit())
}

pub fn describe_text(topic: &TopicRow, queues: &[QueueRow], positions: &[PositionRow], now: Timestamp) -> String {
    let age = now.since(Timestamp(topic.created_at_ms));
    let head = format!(
        "{}  type {}  perm {}  queues {}  messages {}  retention {}  created {} ago\n",
        topic.topic,
        topic.r#type,
        topic.permission,
        topic.queues,
        grouped(topic.messages),
        retention(topic),
        rough(Millis(age.0))
    );
    let columns = [
        Column::Number("QUEUE"),
        Column::Number("MIN"),
        Column::Number("MAX"),
        Column::Text("OLDEST"),
        Column::Text("LAST STORED"),
        Column::Text("GROUP"),
        Column::Number("COMMITTED"),
        Column::Number("INFLIGHT"),
        Column::Number("LAG"),
    ];
    let mut rows = Vec::new();
    for queue in queues {
        let facts = [
            queue.queue.to_string(),
            queue.min_offset.to_string(),
            queue.max_offset.to_string(),
            known(queue.oldest_stored_at_ms.map(|at| utc(Timestamp(at)))),
            known(queue.last_stored_at_ms.map(|at| utc(Timestamp(at)))),
        ];
        let mut groups = positions.iter().filter(|position| position.queue == queue.queue).peekable();
        if groups.peek().is_none() {
            rows.push([facts.as_slice(), &["-", "-", "-", "-"].map(str::to_owned)].concat());
        }
        for position in groups {
            let place = [
                position.group.clone(),
                position.group_offset.to_string(),
                position.in_flight.to_string(),
                position.lag.to_string(),
            ];
            rows.push([facts.as_slice(), &place].concat());
        }
    }
    head + &render::table(&columns, rows.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::topics::row;
    use crate::proto::admin::Topic;

    #[test]
    fn a_description_shows_every_queue_and_group() {
        let topic = row(Topic {
            name: "demo".into(),
            r#type: "NORMAL".into(),
            queues: 2,
            permission: 6,
            messages: 1000,
            retention_ms: Some(129_600_000),
            ..Default::default()
        });
        let queue = |queue, at| QueueRow {
            queue,
            min_offset: 25,
            max_offset: 125,
            last_stored_at_ms: at,
            oldest_stored_at_ms: at,
        };
        let position = PositionRow {
            group: "g".into(),
            topic: "demo".into(),
            queue: 1,
            max_offset: 125,
            group_offset: 120,
            in_flight: 2,
            lag: 5,
            lost: 0,
            ..PositionRow::default()
        };
        let text = describe_text(&topic, &[queue(0, None), queue(1, Some(0))], &[position], Timestamp(125_000));
        assert_eq!(
            text,
            "demo  type NORMAL  perm RW  queues 2  messages 1,000  retention 36h  created 2m ago\n\
             QUEUE  MIN  MAX  OLDEST               LAST STORED          GROUP  COMMITTED  INFLIGHT  LAG\n    \
             0   25  125  -                    -                    -              -         -    -\n    \
             1   25  125  1970-01-01 00:00:00  1970-01-01 00:00:00  g            120         2    5\n"
        );
    }
}
