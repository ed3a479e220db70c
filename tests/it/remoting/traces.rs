//! Traces: what classic clients write of their messages, into a topic of RocketMQ's own (remoting §4.5).

use std::time::{Duration, Instant};

use raftmq::proto::remoting::{
    Fields, PROPERTIES_BYTES_MAX, RequestCode, ResponseCode, StoredMessage, read_properties,
};
use raftmq::proto::v2::Code;

use super::send::fields;
use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::message;
use crate::fixture::wire::CALL;

const TRACES: &str = "RMQ_SYS_TRACE_TOPIC";
/// For the first leader, on a loaded machine.
const MADE_WITHIN: Duration = Duration::from_secs(30);

/// The messages of queue 0 of a topic.
async fn all_of(client: &mut Classic, topic: &str) -> Vec<StoredMessage> {
    let mut asked = Fields::default();
    for (name, value) in
        [("consumerGroup", "g"), ("topic", topic), ("queueId", "0"), ("maxMsgNums", "32"), ("subVersion", "1")]
    {
        asked.put(name, value);
    }
    for (name, value) in [("expressionType", "TAG"), ("subscription", "*"), ("sysFlag", "4"), ("queueOffset", "0")] {
        asked.put(name, value);
    }
    asked.put("commitOffset", 0);
    asked.put("suspendTimeoutMillis", 0);
    let answer = client.ask(RequestCode::PullMessage, asked, b"").await;
    assert_eq!(answer.header.code, ResponseCode::Success as i32, "{answer:?}");
    StoredMessage::read_all(answer.body).unwrap()
}

#[test]
fn traces_go_into_their_topic_which_is_made_if_that_is_asked_for_and_grpc_clients_do_not_see() {
    let settings = ["traceTopicEnable=true", "autoCreateTopicEnable=false"];
    with_cluster(&settings, &[], async |cluster| {
        let mut client = Classic::connect(&cluster.address(1)).await;
        let until = Instant::now() + MADE_WITHIN;
        loop {
            let answer = client.ask(RequestCode::SendMessageV2, fields(TRACES, 0, "KEYS\u{1}id\u{2}"), b"Pub").await;
            if answer.header.code == 0 {
                break;
            }
            assert!(Instant::now() < until, "{answer:?}\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let described = cluster.json(&["topic", "describe", TRACES]);
        assert_eq!(described["topic"]["queues"], 1, "{described}");
        assert_eq!(all_of(&mut client, TRACES).await.len(), 1);
        // The answer of RocketMQ's proxy.
        for wire in cluster.wires_within(CALL) {
            let sent = wire.send(vec![message(TRACES, "i", "b")]).await.unwrap().status.unwrap();
            assert_eq!(sent.code(), Code::IllegalTopic);
            assert!(sent.message.contains("reserved for the system"), "{sent:?}");
        }
        let other = client.ask(RequestCode::SendMessageV2, fields("rmq_sys_x", 0, ""), b"b").await;
        assert_ne!(other.header.code, 0, "others of the system's stay");
    });
}

#[test]
fn without_traces_producers_and_consumers_are_told_to_write_none() {
    with_cluster(&["traceOn=false"], &[("t", "NORMAL")], async |cluster| {
        let mut client = Classic::connect(&cluster.address(2)).await;
        let answer = client.ask(RequestCode::SendMessageV2, fields("t", 0, "UNIQ_KEY\u{1}i\u{2}"), b"b").await;
        assert_eq!((answer.header.code, answer.header.fields.text("TRACE_ON")), (0, Ok("false")), "{answer:?}");
        // One that is as long as may be is taken in, so it can be read.
        let longest = "UNIQ_KEY\u{1}j\u{2}a\u{1}";
        let longest = format!("{longest}{}\u{2}", "v".repeat(PROPERTIES_BYTES_MAX - longest.len() - 1));
        let answer = client.ask(RequestCode::SendMessageV2, fields("t", 0, &longest), b"b").await;
        assert_eq!(answer.header.code, 0, "{answer:?}");
        let read = all_of(&mut client, "t").await;
        let switch = |message: &StoredMessage| {
            read_properties(&message.properties)
                .find(|(name, _)| *name == "TRACE_ON")
                .map(|(_, value)| value.to_owned())
        };
        assert_eq!(read.iter().map(switch).collect::<Vec<_>>(), [Some("false".to_owned()), None]);
        let lengths: Vec<_> = read.iter().map(|message| message.properties.len()).collect();
        assert_eq!(lengths[1], PROPERTIES_BYTES_MAX);
    });
}
