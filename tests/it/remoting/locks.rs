//! Locks of queues (remoting §6.5): replicated, so any node gives them and a leader's death changes nothing.

use raftmq::proto::remoting::queue_data::LockedQueues;
use raftmq::proto::remoting::{Fields, RequestCode, ResponseCode};

use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;

fn body(client: &str, queues: &[(&str, u32)]) -> Vec<u8> {
    let queue =
        |(topic, queue): &(&str, u32)| serde_json::json!({"topic": topic, "brokerName": "Test00", "queueId": queue});
    let queues: Vec<_> = queues.iter().map(queue).collect();
    serde_json::json!({"consumerGroup": "g", "clientId": client, "mqSet": queues}).to_string().into_bytes()
}

/// The queues of `t` that are locked for the client now.
async fn lock(at: &mut Classic, client: &str, queues: &[u32]) -> Vec<u32> {
    let queues: Vec<_> = queues.iter().map(|queue| ("t", *queue)).collect();
    let answer = at.ask(RequestCode::LockBatchMq, Fields::default(), &body(client, &queues)).await;
    assert_eq!(answer.header.code, 0, "{answer:?}");
    let locked: LockedQueues = serde_json::from_slice(&answer.body).unwrap();
    assert!(locked.queues.iter().all(|queue| (queue.topic.as_str(), queue.broker_name.as_str()) == ("t", "Test00")));
    locked.queues.into_iter().map(|queue| queue.queue).collect()
}

#[test]
fn a_queue_is_locked_for_one_client_of_a_group_through_every_node_and_over_the_death_of_the_leader() {
    with_cluster(&[], &[("t", "NORMAL")], async |mut cluster| {
        let leader = cluster.wait_for_leader();
        let [one, other] = [1, 2].map(|next| (leader + next) % 3);
        let mut first = Classic::connect(&cluster.address(one)).await;
        let mut second = Classic::connect(&cluster.address(other)).await;
        assert_eq!(first.heartbeat("a@1", "g", "t").await, 0);
        assert_eq!(second.heartbeat("b@1", "g", "t").await, 0);
        assert_eq!(lock(&mut first, "a@1", &[0, 1, 8]).await, [0, 1], "there is no queue 8");
        assert_eq!(lock(&mut second, "b@1", &[0, 1, 2]).await, [2]);
        cluster.kill(leader);
        cluster.wait_for_leader();
        assert_eq!(lock(&mut second, "b@1", &[0, 1, 2]).await, [2]);
        assert_eq!(lock(&mut first, "a@1", &[0, 1, 2]).await, [0, 1]);
        let unlock = RequestCode::UnlockBatchMq;
        for (client, free) in [("b@1", vec![]), ("a@1", vec![0])] {
            let answer = first.ask(unlock, Fields::default(), &body(client, &[("t", 0)])).await;
            assert_eq!(answer.header.code, 0, "{answer:?}");
            assert_eq!(lock(&mut second, "b@1", &[0, 1]).await, free, "after {client} gave it up");
        }
        // A goodbye gives up everything.
        let goodbye: Fields = [("clientID", "a@1"), ("consumerGroup", "g")].into_iter().collect();
        assert_eq!(first.ask(RequestCode::UnregisterClient, goodbye, b"").await.header.code, 0);
        assert_eq!(lock(&mut second, "b@1", &[0, 1]).await, [0, 1]);
        let many: Vec<_> = (0..4097).map(|queue| ("t", queue)).collect();
        for (body, code) in [
            (body("a@1", &many), ResponseCode::InvalidParameter),
            (body("", &[("t", 0)]), ResponseCode::InvalidParameter),
            (body("a@1", &[("a b", 0)]), ResponseCode::InvalidParameter),
            (b"{".to_vec(), ResponseCode::InvalidParameter),
        ] {
            let answer = second.ask(RequestCode::LockBatchMq, Fields::default(), &body).await;
            assert_eq!((answer.header.code, answer.header.remark.is_some()), (code as i32, true));
        }
    });
}
