//! What is there for producers beside sends: answers to their messages (remoting §5.3), recalls (remoting §5.2), and lists of them
//! for tools (remoting §6.7).

use raftmq::proto::remoting::connections::{ProducerConnections, ProducerTable};
use raftmq::proto::remoting::{Fields, RequestCode, ResponseCode};

use super::later::{property, queue};
use super::send::fields;
use super::tools::{all, asked};
use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;

const FAILED: i32 = ResponseCode::SystemError as i32;

#[test]
fn an_answer_to_a_message_goes_to_the_producer_that_waits_for_it_and_is_stored_nowhere() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let mut waiting = Classic::connect(&cluster.address(1)).await;
        let mut consumer = Classic::connect(&cluster.address(1)).await;
        assert_eq!(waiting.producer_heartbeat("p@1", "pg").await, 0);
        // The message says in which cluster it is, from which consumers derive where answers go; others do not.
        let asks = "CORRELATION_ID\u{1}x\u{2}REPLY_TO_CLIENT\u{1}p@1\u{2}TTL\u{1}3000\u{2}";
        waiting.ask(RequestCode::SendMessageV2, fields("t", 0, asks), b"what").await;
        waiting.ask(RequestCode::SendMessageV2, fields("t", 0, "a\u{1}b\u{2}"), b"plain").await;
        let messages = queue(&mut consumer, "t", 0, 2).await;
        assert_eq!([0, 1].map(|at| property(&messages[at], "CLUSTER")), [Some("TestCluster"), None]);
        assert_eq!(property(&messages[0], "REPLY_TO_CLIENT"), Some("p@1"));
        let route = consumer.route("TestCluster_REPLY_TOPIC").await.unwrap();
        assert!(route.queue_datas.iter().any(|queues| queues.perm == 6), "{route:?}");
        let properties = "MSG_TYPE\u{1}reply\u{2}CORRELATION_ID\u{1}x\u{2}REPLY_TO_CLIENT\u{1}p@1\u{2}";
        let short = fields("TestCluster_REPLY_TOPIC", 0, properties);
        let names = ["producerGroup", "topic", "defaultTopic", "defaultTopicQueueNums", "sysFlag", "bornTimestamp"];
        let mut long: Fields = names.into_iter().zip(short.iter().map(|(_, value)| value)).collect();
        for (name, value) in [("queueId", "0"), ("flag", "0"), ("properties", properties)] {
            long.put(name, value);
        }
        for (code, asking) in [(RequestCode::SendReplyMessageV2, short.clone()), (RequestCode::SendReplyMessage, long)]
        {
            let opaque = consumer.put(code as i32, false, asking, b"that").await;
            let pushed = asked(&mut waiting, RequestCode::PushReplyMessageToClient).await;
            let said = &pushed.header.fields;
            assert_eq!(
                (said.text("topic"), said.text("producerGroup")),
                (Ok("TestCluster_REPLY_TOPIC"), Ok("producers"))
            );
            let properties = said.text("properties").unwrap();
            assert!(properties.contains("CORRELATION_ID\u{1}x\u{2}") && properties.contains("PUSH_REPLY_TIME\u{1}"));
            for name in ["bornHost", "storeHost", "storeTimestamp", "bornTimestamp", "queueId", "sysFlag", "flag"] {
                assert!(said.get(name).is_some(), "{name}: {said:?}");
            }
            assert_eq!(&pushed.body[..], b"that");
            waiting.answer(&pushed, ResponseCode::Success, b"").await;
            let answer = consumer.answer_to(opaque).await.header;
            assert_eq!(
                (answer.code, answer.fields.get("queueId"), answer.fields.get("msgId").is_some()),
                (0, Some("0"), true)
            );
        }
        // A client that does not take it, one that is not there, and an answer to nobody.
        let opaque = consumer.put(RequestCode::SendReplyMessageV2 as i32, false, short, b"late").await;
        let pushed = asked(&mut waiting, RequestCode::PushReplyMessageToClient).await;
        waiting.answer(&pushed, ResponseCode::SystemError, b"").await;
        assert_eq!(consumer.answer_to(opaque).await.header.code, FAILED);
        for properties in ["REPLY_TO_CLIENT\u{1}p@2\u{2}", "CORRELATION_ID\u{1}x\u{2}"] {
            let refused = consumer
                .ask(RequestCode::SendReplyMessageV2, fields("TestCluster_REPLY_TOPIC", 0, properties), b"")
                .await;
            assert_eq!(refused.header.code, FAILED, "{refused:?}");
        }
        assert!(!cluster.raftmq_ok(&["topic", "list"]).contains("REPLY_TOPIC"));
    });
}

#[test]
fn a_delayed_message_is_recalled_by_the_handle_that_its_send_was_answered() {
    // The type of the topic does not matter to classic clients.
    with_cluster(&[], &[("t", "NORMAL"), ("u", "NORMAL")], async |cluster| {
        let mut client = Classic::connect(&cluster.address(1)).await;
        let later = fields("t", 0, "UNIQ_KEY\u{1}WAITS-1\u{2}TIMER_DELAY_SEC\u{1}600\u{2}");
        let sent = client.ask(RequestCode::SendMessageV2, later, b"late").await.header.fields;
        let handle = sent.text("recallHandle").unwrap();
        let now = client.ask(RequestCode::SendMessageV2, fields("t", 0, ""), b"now").await.header.fields;
        assert_eq!(now.get("recallHandle"), None, "there is nothing to recall");
        assert!(cluster.raftmq_ok(&["message", "delayed", "t"]).contains("WAITS-1"));
        let recall =
            |topic: &str, handle: &str| all(&[("producerGroup", "pg"), ("topic", topic), ("recallHandle", handle)]);
        let refused = ResponseCode::IllegalOperation as i32;
        for (topic, handle) in [("u", handle), ("t", "no handle"), ("t", &handle[1..])] {
            let answer = client.ask(RequestCode::RecallMessage, recall(topic, handle), b"").await;
            assert_eq!(answer.header.code, refused, "{topic} {handle}: {answer:?}");
        }
        let mut other = Classic::connect(&cluster.address(2)).await;
        let recalled = other.ask(RequestCode::RecallMessage, recall("t", handle), b"").await.header;
        assert_eq!((recalled.code, recalled.fields.text("msgId")), (0, Ok("WAITS-1")));
        assert!(!cluster.raftmq_ok(&["message", "delayed", "t"]).contains("WAITS-1"));
        let again = client.ask(RequestCode::RecallMessage, recall("t", handle), b"").await.header;
        assert_eq!(again.code, refused, "{again:?}");
    });
}

#[test]
fn tools_see_the_producers_that_are_connected_by_group_and_all() {
    with_cluster(&[], &[], async |cluster| {
        let mut tool = Classic::connect(&cluster.address(2)).await;
        let of_group = |group: &str| all(&[("producerGroup", group)]);
        let list = RequestCode::GetProducerConnectionList;
        assert_eq!(tool.ask(list, of_group("pg"), b"").await.header.code, FAILED, "there are none");
        let mut first = Classic::connect(&cluster.address(2)).await;
        let mut second = Classic::connect(&cluster.address(2)).await;
        second.version = 409;
        for (client, id, groups) in [(&mut first, "p@1", &["pg", "inner"][..]), (&mut second, "p@2", &["pg"])] {
            for group in groups {
                assert_eq!(client.producer_heartbeat(id, group).await, 0);
            }
        }
        let answer = tool.ask(list, of_group("pg"), b"").await;
        let known = serde_json::from_slice::<ProducerConnections>(&answer.body).unwrap().connection_set;
        let rows: Vec<_> = known.iter().map(|row| (&row.client_id[..], &row.language[..], row.version)).collect();
        assert_eq!(rows, [("p@1", "JAVA", 479), ("p@2", "JAVA", 409)]);
        assert!(known.iter().all(|row| row.client_addr.starts_with("127.0.0.1:")), "{known:?}");
        let answer = tool.ask(RequestCode::GetAllProducerInfo, Fields::default(), b"").await;
        let table = serde_json::from_slice::<ProducerTable>(&answer.body).unwrap().data;
        let counts: Vec<_> = table.iter().map(|(group, rows)| (&group[..], rows.len())).collect();
        assert_eq!(counts, [("inner", 1), ("pg", 2)]);
        assert!(table["inner"][0].last_update_timestamp > 0 && table["inner"][0].remote_ip.starts_with("127.0.0.1:"));
        // Operators see them too, and consumers, of all nodes.
        assert_eq!(first.heartbeat("c@1", "g", "t").await, 0);
        let listed = |args: &[&str]| {
            let clients = cluster.json(args)["clients"].as_array().unwrap().clone();
            let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or("-").to_owned();
            let row = |row: &serde_json::Value| {
                ["client_id", "group", "producer_group", "node"].map(|key| text(row, key)).join(" ")
            };
            clients.iter().map(row).collect::<Vec<_>>()
        };
        assert_eq!(listed(&["client", "list"]), ["c@1 g - n2", "p@1 - inner n2", "p@1 - pg n2", "p@2 - pg n2"]);
        assert_eq!(listed(&["client", "list", "--group", "inner"]), ["p@1 - inner n2"]);
        assert_eq!(listed(&["producerConnection", "-g", "pg", "-t", "t"]), ["p@1 - pg n2", "p@2 - pg n2"]);
        assert_eq!(listed(&["consumerConnection", "-g", "g"]), ["c@1 g - n2"]);
        let table = cluster.raftmq_ok(&["client", "list", "--kind", "producer"]);
        assert!(table.contains("JAVA") && table.contains("409") && !table.contains("c@1"), "{table}");
        drop(second);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let answer = tool.ask(list, of_group("pg"), b"").await;
            let known = serde_json::from_slice::<ProducerConnections>(&answer.body).unwrap().connection_set;
            if known.len() == 1 {
                break;
            }
            assert!(std::time::Instant::now() < until, "a producer is there after its connection: {known:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
}
