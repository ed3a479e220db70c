//! Messages that a consumer could not consume (remoting §6.4): tried again later, and dead letters in the end.

use std::time::{Duration, Instant};

use raftmq::proto::remoting::{Fields, RequestCode, ResponseCode, StoredMessage, read_properties};

use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;

const RETRIES: &str = "%RETRY%g";
/// A retry of level 1 comes after a second; this is for a loaded machine.
const COMES: Duration = Duration::from_secs(30);

fn all(fields: &[(&str, &str)]) -> Fields {
    let mut all = Fields::default();
    for (name, value) in fields {
        all.put(name, value);
    }
    all
}

async fn send(client: &mut Classic, topic: &str, properties: &str, more: &[(&str, &str)]) -> i32 {
    let mut fields = all(&[("a", "p"), ("b", topic), ("d", "1"), ("e", "0"), ("f", "0"), ("g", "5"), ("h", "7")]);
    fields.put("i", properties);
    for (name, value) in more {
        fields.put(name, value);
    }
    client.ask(RequestCode::SendMessageV2, fields, b"body").await.header.code
}

/// The message at an offset of the first queue of a topic, waiting for it.
async fn pulled(client: &mut Classic, topic: &str, offset: u64) -> StoredMessage {
    let until = Instant::now() + COMES;
    loop {
        let fields = [
            ("consumerGroup", "g"),
            ("topic", topic),
            ("queueId", "0"),
            ("maxMsgNums", "1"),
            ("sysFlag", "6"),
            ("subscription", "*"),
            ("queueOffset", &offset.to_string()),
            ("suspendTimeoutMillis", "5000"),
        ];
        let answer = client.ask(RequestCode::PullMessage, all(&fields), b"").await;
        if answer.header.code == 0 {
            return StoredMessage::read_all(answer.body).unwrap().remove(0);
        }
        assert!(Instant::now() < until, "nothing at {offset} of {topic}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn give_back(client: &mut Classic, offset: i64, level: &str, more: &[(&str, &str)]) -> i32 {
    let mut fields = all(&[("group", "g"), ("delayLevel", level), ("originTopic", "t"), ("unitMode", "false")]);
    fields.put("offset", offset);
    for (name, value) in more {
        fields.put(name, value);
    }
    client.ask(RequestCode::ConsumerSendMsgBack, fields, b"").await.header.code
}

fn property<'m>(message: &'m StoredMessage, name: &str) -> Option<&'m str> {
    read_properties(&message.properties).find(|(known, _)| *known == name).map(|(_, value)| value)
}

#[test]
fn what_is_given_back_comes_again_and_is_a_dead_letter_in_the_end() {
    with_cluster(&[], &[("t", "NORMAL")], async |mut cluster| {
        let mut consumer = Classic::connect(&cluster.address(1)).await;
        let mut other = Classic::connect(&cluster.address(2)).await;
        assert_eq!(consumer.heartbeat("c@1", "g", "t").await, 0);
        assert_eq!(send(&mut other, "t", "UNIQ_KEY\u{1}ID\u{2}TAGS\u{1}a\u{2}k\u{1}v\u{2}", &[]).await, 0);
        let first = pulled(&mut consumer, "t", 0).await;
        let began = Instant::now();
        assert_eq!(give_back(&mut other, first.physical_offset, "1", &[("maxReconsumeTimes", "1")]).await, 0);
        let second = pulled(&mut consumer, RETRIES, 0).await;
        assert!(began.elapsed() >= Duration::from_secs(1), "earlier than its level says");
        assert_eq!((second.reconsume_times, second.flag, &second.body[..]), (1, 7, &b"body"[..]));
        let of = |name| property(&second, name);
        assert_eq!([of("UNIQ_KEY"), of("TAGS"), of("k")], [Some("ID"), Some("a"), Some("v")]);
        assert_eq!([of("RETRY_TOPIC"), of("REAL_TOPIC"), of("REAL_QID")], [Some("t"), Some(RETRIES), Some("0")]);
        let id = of("ORIGIN_MESSAGE_ID").unwrap();
        assert!(id.ends_with(&format!("{:016X}", first.physical_offset)), "{id}");
        // It was given back as often as it may be, by the client's own count.
        assert_eq!(give_back(&mut consumer, second.physical_offset, "0", &[("maxReconsumeTimes", "1")]).await, 0);
        let dead = pulled(&mut consumer, "%DLQ%g", 0).await;
        assert_eq!((dead.reconsume_times, property(&dead, "DLQ_ORIGIN_TOPIC")), (2, Some("t")));
        assert_eq!(property(&dead, "DLQ_ORIGIN_MESSAGE_ID"), Some(id));
        // An operator sees and redrives it as any other, once.
        let listed = cluster.raftmq_ok(&["group", "dlq", "list", "g"]);
        assert!(listed.contains("t after 2") && listed.contains("ID"), "{listed}");
        assert!(cluster.raftmq_ok(&["group", "dlq", "redrive", "g", "--all"]).contains("redriven 1"));
        assert!(cluster.raftmq_ok(&["group", "dlq", "redrive", "g", "--offset", "0"]).contains("left 1"));
        let listed = cluster.raftmq_ok(&["group", "dlq", "list", "g"]);
        assert!(listed.contains("redriven"), "{listed}");
        let again = pulled(&mut consumer, RETRIES, 1).await;
        assert_eq!((again.reconsume_times, property(&again, "RETRY_TOPIC")), (0, Some("t")));
        // At once, if the consumer says so.
        assert_eq!(give_back(&mut consumer, again.physical_offset, "-1", &[]).await, 0);
        assert_eq!(pulled(&mut consumer, "%DLQ%g", 1).await.reconsume_times, 1);
        for (offset, group, code) in [
            (i64::MAX, "g", ResponseCode::SystemError),
            (-1, "g", ResponseCode::SystemError),
            (first.physical_offset + 1, "g", ResponseCode::SystemError),
            (first.physical_offset, "nobody", ResponseCode::SubscriptionGroupNotExist),
            (first.physical_offset, "a b", ResponseCode::InvalidParameter),
        ] {
            assert_eq!(
                give_back(&mut consumer, offset, "1", &[("group", group)]).await,
                code as i32,
                "{offset} {group}"
            );
        }
        // What a consumer sends itself when that fails, and what it gives up.
        let retry = "DELAY\u{1}1\u{2}RETRY_TOPIC\u{1}t\u{2}UNIQ_KEY\u{1}ID\u{2}";
        assert_eq!(send(&mut consumer, RETRIES, retry, &[("j", "4"), ("l", "16")]).await, 0);
        assert_eq!(send(&mut consumer, RETRIES, retry, &[("j", "17"), ("l", "16")]).await, 0);
        assert_eq!(pulled(&mut consumer, "%DLQ%g", 2).await.reconsume_times, 17);
        assert_eq!(pulled(&mut consumer, RETRIES, 2).await.reconsume_times, 4);
        // A node's death changes nothing.
        assert_eq!(give_back(&mut other, first.physical_offset, "1", &[]).await, 0);
        cluster.kill(0);
        assert_eq!(pulled(&mut consumer, RETRIES, 3).await.reconsume_times, 1);
    });
}
