//! What classic clients send for later (remoting §5): delays, and transactions with questions to their producers.

use std::time::{Duration, Instant};

use raftmq::proto::remoting::{Fields, RequestCode, ResponseCode, StoredMessage, read_properties};
use raftmq::proto::v2;

use super::send::{fields, place};
use crate::fixture::calls::{self, receive, take};
use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delayed, half, now_millis};
use crate::fixture::requests::{poll, seconds};
use crate::fixture::wire::CALL;

/// Far more than what is due takes, also on a loaded machine.
const COMES: Duration = Duration::from_secs(60);
const COMMIT: i32 = 8;
const ROLL_BACK: i32 = 12;

/// The messages of a queue from its beginning, once there are so many.
pub(super) async fn queue(client: &mut Classic, topic: &str, queue: i32, count: usize) -> Vec<StoredMessage> {
    let until = Instant::now() + COMES;
    loop {
        let mut pull = Fields::default();
        for (name, value) in [
            ("consumerGroup", "g"),
            ("topic", topic),
            ("maxMsgNums", "32"),
            ("sysFlag", "4"),
            ("queueOffset", "0"),
            ("expressionType", "TAG"),
            ("subscription", "*"),
        ] {
            pull.put(name, value);
        }
        pull.put("queueId", queue);
        let answer = client.ask(RequestCode::PullMessage, pull, b"").await;
        let messages = StoredMessage::read_all(answer.body).unwrap();
        if messages.len() >= count {
            assert_eq!(messages.len(), count, "{messages:?}");
            return messages;
        }
        assert!(Instant::now() < until, "{count} messages do not come: {messages:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) fn property<'a>(message: &'a StoredMessage, name: &str) -> Option<&'a str> {
    read_properties(&message.properties).find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn is_near(at: i64, expected: i64) -> bool {
    (expected..expected + COMES.as_millis() as i64).contains(&at)
}

#[test]
fn delayed_messages_enter_the_queue_that_was_chosen_at_their_time() {
    with_cluster(&["timerMaxDelaySec=3600"], &[("t", "NORMAL"), ("delays", "DELAY")], async |cluster| {
        let mut client = Classic::connect(&cluster.address(1)).await;
        let now = now_millis();
        for (queue, properties) in [
            (0, "UNIQ_KEY\u{1}LEVEL\u{2}TAGS\u{1}TagA\u{2}DELAY\u{1}1\u{2}".to_owned()),
            (1, "UNIQ_KEY\u{1}SEC\u{2}TIMER_DELAY_SEC\u{1}1\u{2}".to_owned()),
            (2, format!("UNIQ_KEY\u{1}AT\u{2}TIMER_DELIVER_MS\u{1}{}\u{2}", now + 1000)),
        ] {
            let answer = client.ask(RequestCode::SendMessageV2, fields("t", queue, &properties), b"late").await;
            assert_eq!(place(&answer), (queue, 0), "{answer:?}");
        }
        // What lies in the past is there at once; so is what has no level.
        for properties in [format!("TIMER_DELIVER_MS\u{1}{}", now - 1000), "DELAY\u{1}0".to_owned()] {
            client.ask(RequestCode::SendMessageV2, fields("t", 3, &properties), b"now").await;
        }
        assert_eq!(queue(&mut client, "t", 3, 2).await.len(), 2);
        for (number, id) in ["LEVEL", "SEC", "AT"].into_iter().enumerate() {
            let message = queue(&mut client, "t", number as i32, 1).await.remove(0);
            assert_eq!((property(&message, "UNIQ_KEY"), &message.body[..]), (Some(id), &b"late"[..]));
            assert!(is_near(message.stored_at, now + 1000), "{} {now}", message.stored_at);
        }
        let message = queue(&mut client, "t", 0, 1).await.remove(0);
        assert_eq!((property(&message, "DELAY"), property(&message, "TAGS")), (Some("1"), Some("TagA")));
        for properties in ["DELAY\u{1}soon", "TIMER_DELAY_SEC\u{1}3601", "TIMER_DELIVER_MS\u{1}9999999999999"] {
            let answer = client.ask(RequestCode::SendMessageV2, fields("t", 0, properties), b"b").await;
            assert_eq!(answer.header.code, ResponseCode::MessageIllegal as i32, "{properties}");
        }
        // Over the other protocol, both ways.
        let wires = cluster.wires_within(CALL);
        let request = v2::ReceiveMessageRequest { invisible_duration: Some(seconds(60)), ..poll("other", "t") };
        let taken = take(&wires[..1], &request, 5).await;
        let level = taken.into_iter().find(|message| message.system_properties.as_ref().unwrap().message_id == "LEVEL");
        let level = level.unwrap();
        let system = level.system_properties.unwrap();
        assert_eq!(system.message_type(), v2::MessageType::Delay);
        let at = system.delivery_timestamp.unwrap().seconds * 1000;
        assert!(is_near(at, now / 1000 * 1000 + 1000), "{at} {now}");
        assert!(level.user_properties.is_empty(), "the names are RocketMQ's own: {:?}", level.user_properties);
        calls::send(&wires[0], delayed("delays", "grpc", 500)).await;
        let mut found = Vec::new();
        for number in 0..4 {
            found.extend(queue_now(&mut client, "delays", number).await);
        }
        let until = Instant::now() + COMES;
        while found.is_empty() {
            assert!(Instant::now() < until, "the delayed message does not come");
            tokio::time::sleep(Duration::from_millis(50)).await;
            for number in 0..4 {
                found.extend(queue_now(&mut client, "delays", number).await);
            }
        }
        let at: i64 = property(&found[0], "TIMER_DELIVER_MS").unwrap().parse().unwrap();
        assert!(is_near(at, now), "{at}");
        // A topic of delays has no type for those who know none.
        let answer = client.ask(RequestCode::SendMessageV2, fields("delays", 0, ""), b"now").await;
        assert_eq!(answer.header.code, 0);
    });
}

async fn queue_now(client: &mut Classic, topic: &str, number: i32) -> Vec<StoredMessage> {
    let mut pull = Fields::default();
    for (name, value) in
        [("consumerGroup", "g"), ("topic", topic), ("maxMsgNums", "32"), ("sysFlag", "4"), ("queueOffset", "0")]
    {
        pull.put(name, value);
    }
    pull.put("queueId", number);
    let answer = client.ask(RequestCode::PullMessage, pull, b"").await;
    StoredMessage::read_all(answer.body).unwrap()
}

/// Sends a half message; the two numbers that name it.
async fn begin(client: &mut Classic, id: &str, queue: i32) -> (i64, i64) {
    let mut sent =
        fields("t", queue, &format!("UNIQ_KEY\u{1}{id}\u{2}TRAN_MSG\u{1}true\u{2}PGROUP\u{1}producers\u{2}"));
    sent.put("f", "4");
    let answer = client.ask(RequestCode::SendMessageV2, sent, id.as_bytes()).await;
    assert_eq!(answer.header.code, 0, "{answer:?}");
    let fields = &answer.header.fields;
    let id: raftmq::proto::remoting::OffsetId = fields.text("msgId").unwrap().parse().unwrap();
    (id.physical_offset, fields.number("queueOffset").unwrap())
}

fn ending(group: &str, (offset, table): (i64, i64), decision: i32) -> Fields {
    let mut fields: Fields = [("producerGroup", group), ("msgId", "as the client likes")].into_iter().collect();
    fields.put("commitLogOffset", offset);
    fields.put("tranStateTableOffset", table);
    fields.put("commitOrRollback", decision);
    fields
}

async fn producer_heartbeat(client: &mut Classic, group: &str) {
    let beat = serde_json::json!({"clientID": "p@1", "producerDataSet": [{"groupName": group}]});
    let answer = client.ask(RequestCode::HeartBeat, Fields::default(), beat.to_string().as_bytes()).await;
    assert_eq!(answer.header.code, 0, "{answer:?}");
}

#[test]
fn transactions_are_ended_through_any_node_and_producers_are_asked_wherever_they_are() {
    let settings = ["transactionTimeOut=1000", "transactionCheckInterval=1000", "transactionCheckMax=1000"];
    with_cluster(&settings, &[("t", "NORMAL"), ("deals", "TRANSACTION")], async |cluster| {
        let mut client = Classic::connect(&cluster.address(1)).await;
        let mut other = Classic::connect(&cluster.address(2)).await;
        let committed = begin(&mut client, "COMMITTED", 2).await;
        let rolled_back = begin(&mut client, "ROLLED_BACK", 2).await;
        let asked_about = begin(&mut client, "ASKED", 1).await;
        // 4.9 says no topic; what ends it may come to any node, and its group must be its own.
        let wrong = other.ask(RequestCode::EndTransaction, ending("others", committed, COMMIT), b"").await;
        assert_eq!(wrong.header.code, ResponseCode::InvalidParameter as i32, "{wrong:?}");
        for (half, decision) in [(committed, COMMIT), (rolled_back, ROLL_BACK), (asked_about, 0)] {
            let ended = other.ask(RequestCode::EndTransaction, ending("producers", half, decision), b"").await;
            assert_eq!(ended.header.code, 0, "{ended:?}");
        }
        let again = other.ask(RequestCode::EndTransaction, ending("producers", committed, ROLL_BACK), b"").await;
        assert_eq!(again.header.code, ResponseCode::SystemError as i32, "the first decision is final");
        for (half, decision) in [((committed.0, 999), COMMIT), ((-1, 0), COMMIT), (committed, 4), (committed, 9)] {
            let refused = other.ask(RequestCode::EndTransaction, ending("producers", half, decision), b"").await;
            assert_ne!(refused.header.code, 0, "{half:?} {decision}");
            assert!(refused.header.remark.is_some());
        }
        let messages = queue(&mut client, "t", 2, 1).await;
        let message = &messages[0];
        assert_eq!((property(message, "UNIQ_KEY"), property(message, "TRAN_MSG")), (Some("COMMITTED"), None));
        assert_eq!(property(message, "PGROUP"), Some("producers"));
        assert_eq!((message.system_flags & 12, message.prepared_offset), (8, committed.0));
        // Nobody of the group is connected: it goes on being undecided. The first one that comes is asked, wherever.
        let mut asked = Classic::connect(&cluster.address(0)).await;
        producer_heartbeat(&mut asked, "others").await;
        producer_heartbeat(&mut asked, "producers").await;
        let question = tokio::time::timeout(COMES, async {
            loop {
                if let Some(question) = asked.asked.pop_front() {
                    return question;
                }
                producer_heartbeat(&mut asked, "producers").await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let question = question.await.expect("the producer is asked");
        assert_eq!(question.header.code, RequestCode::CheckTransactionState as i32);
        assert!(question.header.is_oneway());
        let fields = &question.header.fields;
        let named = (fields.number("commitLogOffset").unwrap(), fields.number("tranStateTableOffset").unwrap());
        assert_eq!((named, fields.text("transactionId"), fields.text("topic")), (asked_about, Ok("ASKED"), Ok("t")));
        let half_message = StoredMessage::read_all(question.body).unwrap().remove(0);
        assert_eq!((half_message.topic.as_str(), half_message.queue, &half_message.body[..]), ("t", 1, &b"ASKED"[..]));
        for (name, value) in
            [("PGROUP", "producers"), ("__transactionId__", "ASKED"), ("TRAN_MSG", "true"), ("UNIQ_KEY", "ASKED")]
        {
            assert_eq!(property(&half_message, name), Some(value), "{name}");
        }
        let mut ends = ending("producers", named, COMMIT);
        ends.put("fromTransactionCheck", "true");
        asked.put(RequestCode::EndTransaction as i32, true, ends, b"").await;
        assert_eq!(property(&queue(&mut client, "t", 1, 1).await[0], "UNIQ_KEY"), Some("ASKED"));
        // Over the other protocol, both ways.
        let wires = cluster.wires_within(CALL);
        let taken = take(&wires[..1], &poll("other", "t"), 2).await;
        for message in &taken {
            let system = message.system_properties.as_ref().unwrap();
            assert_eq!(system.message_type(), v2::MessageType::Transaction);
            assert!(message.user_properties.is_empty(), "{:?}", message.user_properties);
        }
        let entry = calls::send(&wires[0], half("deals", "GRPC")).await;
        assert_eq!(calls::commit(&wires[1], "deals", &entry.transaction_id).await, v2::Code::Ok);
        assert_eq!(receive(&wires[0], poll("other", "deals")).await.len(), 1);
        let mut found = Vec::new();
        for number in 0..4 {
            found.extend(queue_now(&mut client, "deals", number).await);
        }
        assert_eq!((found.len(), found[0].system_flags & 12), (1, 8));
    });
}
