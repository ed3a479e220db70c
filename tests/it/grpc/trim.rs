//! What consumers see when messages go before they had come to them (contract §20, P2). An operator's trim stands for
//! retention, which proposes the same command when time has passed.

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls;
use crate::fixture::calls::{ack, ack_code, receive, send, take};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delivered, ids, numbered, ordered};
use crate::fixture::requests::{poll, push_poll, queue, resource};
use crate::fixture::wire::Wire;

/// Messages that go.
const OLD: u32 = 20;
/// Messages in all.
const ALL: u32 = 24;

async fn pull(wire: &Wire, offset: i64) -> (Code, Vec<String>, Option<i64>) {
    let group = Some(resource("pullers"));
    let request =
        v2::PullMessageRequest { group, message_queue: queue("t"), offset, batch_size: 16, ..Default::default() };
    calls::pull(wire, request).await
}

async fn beginning(wire: &Wire) -> i64 {
    let query_offset_policy = v2::QueryOffsetPolicy::Beginning.into();
    let request = v2::QueryOffsetRequest { message_queue: queue("t"), query_offset_policy, timestamp: None };
    let answer = wire.raw().query_offset(wire.request(request)).await.unwrap().into_inner();
    assert_eq!(answer.status.unwrap().code(), Code::Ok);
    answer.offset
}

async fn set_position(wire: &Wire, group: &str, offset: i64) {
    let request = v2::UpdateOffsetRequest { group: Some(resource(group)), message_queue: queue("t"), offset };
    let answer = wire.raw().update_offset(wire.request(request)).await.unwrap().into_inner();
    assert_eq!(answer.status.unwrap().code(), Code::Ok);
}

fn names(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("m{number}")).collect()
}

#[test]
fn p2_what_is_below_the_minimum_is_refused_to_pulls_and_passed_over_by_consumers() {
    with_cluster(&[], &[], async |cluster| {
        cluster.raftmq_ok(&["topic", "create", "t", "--queues", "1"]);
        cluster.raftmq_ok(&["topic", "create", "lines", "--type", "FIFO", "--queues", "1"]);
        let wires = cluster.wires();
        let [a, b, c] = &wires;
        for group in ["simple", "push", "idle", "lines"] {
            cluster.raftmq_ok(&["group", "create", group, "--consume-from", "first"]);
        }
        for number in 0..OLD {
            send(a, numbered("t", number)).await;
            send(a, ordered("lines", "line", number)).await;
        }
        // Each has a position: one settled three and has two at work, one settled five, one only said where it begins.
        let three = v2::ReceiveMessageRequest { batch_size: 3, ..poll("simple", "t") };
        take(std::slice::from_ref(a), &three, 3).await;
        let at_work = receive(a, v2::ReceiveMessageRequest { batch_size: 2, ..three.clone() }).await;
        assert_eq!(ids(&at_work), names(3..5));
        take(std::slice::from_ref(b), &v2::ReceiveMessageRequest { batch_size: 5, ..push_poll("push", "t") }, 5).await;
        set_position(c, "idle", 1).await;
        // The line has one at work and the rest waits for it.
        let first_of_line = receive(a, v2::ReceiveMessageRequest { batch_size: 1, ..poll("lines", "lines") }).await;
        assert_eq!(first_of_line.len(), 1);

        let at = cluster.json(&["topic", "describe", "t"])["queues"][0]["last_stored_at_ms"].as_u64().unwrap() + 1;
        for number in OLD..ALL {
            send(b, numbered("t", number)).await;
        }
        let trimmed = cluster.json(&["cluster", "trim", "--before", &at.to_string(), "--topic", "t", "--yes"]);
        assert_eq!(trimmed["messages"], OLD, "{trimmed}");
        let (old, all) = (i64::from(OLD), i64::from(ALL));
        for wire in &wires {
            for below in [0, 1, old - 1] {
                assert_eq!(pull(wire, below).await, (Code::IllegalOffset, vec![], None), "{below}");
            }
            assert_eq!(pull(wire, old).await, (Code::Ok, names(OLD..ALL), Some(all)));
            assert_eq!(beginning(wire).await, old);
        }

        // Through another node each: everything that is still there, once, and nothing else.
        assert_eq!(ids(&take(std::slice::from_ref(b), &poll("simple", "t"), 4).await), names(OLD..ALL));
        assert_eq!(ids(&take(std::slice::from_ref(c), &push_poll("push", "t"), 4).await), names(OLD..ALL));
        assert_eq!(ids(&take(std::slice::from_ref(a), &poll("idle", "t"), 4).await), names(OLD..ALL));
        // What was delivered before can still be acked.
        ack(c, "simple", "t", &at_work).await;
        let lost = |group: &str| {
            let position = cluster.json(&["group", "describe", group])["positions"][0].clone();
            assert_eq!((&position["lag"], &position["group_offset"]), (&0.into(), &all.into()), "{group}: {position}");
            position["lost"].as_u64().unwrap()
        };
        assert_eq!(["simple", "push", "idle"].map(lost), [15, 15, 19]);
        let table = cluster.raftmq_ok(&["group", "describe", "idle"]);
        assert!(table.contains("\nlost 19: they were deleted"), "{table}");
        assert!(table.lines().any(|line| line.ends_with(" LOST")) && table.contains(" 19\n"), "{table}");

        // A line whose waiting messages all went is not stuck: the next message comes when the first one is settled.
        cluster.raftmq_ok(&["cluster", "trim", "--before", "0s", "--topic", "lines", "--yes"]);
        let described = cluster.json(&["topic", "describe", "lines"]);
        assert_eq!(described["queues"][0]["min_offset"], OLD, "{described}");
        assert_eq!(described["queues"][0]["oldest_stored_at_ms"], serde_json::Value::Null);
        send(b, ordered("lines", "line", OLD)).await;
        let (_, handle, _) = delivered(&first_of_line[0]);
        assert_eq!(ack_code(b, "lines", "lines", &handle).await, Code::Ok);
        let next = receive(c, poll("lines", "lines")).await;
        assert_eq!(ids(&next), [format!("line{OLD}")]);
        ack(c, "lines", "lines", &next).await;
    });
}
