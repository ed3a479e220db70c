//! What tools ask of consumers that run (remoting §6.6): other offsets, and what they know of themselves.

use raftmq::proto::remoting::{Fields, Frame, Header, RequestCode, ResponseCode, StoredMessage};

use super::send::fields;
use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;

pub(super) fn all(fields: &[(&str, &str)]) -> Fields {
    let mut all = Fields::default();
    for (name, value) in fields {
        all.put(name, value);
    }
    all
}

/// The next request of this code that the node makes; it makes others, of which it waits for no answer.
pub(super) async fn asked(client: &mut Classic, code: RequestCode) -> Frame {
    loop {
        let frame = client.next_asked().await;
        if frame.header.code == code as i32 {
            return frame;
        }
    }
}

#[test]
fn consumers_that_run_are_given_other_offsets_and_asked_for_tools() {
    with_cluster(&[], &[], async |cluster| {
        cluster.raftmq_ok(&["topic", "create", "t", "--queues", "1"]);
        cluster.raftmq_ok(&["produce", "t", "--count", "4"]);
        let mut consumer = Classic::connect(&cluster.address(0)).await;
        let mut tool = Classic::connect(&cluster.address(0)).await;
        assert_eq!(consumer.heartbeat("c@1", "g", "t").await, 0);
        let commit = all(&[("consumerGroup", "g"), ("topic", "t"), ("queueId", "0"), ("commitOffset", "2")]);
        assert_eq!(consumer.ask(RequestCode::UpdateConsumerOffset, commit, b"").await.header.code, 0);
        // By mqadmin, and by an operator of raftmq; both need that the commit is in the log.
        let reset = all(&[("group", "g"), ("topic", "t"), ("timestamp", "0"), ("isForce", "true")]);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let answer = loop {
            let answer = tool.ask(RequestCode::InvokeBrokerToResetOffset, reset.clone(), b"").await;
            if answer.header.code == 0 {
                break answer;
            }
            assert!(std::time::Instant::now() < until, "{answer:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        let body = r#"{"offsetTable":{{"topic":"t","brokerName":"Test00","queueId":0}:0}}"#;
        assert_eq!(std::str::from_utf8(&answer.body), Ok(body));
        let heard = asked(&mut consumer, RequestCode::ResetConsumerClientOffset).await;
        assert_eq!((heard.header.is_oneway(), std::str::from_utf8(&heard.body)), (true, Ok(body)));
        let fields = &heard.header.fields;
        assert_eq!((fields.text("topic"), fields.text("group"), fields.is_true("isForce")), (Ok("t"), Ok("g"), true));
        cluster.raftmq_ok(&["group", "reset-offset", "g", "t", "--to", "latest"]);
        let query = all(&[("consumerGroup", "g"), ("topic", "t"), ("queueId", "0")]);
        let offset = consumer.ask(RequestCode::QueryConsumerOffset, query, b"").await;
        assert_eq!(offset.header.fields.number("offset"), Ok(4), "{offset:?}");
        let one = all(&[("group", "g"), ("topic", "t"), ("timestamp", "0"), ("isForce", "true"), ("queueId", "0")]);
        let refused = tool.ask(RequestCode::InvokeBrokerToResetOffset, one, b"").await;
        assert_eq!(refused.header.code, ResponseCode::InvalidParameter as i32);
        // A question goes to the client, and its answer back.
        let question = all(&[("consumerGroup", "g"), ("clientId", "c@1"), ("jstackEnable", "false")]);
        let code = RequestCode::GetConsumerRunningInfo;
        let opaque = tool.put(code as i32, false, question, b"").await;
        let heard = asked(&mut consumer, code).await;
        assert_eq!(heard.header.fields.text("clientId"), Ok("c@1"));
        let header = Header::answer(heard.header.opaque, ResponseCode::Success, Fields::default());
        let answer = Frame { header_type: heard.header_type, header, body: b"{as it is}".to_vec().into() };
        consumer.put_bytes(&answer.encode().unwrap()).await;
        assert_eq!(&tool.answer_to(opaque).await.body[..], b"{as it is}");
        let nobody = all(&[("consumerGroup", "g"), ("clientId", "d@1")]);
        assert_eq!(tool.ask(code, nobody, b"").await.header.code, ResponseCode::ConsumerNotOnline as i32);
    });
}

#[test]
fn a_consumer_is_given_a_message_that_a_tool_names_and_says_what_became_of_it() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let mut consumer = Classic::connect(&cluster.address(0)).await;
        let mut tool = Classic::connect(&cluster.address(0)).await;
        let sent = tool.ask(RequestCode::SendMessageV2, fields("t", 2, "UNIQ_KEY\u{1}ID\u{2}"), b"again").await;
        let id = sent.header.fields.text("msgId").unwrap().to_owned();
        assert_eq!(consumer.heartbeat("c@1", "g", "t").await, 0);
        let code = RequestCode::ConsumeMessageDirectly;
        // By its id, or whoever is in the group.
        for client in ["c@1", ""] {
            let question =
                all(&[("consumerGroup", "g"), ("clientId", client), ("msgId", &id), ("brokerName", "Test00")]);
            let opaque = tool.put(code as i32, false, question, b"").await;
            let heard = asked(&mut consumer, code).await;
            assert_eq!((heard.header.fields.text("consumerGroup"), heard.header.is_oneway()), (Ok("g"), false));
            let message = StoredMessage::read_all(heard.body.clone()).unwrap().remove(0);
            assert_eq!((&message.body[..], message.queue, message.topic.as_str()), (&b"again"[..], 2, "t"));
            consumer.answer(&heard, ResponseCode::Success, b"{\"consumeResult\":\"CR_SUCCESS\"}").await;
            assert_eq!(&tool.answer_to(opaque).await.body[..], b"{\"consumeResult\":\"CR_SUCCESS\"}");
        }
        let mut missing = id.clone();
        missing.replace_range(16.., "7000000000000000");
        for (client, id, refusal) in [
            ("d@1", &id, ResponseCode::ConsumerNotOnline),
            ("c@1", &missing, ResponseCode::SystemError),
            ("c@1", &"no id".to_owned(), ResponseCode::InvalidParameter),
        ] {
            let question = all(&[("consumerGroup", "g"), ("clientId", client), ("msgId", id)]);
            assert_eq!(tool.ask(code, question, b"").await.header.code, refusal as i32, "{client} {id}");
        }
        // One that does not answer is waited for, and not for ever.
        let question = all(&[("consumerGroup", "g"), ("clientId", "c@1"), ("msgId", &id)]);
        assert_eq!(tool.ask(code, question, b"").await.header.code, ResponseCode::ConsumeMsgTimeout as i32);
        // What nothing here stands for is refused with what to do instead.
        let status = tool.ask(RequestCode::InvokeBrokerToGetConsumerStatus, Fields::default(), b"").await.header;
        assert_eq!(status.code, ResponseCode::RequestCodeNotSupported as i32);
        assert!(status.remark.as_deref().unwrap().contains("GET_CONSUMER_RUNNING_INFO"), "{status:?}");
    });
}
