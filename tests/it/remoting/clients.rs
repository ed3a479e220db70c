//! Heartbeats and who is in a group (remoting §6.3).

use raftmq::proto::remoting::{Fields, RequestCode, ResponseCode};

use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;

#[test]
fn consumers_are_in_their_group_while_their_connection_lives_and_know_of_each_other() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        for node in 0..3 {
            let address = cluster.address(node);
            let mut first = Classic::connect(&address).await;
            assert_eq!(first.consumers("g").await, Vec::<String>::new());
            assert_eq!(first.heartbeat("a@1", "g", "t").await, ResponseCode::Success as i32);
            assert_eq!(first.consumers("g").await, ["a@1"]);
            let mut second = Classic::connect(&address).await;
            let notified = |asked: raftmq::proto::remoting::Frame| {
                assert_eq!(asked.header.code, RequestCode::NotifyConsumerIdsChanged as i32);
                assert!(asked.header.is_oneway());
                assert_eq!(asked.header.fields.text("consumerGroup"), Ok("g"));
            };
            notified(first.next_asked().await);
            assert_eq!(second.heartbeat("b@1", "g", "t").await, ResponseCode::Success as i32);
            notified(first.next_asked().await);
            assert_eq!(first.consumers("g").await, ["a@1", "b@1"]);
            // A goodbye, and then a connection that ends without one.
            let goodbye = |client: &'static str| -> Fields {
                [("clientID", client), ("consumerGroup", "g")].into_iter().collect()
            };
            second.ask(RequestCode::UnregisterClient, goodbye("a@1"), b"").await;
            assert_eq!(first.consumers("g").await, ["a@1", "b@1"], "another client's goodbye is not believed");
            second.ask(RequestCode::UnregisterClient, goodbye("b@1"), b"").await;
            notified(first.next_asked().await);
            assert_eq!(first.consumers("g").await, ["a@1"]);
            assert_eq!(second.heartbeat("b@1", "g", "t").await, ResponseCode::Success as i32);
            notified(first.next_asked().await);
            drop(second);
            notified(first.next_asked().await);
            assert_eq!(first.consumers("g").await, ["a@1"]);
            // The others know it no longer than this node does.
            first.ask(RequestCode::UnregisterClient, goodbye("a@1"), b"").await;
        }
        let topics = cluster.raftmq_ok(&["topic", "list"]);
        assert!(topics.contains("%RETRY%g"), "{topics}");
    });
}

#[test]
fn heartbeats_out_of_bounds_are_refused_and_make_nothing() {
    with_cluster(&[], &[], async |cluster| {
        let mut client = Classic::connect(&cluster.address(0)).await;
        for (client_id, group) in [("", "g"), (&"c".repeat(256)[..], "g"), ("c", "a b"), ("c", "CID_RMQ_SYS_x")] {
            let code = client.heartbeat(client_id, group, "t").await;
            assert_eq!(code, ResponseCode::InvalidParameter as i32, "{client_id} {group}");
        }
        for body in [&b""[..], b"{}", b"[1]", b"{\"clientID\":1}"] {
            let answer = client.ask(RequestCode::HeartBeat, Fields::default(), body).await;
            assert_eq!(answer.header.code, ResponseCode::InvalidParameter as i32);
        }
        assert!(client.consumers("g").await.is_empty());
        assert!(!cluster.raftmq_ok(&["topic", "list"]).contains("RETRY"));
    });
}
