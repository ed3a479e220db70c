//! A group is consumed over one protocol at a time, and the next one goes on where it was.

use std::time::{Duration, Instant};

use raftmq::proto::remoting::{Fields, RequestCode, ResponseCode};
use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::{ack, leave, receive, refused, send};
use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;
use crate::fixture::http::get;
use crate::fixture::messages::{ids, message};
use crate::fixture::requests::poll;
use crate::fixture::telemetry::{heard, settings, subscribed, telemetry};
use crate::fixture::wire::CALL;

/// A commit is in the log half a second later, and an end of a connection is noticed; this is for a loaded machine.
const FOLLOWS: Duration = Duration::from_secs(30);

async fn offset(client: &mut Classic) -> i64 {
    let fields: Fields = [("consumerGroup", "g"), ("topic", "t"), ("queueId", "0")].into_iter().collect();
    let answer = client.ask(RequestCode::QueryConsumerOffset, fields, b"").await;
    answer.header.fields.number("offset").unwrap()
}

#[test]
fn the_second_protocol_is_refused_until_the_first_is_gone_and_goes_on_where_that_was() {
    with_cluster(&[], &[], async |cluster| {
        cluster.raftmq_ok(&["topic", "create", "t", "--queues", "1"]);
        let wire = &cluster.wires_within(CALL)[0];
        for id in ["a", "b", "c", "d"] {
            send(wire, message("t", id, id)).await;
        }
        let mine = settings(v2::ClientType::SimpleConsumer, subscribed("g", "t", None));
        let mut stream = telemetry(wire, "JAVA", &mine, 1).await;
        heard(&mut stream, "JAVA").await;
        let got = receive(wire, v2::ReceiveMessageRequest { batch_size: 3, ..poll("g", "t") }).await;
        assert_eq!(ids(&got), ["a", "b", "c"]);
        ack(wire, "g", "t", &got[..1]).await;
        // It is another node's client.
        let mut classic = Classic::connect(&cluster.address(1)).await;
        let beat = serde_json::json!({"clientID": "c@1", "consumerDataSet": [{"groupName": "g", "messageModel": "CLUSTERING",
            "subscriptionDataSet": [{"topic": "t", "subString": "*", "subVersion": 1}]}]});
        let answer = classic.ask(RequestCode::HeartBeat, Fields::default(), beat.to_string().as_bytes()).await;
        let remark = answer.header.remark.unwrap_or_default();
        assert_eq!(answer.header.code, ResponseCode::NoPermission as i32);
        assert!(
            remark.contains("'g' is consumed over gRPC by client") && remark.contains("use another group"),
            "{remark}"
        );
        assert!(classic.consumers("g").await.is_empty());
        assert_eq!(leave(wire, Some("g")).await, Code::Ok);
        drop(stream);
        // As real clients do, it sends its heartbeats to every node.
        let mut connections = Vec::new();
        for node in [1, 0, 2] {
            let mut connection = Classic::connect(&cluster.address(node)).await;
            assert_eq!(connection.heartbeat("c@1", "g", "t").await, 0, "n{node}");
            assert_eq!(offset(&mut connection).await, 1, "the first that was leased and not settled");
            connections.push(connection);
        }
        let listed = get(&cluster.http_address(0), "/ui/api/clients").body;
        assert!(listed.contains("c@1") && listed.contains("JAVA"), "{listed}");
        let described = cluster.raftmq_ok(&["group", "describe", "g"]);
        assert!(described.contains("c@1") && described.contains("members 1"), "{described}");
        let status = refused(&cluster.wires_within(CALL)[1], poll("g", "t")).await;
        assert_eq!(status.code(), Code::Forbidden);
        assert!(status.message.contains("over the classic protocol by client 'c@1'"), "{}", status.message);
        let fields = |more: &[(&'static str, &'static str)]| more.iter().copied().collect::<Fields>();
        let commit = fields(&[("consumerGroup", "g"), ("topic", "t"), ("queueId", "0"), ("commitOffset", "3")]);
        let committed = connections[0].ask(RequestCode::UpdateConsumerOffset, commit, b"").await;
        assert_eq!(committed.header.code, 0);
        let goodbye = fields(&[("clientID", "c@1"), ("consumerGroup", "g")]);
        let gone = connections[0].ask(RequestCode::UnregisterClient, goodbye, b"").await;
        assert_eq!(gone.header.code, 0);
        drop(connections);
        // The other connections ended without a goodbye.
        let until = Instant::now() + FOLLOWS;
        loop {
            let (status, got) = wire.receive("g", "t", 8, Duration::from_secs(5)).await.unwrap();
            if status.code() == Code::Ok {
                assert_eq!(ids(&got), ["d"]);
                break;
            }
            assert!(status.code() == Code::Forbidden && Instant::now() < until, "{status:?}\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}
