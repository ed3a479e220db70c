//! What tools ask of consumers that run (remoting §6.6): other offsets, and what they know of themselves.

use raftmq::proto::remoting::{Fields, Frame, Header, RequestCode, ResponseCode};

use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;

fn all(fields: &[(&str, &str)]) -> Fields {
    let mut all = Fields::default();
    for (name, value) in fields {
        all.put(name, value);
    }
    all
}

/// The next request of this code that the node makes; it makes others, of which it waits for no answer.
async fn asked(client: &mut Classic, code: RequestCode) -> Frame {
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
