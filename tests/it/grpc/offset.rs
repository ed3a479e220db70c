//! Pulls by queue offset, and the positions of groups.

use std::time::{Duration, Instant};

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls;
use crate::fixture::calls::send;
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delivered, ids, now_millis, numbered, timestamp};
use crate::fixture::requests::{by_sql, queue, queue_of, resource, seconds};
use crate::fixture::wire::{POLL, Wire};

/// The code, the ids and the next offset of one pull.
async fn pull(
    wire: &Wire,
    id: i32,
    offset: i64,
    wait: i64,
    condition: Option<&str>,
) -> (Code, Vec<String>, Option<i64>) {
    let request = v2::PullMessageRequest {
        group: Some(resource("pullers")),
        message_queue: queue_of("t", id),
        offset,
        batch_size: 4,
        filter_expression: condition.and_then(by_sql),
        long_polling_timeout: Some(seconds(wait)),
    };
    calls::pull(wire, request).await
}

#[test]
fn pulls_and_positions_are_as_the_contract_says() {
    with_cluster(&[], &[], async |cluster| {
        cluster.raftmq_ok(&["topic", "create", "t", "--queues", "1"]);
        let [a, b, _] = cluster.wires();
        let names = |numbers: std::ops::Range<u32>| numbers.map(|number| format!("m{number}")).collect::<Vec<_>>();
        let before = now_millis();
        for number in 0..6 {
            assert_eq!(a.send(vec![numbered("t", number)]).await.unwrap().status.unwrap().code(), Code::Ok);
            if number == 2 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        // Beyond what this node has applied, a pull waits for what was answered elsewhere.
        assert_eq!(pull(&b, 0, 6, 0, None).await, (Code::MessageNotFound, vec![], Some(6)));
        assert_eq!(pull(&b, 0, 0, 0, None).await, (Code::Ok, names(0..4), Some(4)));
        assert_eq!(pull(&b, 0, 4, 0, None).await, (Code::Ok, names(4..6), Some(6)));
        // Broadcast: each consumer of a group that keeps positions of its own gets everything.
        assert_eq!(pull(&a, 0, 0, 0, None).await, (Code::Ok, names(0..4), Some(4)));
        assert_eq!(pull(&a, 0, 4, 0, None).await, (Code::Ok, names(4..6), Some(6)));
        assert_eq!(pull(&b, 0, 6, 0, None).await, (Code::MessageNotFound, vec![], Some(6)));
        assert_eq!(pull(&b, 0, 0, 0, Some("number >= 5")).await, (Code::Ok, names(5..6), Some(6)));
        assert_eq!(pull(&b, 0, 7, 0, None).await, (Code::IllegalOffset, vec![], None));
        assert_eq!(pull(&b, 0, -1, 0, None).await.0, Code::IllegalOffset);
        assert_eq!(pull(&b, 1, 0, 0, None).await.0, Code::BadRequest, "there is no such queue");
        let waiting = pull(&b, 0, 6, 10, None);
        let sending = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            send(&a, numbered("t", 6)).await;
        };
        assert_eq!(tokio::join!(waiting, sending).0, (Code::Ok, names(6..7), Some(7)), "an arrival ends the wait");

        let query = async |wire: &Wire, policy: v2::QueryOffsetPolicy, at: Option<i64>| {
            let timestamp = at.map(timestamp);
            let request =
                v2::QueryOffsetRequest { message_queue: queue("t"), query_offset_policy: policy.into(), timestamp };
            let answer = wire.raw().query_offset(wire.request(request)).await.unwrap().into_inner();
            (answer.status.unwrap().code(), answer.offset)
        };
        use v2::QueryOffsetPolicy::{Beginning, End, Timestamp};
        assert_eq!(query(&b, Beginning, None).await, (Code::Ok, 0));
        assert_eq!(query(&a, End, None).await, (Code::Ok, 7));
        assert_eq!(query(&a, Timestamp, None).await.0, Code::BadRequest);
        assert_eq!(query(&a, Timestamp, Some(before - 1000)).await, (Code::Ok, 0));
        assert_eq!(query(&a, Timestamp, Some(now_millis() + 60_000)).await, (Code::Ok, 7));

        let position = async |wire: &Wire| {
            let request = v2::GetOffsetRequest { group: Some(resource("pullers")), message_queue: queue("t") };
            let answer = wire.raw().get_offset(wire.request(request)).await.unwrap().into_inner();
            (answer.status.unwrap().code(), answer.offset)
        };
        let update = async |wire: &Wire, offset: i64| {
            let request =
                v2::UpdateOffsetRequest { group: Some(resource("pullers")), message_queue: queue("t"), offset };
            let answer = wire.raw().update_offset(wire.request(request)).await.unwrap().into_inner();
            answer.status.unwrap().code()
        };
        // The first offset of a group is where it begins, not where the group would begin without it.
        cluster.raftmq_ok(&["group", "create", "pullers", "--consume-from", "last"]);
        assert_eq!(position(&a).await.0, Code::OffsetNotFound);
        assert_eq!(update(&a, 4).await, Code::Ok);
        assert_eq!(position(&b).await, (Code::Ok, 4));
        assert_eq!(update(&b, 5).await, Code::Ok);
        assert_eq!(position(&b).await, (Code::Ok, 5));

        // The same position is where receives go on, and an operator may move it.
        let (_, messages) = b.receive("pullers", "t", 16, POLL).await.unwrap();
        assert_eq!(ids(&messages), names(5..7));
        // P13: an update that comes late moves nothing back and forgets no lease.
        for late in [0, 4, 6] {
            assert_eq!(update(&a, late).await, Code::Ok);
        }
        assert_eq!(position(&b).await, (Code::Ok, 7));
        let (id, handle, _) = delivered(&messages[0]);
        let acked = b.ack("pullers", "t", vec![(id, handle)]).await.unwrap();
        assert_eq!(acked.status.unwrap().code(), Code::Ok);
        let dry = cluster.raftmq_ok(&["group", "reset-offset", "pullers", "t", "--to", "earliest", "--dry-run"]);
        assert!(dry.contains("QUEUE") && dry.contains('7'), "{dry}");
        assert_eq!(position(&a).await, (Code::Ok, 7), "a dry run changes nothing");
        cluster.raftmq_ok(&["group", "reset-offset", "pullers", "t", "--to-offset", "2"]);
        let (_, messages) = a.receive("pullers", "t", 16, POLL).await.unwrap();
        assert_eq!(ids(&messages), names(2..7));

        // What is stored with the group holds for its pulls too, beside their own filter.
        cluster.raftmq_ok(&["group", "update", "pullers", "--filter", "number >= 3"]);
        let until = Instant::now() + Duration::from_secs(10);
        while pull(&b, 0, 0, 0, None).await.1 != names(3..7) {
            assert!(Instant::now() < until, "the group's filter does not hold: {:?}", pull(&b, 0, 0, 0, None).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(pull(&b, 0, 0, 0, Some("number < 5")).await.1, names(3..5));
    });
}
