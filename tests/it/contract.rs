//! The two lists at the end of the wire contract through a real cluster: what RocketMQ's end-to-end tests assert
//! further (§24) and the fifteen mistakes a new server would make (§25). Names give the section and the item.
//!
//! One file although it is long: it is read beside the two lists, an item of them at a time. Not here: what §24 says of
//! wrong access keys, as there is no authentication yet, and topics of type MIXED.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future;
use prost_types::Timestamp;
use raftmq::proto::v2;
use raftmq::proto::v2::Code;
use raftmq::proto::v2::receive_message_response::Content;
use raftmq::proto::v2::retry_policy::Strategy;
use raftmq::proto::v2::settings::PubSub;
use raftmq::proto::v2::telemetry_command::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Endpoint;

use crate::fixture::calls::*;
use crate::fixture::cluster::{Cluster, with_cluster};
use crate::fixture::messages::*;
use crate::fixture::requests::*;
use crate::fixture::telemetry::*;
use crate::fixture::tls;
use crate::fixture::wire::{CALL, POLL, SOON, Wire};

const MIB_4: usize = 4 * 1024 * 1024;
const KIB_16: usize = 16 * 1024;
/// Seconds between the deliveries of RocketMQ's push consumers.
const BACKOFF: [i64; 18] = [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
/// As the official clients name themselves, and one that does not exist.
const LANGUAGES: [&str; 8] = ["JAVA", "GO", "PYTHON", "RUST", "HTTP", "CPP", "DOTNET", "KLINGON"];

fn exponential(millis_initial: i64, seconds_max: i64) -> Strategy {
    let (initial, max) = (Some(millis(millis_initial)), Some(seconds(seconds_max)));
    Strategy::ExponentialBackoff(v2::ExponentialBackoff { initial, max, multiplier: 2.0 })
}

fn strategy(settings: &v2::Settings) -> Strategy {
    settings.backoff_policy.clone().unwrap().strategy.unwrap()
}

#[test]
fn c24_start_a_missing_topic_is_told_and_twice_the_same_or_none_is_fine() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        for wire in &wires {
            // Asking makes no topic, here or on another node.
            assert_eq!(route(wire, "missing", None).await, (Code::TopicNotFound, vec![]));
            assert_eq!(code(wire, message("missing", "m", "m")).await, Code::TopicNotFound);
            assert_eq!(route(wire, "t", None).await.0, Code::Ok);
        }
        // The client asks for the route of each topic; its settings may name any.
        for topics in [&["t", "t"][..], &[], &["missing"]] {
            let sent = settings(v2::ClientType::Producer, publishing(topics));
            let Some(PubSub::Publishing(heard)) = answer_to(&wires[0], "JAVA", &sent).await.pub_sub else {
                panic!("the branch must stay")
            };
            assert_eq!(heard.topics, topics.iter().map(|topic| resource(topic)).collect::<Vec<_>>());
        }
    });
}

#[test]
fn c24_size_of_body_is_4_mib_and_16_kib_of_properties_come_on_top() {
    let topics = [("plain", "NORMAL"), ("later", "DELAY"), ("deals", "TRANSACTION"), ("steps", "FIFO")];
    with_cluster(&[], &topics, async |cluster| {
        let wires = cluster.wires_within(CALL);
        let kinds =
            [message("plain", "m", "m"), delayed("later", "m", 500), half("deals", "m"), ordered("steps", "m", 1)];
        for (kind, wire) in kinds.into_iter().zip(wires.iter().cycle()) {
            let topic = name(&kind.topic);
            let full = v2::Message { body: vec![b'b'; MIB_4].into(), ..kind.clone() };
            assert_eq!(code(wire, full.clone()).await, Code::Ok, "{topic}");
            let over = v2::Message { body: vec![b'b'; MIB_4 + 1].into(), ..kind };
            assert_eq!(code(wire, over).await, Code::MessageBodyTooLarge, "{topic}");
            let both = having("", "", [("k", &"v".repeat(KIB_16 - 1))]).user_properties;
            let mut other = v2::Message { user_properties: both, ..full };
            other.system_properties.as_mut().unwrap().message_id = "another".into();
            assert_eq!(code(wire, other).await, Code::Ok, "{topic}");
        }
        let got = take(&wires, &poll("g", "plain"), 2).await;
        assert!(got.iter().all(|message| message.body.len() == MIB_4));
        let properties = |message: &v2::Message| message.user_properties.values().map(String::len).sum::<usize>();
        assert_eq!(got.iter().map(properties).collect::<BTreeSet<_>>(), BTreeSet::from([0, KIB_16 - 1]));
    });
}

#[test]
fn c24_properties_have_their_limits_and_may_hold_any_text() {
    with_cluster(&[], &[("t", "NORMAL"), ("texts", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let wire = &wires[0];
        let many = |count: usize| {
            let user_properties = (0..count).map(|number| (format!("k{number}"), "v".to_owned())).collect();
            v2::Message { user_properties, ..message("t", "m", "m") }
        };
        assert_eq!(code(wire, many(128)).await, Code::Ok);
        assert_eq!(code(wire, many(129)).await, Code::MessagePropertiesTooLarge);
        let large = |value: usize| having("t", "m", [("key", &"v".repeat(value))]);
        assert_eq!(code(wire, large(KIB_16 - 3)).await, Code::Ok);
        assert_eq!(code(wire, large(KIB_16 - 2)).await, Code::MessagePropertiesTooLarge);
        // Bytes count, not characters, and tag and keys count too.
        let together = |value: usize| {
            let mut message = having("t", "m", [("é", &"v".repeat(value))]);
            let system = message.system_properties.as_mut().unwrap();
            (system.tag, system.keys) = (Some("t".repeat(100)), vec!["k".repeat(50), "l".repeat(60)]);
            message
        };
        assert_eq!(code(wire, together(KIB_16 - 212)).await, Code::Ok);
        assert_eq!(code(wire, together(KIB_16 - 211)).await, Code::MessagePropertiesTooLarge);

        for bad in [("k\0", "v"), ("k", "v\0"), ("UNIQ_KEY", "v")] {
            assert_eq!(code(wire, having("t", "m", [bad])).await, Code::IllegalMessagePropertyKey, "{bad:?}");
        }
        let texts = [("中文", "属性值"), ("😀", "🎉👍"), ("%", "100%"), ("|", "a||b"), ("&&", "a && b")];
        let sent = having("texts", "m", texts);
        assert_eq!(code(wire, sent.clone()).await, Code::Ok);
        let got = take(&wires[1..], &poll("g", "texts"), 1).await;
        assert_eq!(got[0].user_properties, sent.user_properties);
    });
}

#[test]
fn c24_tag_key_have_their_limits_and_come_back() {
    with_cluster(&[], &[("t", "NORMAL"), ("texts", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let wire = &wires[0];
        assert_eq!(code(wire, tagged("t", "m", &"t".repeat(KIB_16))).await, Code::Ok);
        assert_eq!(code(wire, tagged("t", "m", &"t".repeat(KIB_16 + 1))).await, Code::MessagePropertiesTooLarge);
        assert_eq!(code(wire, keyed("t", "m", &[&"k".repeat(KIB_16)])).await, Code::Ok);
        assert_eq!(code(wire, keyed("t", "m", &[&"k".repeat(KIB_16 + 1)])).await, Code::MessagePropertiesTooLarge);
        for bad in ["a\0", " ", "a|b", "|"] {
            assert_eq!(code(wire, tagged("t", "m", bad)).await, Code::IllegalMessageTag, "{bad:?}");
        }
        for bad in ["a\0", " "] {
            assert_eq!(code(wire, keyed("t", "m", &["good", bad])).await, Code::IllegalMessageKey, "{bad:?}");
        }
        let mut sent = keyed("texts", "m", &["第一", "second", "3"]);
        sent.system_properties.as_mut().unwrap().tag = Some("标签".into());
        assert_eq!(code(wire, sent).await, Code::Ok);
        let request = v2::ReceiveMessageRequest { filter_expression: by_tag("标签"), ..poll("g", "texts") };
        let got = take(&wires[2..], &request, 1).await;
        assert_eq!(system(&got[0]).tag.as_deref(), Some("标签"));
        assert_eq!(system(&got[0]).keys, ["第一", "second", "3"]);
    });
}

#[test]
fn c24_filter_chooses_by_exact_tag_and_by_sql_also_in_order() {
    with_cluster(&[], &[("t", "NORMAL"), ("steps", "FIFO")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        // As Java hashes them, "Aa" and "BB" are equal.
        for tag in ["a", "b", "B", "Aa", "BB", "*"] {
            send(&wires[0], tagged("t", tag, tag)).await;
        }
        send(&wires[0], message("t", "untagged", "m")).await;
        for number in 1..=6 {
            let mut step = ordered("steps", "x", number);
            let colour = if number % 2 == 0 { "red" } else { "blue" };
            step.user_properties =
                having("", "", [("colour", colour), ("number", &number.to_string())]).user_properties;
            send(&wires[1], step).await;
        }

        let all: &[&str] = &["*", "Aa", "B", "BB", "a", "b", "untagged"];
        let steps: &[&str] = &["x1", "x2", "x3", "x4", "x5", "x6"];
        let cases: [(&str, Option<v2::FilterExpression>, &[&str]); 13] = [
            ("t", None, all),
            ("t", by_tag("*"), all),
            ("t", by_tag(""), all),
            ("t", by_tag("a || b"), &["a", "b"]),
            ("t", by_tag(" b||Aa  "), &["Aa", "b"]),
            ("t", by_tag("Aa"), &["Aa"]),
            ("t", by_tag("b ||"), &["b"]),
            ("t", by_tag("nobody's"), &[]),
            ("steps", None, steps),
            ("steps", by_sql("number >= 2 AND colour = 'red'"), &["x2", "x4", "x6"]),
            ("steps", by_sql("number BETWEEN 3 AND 4"), &["x3", "x4"]),
            ("steps", by_sql("missing = 'v'"), &[]),
            ("steps", by_sql("missing IS NULL"), steps),
        ];
        let read = async |(number, (topic, expression, expected)): (usize, (&str, _, &[&str]))| {
            let group = format!("g{number}");
            let request = v2::ReceiveMessageRequest { filter_expression: expression, ..poll(&group, topic) };
            let got = ids(&take(&wires[number % 3..][..1], &request, expected.len()).await);
            // In order where there is one; queues have none among each other.
            let got = if topic == "t" { sorted(got) } else { got };
            assert_eq!(got, expected, "{:?}", request.filter_expression);
            nothing(&wires[0], request).await;
            // What did not match was passed over for this group and does not wait for another filter.
            if !expected.is_empty() {
                nothing(&wires[0], poll(&group, topic)).await;
            }
        };
        future::join_all(cases.into_iter().enumerate().map(read)).await;

        let bad = v2::ReceiveMessageRequest { filter_expression: by_sql("number >"), ..poll("g", "steps") };
        assert_eq!(refused(&wires[0], bad).await.code(), Code::IllegalFilterExpression);
    });
}

#[test]
fn c24_receive_gives_at_most_32_each_once_and_refuses_times_out_of_bounds() {
    with_cluster(&[], &[("t", "NORMAL"), ("empty", "NORMAL"), ("one", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        for (hundred, wire) in wires.iter().enumerate() {
            let ids = (0..100).map(|number| format!("m{}", hundred * 100 + number));
            let answer = wire.send(ids.map(|id| message("t", &id, &id)).collect()).await.unwrap();
            assert_eq!(told(answer.status), Code::Ok);
        }
        let mut got = Vec::new();
        for wire in wires.iter().cycle() {
            let messages = receive(wire, v2::ReceiveMessageRequest { batch_size: 50, ..poll("g", "t") }).await;
            assert!(messages.len() <= 32, "{}", messages.len());
            if messages.is_empty() {
                break;
            }
            ack(wire, "g", "t", &messages).await;
            got.extend(ids(&messages));
        }
        assert_eq!(sorted(got), sorted((0..300).map(|number| format!("m{number}")).collect()), "each once");

        let invisible = |topic: &str, length: i64| v2::ReceiveMessageRequest {
            invisible_duration: Some(millis(length)),
            ..poll("g", topic)
        };
        for (length, text) in
            [(9_999, "the invisibleTime is too small"), (43_200_001, "the invisibleTime is too large")]
        {
            let status = refused(&wires[0], invisible("empty", length)).await;
            assert_eq!(status.code(), Code::IllegalInvisibleTime, "{length}");
            assert!(status.message.contains(text), "{}", status.message);
        }
        for length in [10_000, 43_200_000] {
            send(&wires[0], message("one", &length.to_string(), "m")).await;
            take(&wires, &invisible("one", length), 1).await;
        }
    });
}

#[test]
fn c24_groups_each_get_everything_and_their_consumers_share_it() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let sent: Vec<_> = (0..100).map(|number| format!("m{number}")).collect();
        let answer = wires[0].send(sent.iter().map(|id| message("t", id, id)).collect()).await.unwrap();
        assert_eq!(told(answer.status), Code::Ok);

        let each = async |number: usize| take(&wires[number..=number], &poll(&format!("g{number}"), "t"), 100).await;
        let got = RefCell::new(Vec::new());
        let share = async |number: usize| {
            while got.borrow().len() < sent.len() {
                let request = v2::ReceiveMessageRequest { batch_size: 4, ..poll("shared", "t") };
                let messages = receive(&wires[number], request).await;
                if !messages.is_empty() {
                    ack(&wires[number], "shared", "t", &messages).await;
                }
                got.borrow_mut().extend(ids(&messages).into_iter().map(|id| (id, number)));
            }
        };
        let (all, _) = tokio::join!(future::join_all((0..3).map(each)), future::join_all((0..3).map(share)));
        let sent = sorted(sent);
        assert!(all.into_iter().all(|messages| sorted(ids(&messages)) == sent), "each group all of it, each once");
        let got = got.into_inner();
        assert_eq!(sorted(got.iter().map(|(id, _)| id.clone()).collect()), sent, "all of them together, each once");
        assert_eq!(got.iter().map(|(_, number)| *number).collect::<BTreeSet<_>>().len(), 3, "each some of it");
    });
}

#[test]
fn c24_retry_of_a_push_failure_is_attempt_2() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        for number in 1..=3 {
            send(&wires[0], message("t", &format!("m{number}"), "m")).await;
        }
        let push = push_poll("g", "t");
        let mut first = BTreeMap::new();
        while first.len() < 3 {
            for message in receive(&wires[1], push.clone()).await {
                let (id, handle, attempt) = delivered(&message);
                assert_eq!(attempt, 1, "{id}");
                assert!(first.insert(id, (message, handle)).is_none(), "each once");
            }
        }
        // As a listener that failed does: the first delay of the list the settings told.
        let failed_at = Instant::now();
        assert_eq!(change(&wires[1], "g", "t", &first["m2"].1, BACKOFF[0]).await.0, Code::Ok);
        for id in ["m1", "m3"] {
            ack(&wires[1], "g", "t", std::slice::from_ref(&first[id].0)).await;
        }
        let again = receive(&wires[2], push.clone()).await;
        assert!(failed_at.elapsed() >= Duration::from_secs(1), "early: {:?}", failed_at.elapsed());
        assert_eq!(
            again.iter().map(|message| (delivered(message).0, delivered(message).2)).collect::<Vec<_>>(),
            [("m2".to_owned(), 2)]
        );
        ack(&wires[0], "g", "t", &again).await;
        nothing(&wires[0], push).await;
    });
}

#[test]
fn c24_retry_keeps_the_order_of_each_message_group() {
    with_cluster(&[], &[("steps", "FIFO")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        for number in 1..=8 {
            for group in ["x", "y", "z"] {
                send(&wires[number as usize % 3], ordered("steps", group, number)).await;
            }
        }
        // The listener fails at these once; what is behind them in the batch it gives up with them.
        let mut failing = BTreeSet::from(["x1", "x4", "y3", "y8"].map(str::to_owned));
        let mut done = BTreeMap::from([("x", 0), ("y", 0), ("z", 0)].map(|(group, number)| (group.to_owned(), number)));
        let mut tried_again = BTreeSet::new();
        for wire in wires.iter().cycle() {
            if done.values().all(|number| *number == 8) {
                break;
            }
            let request = v2::ReceiveMessageRequest { batch_size: 6, ..poll("g", "steps") };
            let messages = receive(wire, request).await;
            assert!(!messages.is_empty(), "{done:?}");
            let (mut seen, mut stuck) = (done.clone(), BTreeSet::new());
            for message in &messages {
                let (id, handle, attempt) = delivered(message);
                let (group, number): (String, u32) = (id[..1].to_owned(), id[1..].parse().unwrap());
                let last = seen.get_mut(&group).unwrap();
                assert_eq!(number, *last + 1, "{id} behind {group}{last} in {:?}", ids(&messages));
                *last = number;
                assert!(attempt <= 2, "{id}: {attempt}");
                if attempt == 2 {
                    tried_again.insert(id.clone());
                }
                if failing.remove(&id) {
                    stuck.insert(group.clone());
                }
                if stuck.contains(&group) {
                    assert_eq!(change(wire, "g", "steps", &handle, 1).await.0, Code::Ok, "{id}");
                } else {
                    ack(wire, "g", "steps", std::slice::from_ref(message)).await;
                    done.insert(group, number);
                }
            }
        }
        for failed in ["x1", "x4", "y3", "y8"] {
            assert!(tried_again.contains(failed), "{failed} came as attempt 2: {tried_again:?}");
        }
        assert!(!tried_again.iter().any(|id| id.starts_with('z')), "{tried_again:?}");
    });
}

#[test]
fn c24_delay_is_kept_and_past_and_too_far_times_are_known() {
    with_cluster(&[], &[("later", "DELAY")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let due = now_millis() + 10_000;
        send(&wires[0], delayed("later", "later", 10_000)).await;
        send(&wires[1], delayed("later", "past", -20_000)).await;
        assert_eq!(code(&wires[2], delayed("later", "never", 86_405_000)).await, Code::IllegalDeliveryTime);
        let asked = Instant::now();
        assert_eq!(ids(&take(&wires[..1], &poll("g", "later"), 1).await), ["past"]);
        assert!(asked.elapsed() < SOON, "at once, and not after {:?}", asked.elapsed());
        let request = v2::ReceiveMessageRequest { long_polling_timeout: Some(seconds(20)), ..poll("g", "later") };
        let got = take(&wires[1..2], &request, 1).await;
        let late = now_millis() - due;
        assert_eq!(ids(&got), ["later"]);
        assert!((0..SOON.as_millis() as i64).contains(&late), "{late} ms late");
    });
}

/// What every verb says to a request for this topic and group, by name; in the answer, as gRPC must say OK.
async fn every_verb(wire: &Wire, topic: &str, group: &str) -> Vec<(&'static str, Code)> {
    let (t, g, handle) = (Some(resource(topic)), Some(resource(group)), "nonsense".to_owned());
    let message_queue = queue(topic);
    // Every answer is of its own type and has the same field.
    macro_rules! verb {
        ($verb:ident, $request:expr) => {{
            let answer = wire.raw().$verb(wire.request($request)).await;
            (stringify!($verb), told(answer.expect(stringify!($verb)).into_inner().status))
        }};
    }
    let pull = v2::PullMessageRequest {
        group: g.clone(),
        message_queue: message_queue.clone(),
        offset: -1,
        batch_size: 1,
        ..Default::default()
    };
    let mut pulled = wire.raw().pull_message(wire.request(pull)).await.unwrap().into_inner();
    let Some(v2::pull_message_response::Content::Status(pulled)) = pulled.message().await.unwrap().unwrap().content
    else {
        panic!("the status is first")
    };
    let at_a_time = v2::QueryOffsetPolicy::Timestamp.into();
    // Were all else fine, it would be refused too and not wait.
    let receive = v2::ReceiveMessageRequest { invisible_duration: None, ..poll(group, topic) };
    vec![
        verb!(query_route, v2::QueryRouteRequest { topic: t.clone(), endpoints: None }),
        verb!(heartbeat, v2::HeartbeatRequest { group: g.clone(), client_type: v2::ClientType::PushConsumer.into() }),
        ("send_message", code(wire, message(topic, "m", "m")).await),
        verb!(query_assignment, v2::QueryAssignmentRequest { topic: t.clone(), group: g.clone(), endpoints: None }),
        ("receive_message", refused(wire, receive).await.code()),
        ("ack_message", ack_code(wire, group, topic, &handle).await),
        ("forward_message_to_dead_letter_queue", forward(wire, group, topic, &handle).await),
        ("pull_message", pulled.code()),
        verb!(
            update_offset,
            v2::UpdateOffsetRequest { group: g.clone(), message_queue: message_queue.clone(), offset: -1 }
        ),
        verb!(get_offset, v2::GetOffsetRequest { group: g.clone(), message_queue: message_queue.clone() }),
        verb!(query_offset, v2::QueryOffsetRequest { message_queue, query_offset_policy: at_a_time, timestamp: None }),
        ("end_transaction", commit(wire, topic, "").await),
        ("notify_client_termination", leave(wire, Some(group)).await),
        ("change_invisible_duration", change(wire, group, topic, &handle, 10).await.0),
        ("recall_message", recall(wire, topic, &handle).await.0),
        verb!(sync_lite_subscription, v2::SyncLiteSubscriptionRequest { topic: t, group: g, ..Default::default() }),
    ]
}

#[test]
fn c25_01_failures_of_the_application_are_no_grpc_errors() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        cluster.raftmq_ok(&["group", "create", "g"]);
        let wire = &wires[0];
        let nobody = Wire::connect(&cluster.address(1), " ").within(CALL);
        for (verb, code) in every_verb(&nobody, "t", "g").await {
            assert_eq!(code, Code::ClientIdRequired, "{verb}");
        }
        for (verb, code) in every_verb(wire, "no topic!", "g").await {
            let expected = match verb {
                "heartbeat" | "notify_client_termination" => Code::Ok,
                "sync_lite_subscription" => Code::NotImplemented,
                _ => Code::IllegalTopic,
            };
            assert_eq!(code, expected, "{verb}");
        }
        for (verb, code) in every_verb(wire, "t", "CID_RMQ_SYS_g").await {
            let expected = match verb {
                "query_route" | "send_message" | "notify_client_termination" => Code::Ok,
                "query_offset" | "recall_message" => Code::BadRequest,
                "end_transaction" => Code::InvalidTransactionId,
                "sync_lite_subscription" => Code::NotImplemented,
                _ => Code::IllegalConsumerGroup,
            };
            assert_eq!(code, expected, "{verb}");
        }
        for (verb, code) in every_verb(wire, "t", "g").await {
            let expected = match verb {
                "query_route" | "send_message" | "notify_client_termination" => Code::Ok,
                "heartbeat" | "query_assignment" => Code::Ok,
                "receive_message" => Code::IllegalInvisibleTime,
                "ack_message" | "forward_message_to_dead_letter_queue" => Code::InvalidReceiptHandle,
                "change_invisible_duration" => Code::InvalidReceiptHandle,
                "pull_message" | "update_offset" => Code::IllegalOffset,
                "get_offset" => Code::OffsetNotFound,
                "query_offset" | "recall_message" => Code::BadRequest,
                "end_transaction" => Code::InvalidTransactionId,
                _ => Code::NotImplemented,
            };
            assert_eq!(code, expected, "{verb}");
        }
        // A topic that is missing; the rest is refused for something else before.
        let missing = every_verb(wire, "missing", "g").await;
        for (verb, code) in missing.into_iter().filter(|(verb, _)| {
            ["query_route", "query_assignment", "send_message", "ack_message", "get_offset"].contains(verb)
        }) {
            assert_eq!(code, Code::TopicNotFound, "{verb}");
        }
        assert_eq!(refused(wire, poll("g", "missing")).await.code(), Code::TopicNotFound);
        assert_eq!(ack_code(wire, "nobody", "t", "nonsense").await, Code::ConsumerGroupNotFound);

        // Telemetry before its settings are looked at: one command with the status alone, then the end.
        let mut answers = telemetry(&nobody, "JAVA", &settings(v2::ClientType::Producer, publishing(&[])), 1).await;
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((told(answer.status), answer.command), (Code::ClientIdRequired, None));
        assert_eq!(answers.message().await.unwrap(), None);
        // Bad settings and unknown verbs are the only ones that gRPC says no to.
        for bad in [publishing(&["no topic!"]), subscribed("CID_RMQ_SYS_g", "t", by_tag("a || b"))] {
            let mut answers = telemetry(wire, "JAVA", &settings(v2::ClientType::Producer, bad), 1).await;
            assert_eq!(answers.message().await.unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        let channel = Endpoint::from_shared(format!("http://{}", cluster.address(0))).unwrap().connect_lazy();
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/apache.rocketmq.v2.MessagingService/Nonsense");
        let request = tonic::Request::new(v2::HeartbeatRequest::default());
        let codec = tonic_prost::ProstCodec::<_, v2::HeartbeatResponse>::default();
        assert_eq!(grpc.unary(request, path, codec).await.unwrap_err().code(), tonic::Code::Unimplemented);
    });
}

#[test]
fn c25_02_settings_are_answered_in_full_and_what_the_client_said_is_echoed() {
    with_cluster(&[], &[("t", "NORMAL"), ("steps", "FIFO")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        cluster.raftmq_ok(&["group", "create", "orderly", "--orderly"]);
        cluster.raftmq_ok(&["group", "create", "patient", "--retries", "4"]);
        let metric = Some(v2::Metric { on: false, endpoints: None });
        let foreign = v2::Resource { resource_namespace: "Some Namespace".into(), name: "t".into() };

        let mut sent = settings(v2::ClientType::Producer, publishing(&[]));
        // As clients say it before they have heard from the server.
        sent.backoff_policy = Some(v2::RetryPolicy { max_attempts: 3, strategy: Some(exponential(0, 0)) });
        sent.pub_sub = Some(PubSub::Publishing(v2::Publishing { topics: vec![foreign.clone()], ..Default::default() }));
        let expected = v2::Settings {
            backoff_policy: Some(v2::RetryPolicy { max_attempts: 3, strategy: Some(exponential(10, 1)) }),
            metric: metric.clone(),
            pub_sub: Some(PubSub::Publishing(v2::Publishing {
                topics: vec![foreign.clone()],
                max_body_size: MIB_4 as i32,
                validate_message_type: true,
            })),
            ..sent.clone()
        };
        for wire in &wires {
            assert_eq!(answer_to(wire, "JAVA", &sent).await, expected);
        }

        let list = Strategy::CustomizedBackoff(v2::CustomizedBackoff { next: BACKOFF.map(seconds).to_vec() });
        let cases = [("unknown", "t", 17, false), ("patient", "t", 5, false), ("orderly", "t", 17, true)];
        for kind in [v2::ClientType::PushConsumer, v2::ClientType::SimpleConsumer] {
            for (group, topic, max_attempts, fifo) in cases {
                let PubSub::Subscription(mut subscription) = subscribed(group, topic, by_tag("a || b")) else {
                    unreachable!()
                };
                subscription.group.as_mut().unwrap().resource_namespace = "Some Namespace".into();
                subscription.subscriptions[0].topic = Some(foreign.clone());
                let sent = settings(kind, PubSub::Subscription(subscription.clone()));
                let expected = v2::Settings {
                    backoff_policy: Some(v2::RetryPolicy { max_attempts, strategy: Some(list.clone()) }),
                    metric: metric.clone(),
                    pub_sub: Some(PubSub::Subscription(v2::Subscription {
                        fifo: Some(fifo),
                        receive_batch_size: Some(32),
                        long_polling_timeout: Some(seconds(20)),
                        ..subscription
                    })),
                    ..sent.clone()
                };
                assert_eq!(answer_to(&wires[0], "PYTHON", &sent).await, expected, "{group}");
            }
        }
    });
}

#[test]
fn c25_03_producers_get_exponential_backoff_whatever_their_language() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        for language in LANGUAGES {
            for topics in [&["t"][..], &[]] {
                let sent = settings(v2::ClientType::Producer, publishing(topics));
                let heard = answer_to(&wires[0], language, &sent).await;
                assert_eq!(strategy(&heard), exponential(10, 1), "{language}");
            }
            // Push consumers: Node knows no list, Python nothing else (contract §6.4).
            let sent = settings(v2::ClientType::PushConsumer, subscribed("g", "t", by_tag("a || b")));
            let heard = strategy(&answer_to(&wires[1], language, &sent).await);
            if language == "HTTP" {
                assert_eq!(heard, exponential(5000, 7200));
            } else {
                assert!(matches!(heard, Strategy::CustomizedBackoff(list) if list.next.len() == 18), "{language}");
            }
        }
    });
}

#[test]
fn c25_04_nothing_depends_on_settings_or_a_stream_known_to_the_node() {
    let topics = [("t", "NORMAL"), ("later", "DELAY"), ("deals", "TRANSACTION")];
    with_cluster(&[], &topics, async |mut cluster| {
        let wires = cluster.wires_within(CALL);
        // Its settings were told to node 0, which forgets them and the stream when it restarts.
        let known = &wires[0];
        let told_settings = settings(v2::ClientType::PushConsumer, subscribed("g", "t", by_tag("a || b")));
        let _stream = telemetry(known, "DOTNET", &told_settings, 1).await;
        send(known, message("t", "before", "m")).await;
        let before = receive(known, poll("g", "t")).await;
        assert_eq!(ids(&before), ["before"]);
        cluster.kill(0);
        cluster.start_node(0);
        cluster.wait_for_leader();
        let until = Instant::now() + CALL;
        // The first word of a client after the restart may be any.
        while heartbeat(known, v2::ClientType::PushConsumer, Some("g")).await.ok() != Some(Code::Ok) {
            assert!(Instant::now() < until, "the node is not back\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ack(known, "g", "t", &before).await;

        for node in 0..3 {
            let new = Wire::connect(&cluster.address(node), &format!("never seen {node}")).within(CALL);
            for (who, wire) in [known, &new].into_iter().enumerate() {
                let m = format!("m{node}{who}");
                assert_eq!(heartbeat(wire, v2::ClientType::Producer, None).await.unwrap(), Code::Ok);
                assert_eq!(heartbeat(wire, v2::ClientType::SimpleConsumer, Some("g")).await.unwrap(), Code::Ok);
                assert_eq!(route(wire, "t", None).await.0, Code::Ok);
                assert_ne!(assignments(wire, "t", None).await, []);
                send(wire, message("t", &m, "m")).await;
                // Nothing tells how long to wait but the deadline of the call.
                let push = v2::ReceiveMessageRequest { long_polling_timeout: None, ..push_poll("g", "t") };
                let got = receive(wire, push).await;
                assert_eq!(ids(&got), [m.as_str()]);
                let (status, handle) = change(wire, "g", "t", &delivered(&got[0]).1, 30).await;
                assert_eq!(status, Code::Ok);
                assert_eq!(ack_code(wire, "g", "t", &handle).await, Code::Ok);
                let entry = send(wire, delayed("later", &m, 60_000)).await;
                assert_eq!(recall(wire, "later", &entry.recall_handle).await.0, Code::Ok);
                let entry = send(wire, half("deals", &m)).await;
                assert_eq!(commit(wire, "deals", &entry.transaction_id).await, Code::Ok);
                // Go says so with an empty group, also for producers.
                assert_eq!(leave(wire, Some("")).await, Code::Ok);
                assert_eq!(leave(wire, None).await, Code::Ok);
            }
        }
    });
}

#[test]
fn c25_05_every_node_serves_every_verb_for_every_queue() {
    let topics = [("t", "NORMAL"), ("later", "DELAY"), ("deals", "TRANSACTION"), ("steps", "FIFO")];
    with_cluster(&[], &topics, async |cluster| {
        let wires = cluster.wires_within(CALL);
        // Each verb on each node, one of which leads, and each on another than the verb before it.
        for turn in 0..3 {
            let [a, b, c] = [0, 1, 2].map(|node| &wires[(turn + node) % 3]);
            // As many as queues, so that every queue has one.
            for number in 0..8 {
                send([a, b, c][number % 3], message("t", &format!("m{turn}{number}"), "m")).await;
            }
            let got = take(std::slice::from_ref(a), &poll("all", "t"), 8).await;
            let queues: BTreeSet<_> = got.iter().map(|message| system(message).queue_id).collect();
            assert_eq!(queues, (0..8).collect());

            let first = receive(b, v2::ReceiveMessageRequest { batch_size: 1, ..poll("one", "t") }).await;
            let (id, handle, _) = delivered(&first[0]);
            let (status, handle) = change(c, "one", "t", &handle, 20).await;
            assert_eq!(status, Code::Ok);
            assert_eq!(change(a, "one", "t", &handle, 0).await.0, Code::Ok);
            let mut got = BTreeMap::new();
            while got.len() < 8 {
                for (id, handle, attempt) in receive(a, poll("one", "t")).await.iter().map(delivered) {
                    assert!(got.insert(id, (handle, attempt)).is_none());
                }
            }
            let expected = |sent: &String| if *sent == id { 2 } else { 1 };
            assert!(got.iter().all(|(id, (_, attempt))| *attempt == expected(id)), "{got:?}");
            let (dead, (handle, _)) = got.pop_first().unwrap();
            assert_eq!(forward(b, "one", "t", &handle).await, Code::Ok);
            assert_eq!(ids(&take(std::slice::from_ref(c), &poll("dead", "%DLQ%one"), 1).await), [dead]);
            for (handle, _) in got.values() {
                assert_eq!(ack_code(c, "one", "t", handle).await, Code::Ok);
            }

            let m = format!("m{turn}");
            let entry = send(a, delayed("later", &m, 60_000)).await;
            assert_eq!(recall(b, "later", &entry.recall_handle).await, (Code::Ok, m.clone()));
            let entry = send(b, half("deals", &m)).await;
            assert_eq!(commit(c, "deals", &entry.transaction_id).await, Code::Ok);
            assert_eq!(ids(&take(std::slice::from_ref(a), &poll("g", "deals"), 1).await), [m]);
            let number = turn as u32 + 1;
            send(c, ordered("steps", "x", number)).await;
            assert_eq!(ids(&take(std::slice::from_ref(a), &poll("g", "steps"), 1).await), [format!("x{number}")]);
            assert_eq!(route(a, "t", None).await.0, Code::Ok);
            assert_ne!(assignments(a, "t", None).await, []);
        }
    });
}

#[test]
fn c25_06_routes_hold_only_rows_a_client_can_use() {
    let topics = [("t", "NORMAL"), ("steps", "FIFO"), ("later", "DELAY"), ("deals", "TRANSACTION")];
    with_cluster(&[], &topics, async |cluster| {
        let wires = cluster.wires_within(CALL);
        cluster.raftmq_ok(&["group", "create", "g"]);
        let types = [
            ("t", v2::MessageType::Normal),
            ("steps", v2::MessageType::Fifo),
            ("later", v2::MessageType::Delay),
            ("deals", v2::MessageType::Transaction),
        ];
        for wire in &wires {
            know_each_other(wire, "t").await;
            for (topic, kind) in types {
                let (code, rows) = route(wire, topic, None).await;
                assert_eq!(code, Code::Ok);
                let mut queues = BTreeMap::new();
                for row in rows {
                    let broker = row.broker.clone().unwrap();
                    assert_eq!((broker.id, row.permission()), (0, v2::Permission::ReadWrite), "{topic}");
                    assert_eq!(row.accept_message_types, [i32::from(kind)], "{topic}");
                    assert_eq!(name(&row.topic), topic);
                    queues.entry(broker.name).or_insert_with(Vec::new).push(row.id);
                }
                // Each queue once for each name, from 0, and no replica of it.
                assert_eq!(queues.len(), 3, "{topic}");
                assert!(queues.values().all(|ids| *ids == (0..8).collect::<Vec<_>>()), "{topic}: {queues:?}");
                let rows = assignments(wire, topic, None).await;
                assert_eq!(rows.len(), 3, "{topic}");
                for row in rows {
                    assert_eq!(row.broker.as_ref().unwrap().id, 0);
                    assert_eq!((row.id, row.permission()), (-1, v2::Permission::ReadWrite), "{topic}");
                    assert!(!row.accept_message_types.contains(&0), "{topic}");
                }
            }
            // Nobody sends dead letters: the one topic that may only be read.
            let (code, rows) = route(wire, "%DLQ%g", None).await;
            assert_eq!(code, Code::Ok);
            assert_ne!(rows, []);
            assert!(rows.iter().all(|row| row.permission() == v2::Permission::Read), "{rows:?}");
        }
    });
}

/// The endpoints of all rows a client gets that dialled these.
async fn told_endpoints(wire: &Wire, dialled: Option<v2::Endpoints>) -> Vec<v2::Endpoints> {
    let mut rows = route(wire, "t", dialled.clone()).await.1;
    rows.extend(assignments(wire, "t", dialled).await);
    assert_eq!(rows.len(), 3 * 8 + 3);
    rows.into_iter().map(|row| row.broker.unwrap().endpoints.unwrap()).collect()
}

/// Whether every client can use them: one address, by name or in IPv4, as the scheme says (contract §8.3).
fn is_usable(endpoints: &v2::Endpoints) -> bool {
    let [address] = &endpoints.addresses[..] else { return false };
    let scheme = match address.host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => v2::AddressScheme::IPv4,
        Ok(std::net::IpAddr::V6(_)) => return false,
        Err(_) => v2::AddressScheme::DomainName,
    };
    endpoints.scheme() == scheme && !address.host.is_empty() && (1..=65_535).contains(&address.port)
}

fn port_of(cluster: &Cluster, node: usize) -> i32 {
    cluster.address(node).rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn c25_07_endpoints_hold_one_address_whatever_was_dialled() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let [a, b, c] = [0, 1, 2].map(|node| port_of(&cluster, node));
        let (ipv4, domain) = (v2::AddressScheme::IPv4, v2::AddressScheme::DomainName);
        let dialled = [
            None,
            Some(endpoints(ipv4, &[("127.0.0.1", a)])),
            Some(endpoints(ipv4, &[("127.0.0.1", a), ("127.0.0.1", b), ("127.0.0.1", c)])),
            Some(endpoints(ipv4, &[("192.0.2.7", 80), ("192.0.2.8", 80)])),
            Some(endpoints(domain, &[("localhost", b)])),
            Some(endpoints(domain, &[("mq.example.com", 8081)])),
            Some(endpoints(domain, &[("a.example.com", 8081), ("b.example.com", 8081)])),
        ];
        for wire in &wires {
            know_each_other(wire, "t").await;
            for dialled in &dialled {
                for endpoints in told_endpoints(wire, dialled.clone()).await {
                    assert!(is_usable(&endpoints), "{endpoints:?} for {dialled:?}");
                }
            }
        }
    });
}

#[test]
fn c25_07_endpoints_hold_no_ipv6_address_even_if_one_was_dialled() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        know_each_other(&wires[0], "t").await;
        let dialled = endpoints(v2::AddressScheme::IPv6, &[("::1", port_of(&cluster, 0))]);
        for endpoints in told_endpoints(&wires[0], Some(dialled)).await {
            assert!(is_usable(&endpoints), "{endpoints:?}");
        }
    });
}

#[test]
fn c25_08_the_server_chooses_the_queue_of_a_message_group() {
    with_cluster(&[], &[("steps", "FIFO")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        // Each client hashes to another queue, and says so.
        let mut groups = vec!["x"];
        groups.extend(["a", "b", "c", "d", "e", "f", "h", "i"]);
        for number in 1..=8 {
            for group in &groups {
                let mut step = ordered("steps", group, number);
                step.system_properties.as_mut().unwrap().queue_id = number as i32 - 1;
                send(&wires[number as usize % 3], step).await;
            }
        }
        let got = take(&wires, &poll("g", "steps"), 8 * groups.len()).await;
        let mut places = BTreeMap::new();
        for message in &got {
            let system = system(message);
            let place = (system.queue_id, system.queue_offset.unwrap(), system.message_id[1..].to_owned());
            places.entry(system.message_id[..1].to_owned()).or_insert_with(Vec::new).push(place);
        }
        let mut queues = BTreeSet::new();
        for (group, places) in places {
            assert!(places.iter().all(|place| place.0 == places[0].0), "{group} is in one queue: {places:?}");
            assert!(places.is_sorted_by_key(|place| place.1), "{group} came in the order of its queue: {places:?}");
            let numbers: Vec<_> = places.iter().map(|place| place.2.as_str()).collect();
            assert_eq!(numbers, ["1", "2", "3", "4", "5", "6", "7", "8"], "{group} came in the order it was sent");
            queues.insert(places[0].0);
        }
        assert!(queues.len() > 1, "message groups are spread over the queues: {queues:?}");
    });
}

#[test]
fn c25_09_a_receive_takes_from_all_queues_whichever_it_names() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        for number in 0..16 {
            send(&wires[number % 3], message("t", &format!("m{number}"), "m")).await;
        }
        know_each_other(&wires[0], "t").await;
        let rows = route(&wires[0], "t", None).await.1;
        // As clients send them: any row of any node to any node, the row of an assignment, one that Node makes up.
        let mut asked: Vec<_> = [0, 7, 13, 20].map(|row| rows[row].clone()).to_vec();
        asked.extend(assignments(&wires[0], "t", None).await);
        let made_up = |name: &str, id| v2::MessageQueue {
            id,
            broker: Some(v2::Broker { name: name.to_owned(), ..Default::default() }),
            ..rows[0].clone()
        };
        asked.extend([made_up("virtual-broker", -1), made_up("", 0), made_up("nobody", 999)]);
        asked.extend(queue("t"));
        for (number, message_queue) in asked.into_iter().enumerate() {
            let group = format!("g{number}");
            let request = v2::ReceiveMessageRequest { message_queue: Some(message_queue), ..poll(&group, "t") };
            let got = take(&wires[number % 3..][..1], &request, 16).await;
            let queues: BTreeSet<_> = got.iter().map(|message| system(message).queue_id).collect();
            assert_eq!(queues, (0..8).collect(), "{:?}", request.message_queue);
            assert_eq!(ids(&got).into_iter().collect::<BTreeSet<_>>().len(), 16);
        }
    });
}

#[test]
fn c25_10_polls_wait_in_earnest_and_end_before_the_deadline() {
    with_cluster(&[], &[("t", "NORMAL"), ("busy", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let wire = &wires[0];
        // Code, messages and duration of a poll that asks for so long and is given so long, in milliseconds.
        let poll_for = async |group: &str, wanted: Option<i64>, deadline: u64| {
            let request = v2::ReceiveMessageRequest { long_polling_timeout: wanted.map(millis), ..poll(group, "t") };
            let started = Instant::now();
            let answer = wire.receive_with(request, Duration::from_millis(deadline)).await.unwrap();
            (answer.0.code(), answer.1.len(), started.elapsed().as_millis() as u64)
        };
        let filtered = async {
            let request = v2::ReceiveMessageRequest { filter_expression: by_tag("b"), ..poll("g", "busy") };
            let started = Instant::now();
            nothing(wire, request).await;
            started.elapsed()
        };
        let unwanted = async {
            for number in 0..6 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                send(&wires[1], tagged("busy", &format!("m{number}"), "a")).await;
            }
        };
        let headers = async {
            let started = Instant::now();
            wire.raw().receive_message(wire.request(poll("headers", "t"))).await.unwrap();
            started.elapsed()
        };
        let (asked_5, asked_10, asked_20, asked_1, asked_nothing, filtered, (), headers) = tokio::join!(
            poll_for("a", Some(5_000), 8_000),
            poll_for("b", Some(10_000), 13_000),
            poll_for("c", Some(20_000), 8_000),
            poll_for("d", Some(1_000), 8_000),
            poll_for("e", None, 8_000),
            filtered,
            unwanted,
            headers,
        );
        let cases = [
            (asked_5, 5_000..8_000, "as long as it asked for"),
            (asked_10, 10_000..13_000, "as long as it asked for"),
            (asked_20, 7_000..8_000, "as long as the deadline lets it"),
            (asked_1, 5_000..8_000, "the shortest poll"),
            (asked_nothing, 6_500..8_000, "half a request timeout less than the deadline"),
        ];
        for ((code, count, took), expected, why) in cases {
            assert_eq!((code, count), (Code::MessageNotFound, 0), "{why}");
            assert!(expected.contains(&took), "{why}: {took} ms, not {expected:?}");
        }
        assert!(filtered >= POLL, "what it does not want ended the poll after {filtered:?}");
        assert!(headers < SOON, "the headers came after {headers:?}");

        // Less time than the shortest poll: refused at once, with a code that the client's version knows.
        for (version, expected) in
            [("5.0.3", Code::IllegalPollingTime), ("5.2.1", Code::IllegalPollingTime), ("5.0.0", Code::BadRequest)]
        {
            let mut request = wire.within(Duration::from_millis(4_900)).request(poll("short", "t"));
            request.metadata_mut().insert("x-mq-client-version", version.parse().unwrap());
            let started = Instant::now();
            let mut items = wire.raw().receive_message(request).await.unwrap().into_inner();
            let Some(Content::Status(status)) = items.message().await.unwrap().unwrap().content else {
                panic!("the status is first")
            };
            assert_eq!(status.code(), expected, "{version}");
            assert!(started.elapsed() < SOON, "{version}: after {:?}", started.elapsed());
        }
    });
}

/// The items of a poll, in order.
async fn items(wire: &Wire, request: v2::ReceiveMessageRequest) -> Vec<String> {
    let mut answer = wire.raw().receive_message(wire.request(request)).await.unwrap().into_inner();
    let mut items = Vec::new();
    while let Some(item) = answer.message().await.unwrap() {
        items.push(match item.content.expect("no item is empty") {
            Content::Status(status) => format!("status {}", told(Some(status)).as_str_name()),
            Content::Message(message) => format!("message {}", delivered(&message).0),
            Content::DeliveryTimestamp(at) => {
                assert!((now_millis() - millis_of(at)).abs() < CALL.as_millis() as i64, "{at:?}");
                "timestamp".to_owned()
            }
        });
    }
    items
}

#[test]
fn c25_11_items_and_entries_are_all_there_and_in_order() {
    with_cluster(&[], &[], async |cluster| {
        let wires = cluster.wires_within(CALL);
        cluster.raftmq_ok(&["topic", "create", "t", "--queues", "1"]);
        let [a, b, _] = &wires;
        let answer = a.send(["m0", "m1", "m2"].map(|id| message("t", id, id)).to_vec()).await.unwrap();
        assert_eq!(told(answer.status), Code::Ok);
        let entries: Vec<_> =
            answer.entries.into_iter().map(|entry| (told(entry.status), entry.message_id, entry.offset)).collect();
        assert_eq!(entries, [0, 1, 2].map(|number| (Code::Ok, format!("m{number}"), number)));
        // One that cannot be stored keeps the others from being stored, and none has an entry.
        let bad = vec![message("t", "m3", "m"), message("t", "m4", ""), message("t", "m5", "m")];
        let answer = a.send(bad).await.unwrap();
        assert_eq!((told(answer.status), answer.entries), (Code::MessageBodyEmpty, vec![]));

        let got = items(b, poll("g", "t")).await;
        assert_eq!(got, ["status OK", "message m0", "message m1", "message m2", "timestamp"]);
        assert_eq!(items(b, poll("g", "t")).await, ["status MESSAGE_NOT_FOUND", "timestamp"]);
        // RocketMQ's proxy ends errors with a timestamp too.
        for (request, expected) in [
            (poll("g", "missing"), "status TOPIC_NOT_FOUND"),
            (poll("g", "no topic!"), "status ILLEGAL_TOPIC"),
            (v2::ReceiveMessageRequest { invisible_duration: None, ..poll("g", "t") }, "status ILLEGAL_INVISIBLE_TIME"),
        ] {
            let got = items(b, request).await;
            assert_eq!(got[0], expected);
            assert!(got[1..].iter().all(|item| item == "timestamp") && got.len() <= 2, "{got:?}");
        }

        let messages = receive(b, poll("h", "t")).await;
        let mut asked: Vec<_> = messages.iter().map(delivered).map(|(id, handle, _)| (id, handle)).collect();
        asked.insert(1, ("bad".into(), "nonsense".into()));
        let told_of = |answer: v2::AckMessageResponse| -> Vec<_> {
            let told_of =
                |entry: v2::AckMessageResultEntry| ((entry.message_id, entry.receipt_handle), told(entry.status));
            answer.entries.into_iter().map(told_of).collect()
        };
        let pairs = |codes: [Code; 4]| asked.iter().cloned().zip(codes).collect::<Vec<_>>();
        let answer = a.ack("h", "t", asked.clone()).await.unwrap();
        let status = answer.status.clone().unwrap();
        assert_eq!((status.code(), status.message.as_str()), (Code::MultipleResults, "MULTIPLE_RESULTS"));
        assert_eq!(told_of(answer), pairs([Code::Ok, Code::InvalidReceiptHandle, Code::Ok, Code::Ok]));
        // Repeated it hears the same; also what is refused as a whole names every entry.
        let answer = a.ack("h", "t", asked.clone()).await.unwrap();
        assert_eq!(told_of(answer), pairs([Code::Ok, Code::InvalidReceiptHandle, Code::Ok, Code::Ok]));
        let answer = a.ack("h", "missing", asked.clone()).await.unwrap();
        assert_eq!(told(answer.status.clone()), Code::TopicNotFound);
        assert_eq!(told_of(answer), pairs([Code::TopicNotFound; 4]));
        asked.remove(1);
        let answer = a.ack("h", "t", asked.clone()).await.unwrap();
        assert_eq!((told(answer.status), answer.entries.len()), (Code::Ok, 3));
        assert_eq!(told(a.ack("h", "t", vec![]).await.unwrap().status), Code::InternalServerError);
    });
}

/// What clients read of every message without asking whether it is there (contract §9.3).
fn assert_complete(message: &v2::Message, md5: &str, encoding: v2::Encoding) {
    let system = system(message);
    let digest = system.body_digest.clone().expect("Node and C# read it");
    assert_eq!((digest.r#type(), digest.checksum.as_str()), (v2::DigestType::Md5, md5), "{}", system.message_id);
    assert_eq!(system.body_encoding(), encoding, "{}", system.message_id);
    for at in [system.born_timestamp.expect("C# reads it"), system.store_timestamp.unwrap()] {
        assert!((now_millis() - millis_of(at)).abs() < 60_000, "{at:?}");
    }
    assert_ne!(system.born_host, "");
    assert_ne!(system.store_host, "");
}

#[test]
fn c25_12_digest_born_time_and_encoding_are_on_every_message() {
    const ABC: &str = "900150983CD24FB0D6963F7D28E17F72";
    const GZIPPED: &[u8] = b"\x1f\x8b\x08\x00not really";
    const OF_GZIPPED: &str = "69BB795229F8608B60C7AE6F20B9EB5E";
    use v2::Encoding::{Gzip, Identity};
    let topics = [("t", "NORMAL"), ("later", "DELAY"), ("deals", "TRANSACTION"), ("steps", "FIFO")];
    let settings_of_cluster = ["transactionTimeOut=300", "transactionCheckInterval=1000"];
    with_cluster(&settings_of_cluster, &topics, async |cluster| {
        let wires = cluster.wires_within(CALL);
        let [a, b, c] = &wires;
        // A client that says nothing of it, but too much of the attempt.
        let bare = |mut message: v2::Message| {
            message.body = "abc".into();
            message.system_properties.as_mut().unwrap().delivery_attempt = Some(1_700_000_000);
            message
        };
        send(a, bare(message("t", "bare", ""))).await;
        let got = receive(b, poll("g", "t")).await;
        assert_complete(&got[0], ABC, Identity);
        assert_eq!(delivered(&got[0]).2, 1, "attempts are counted here");
        // The same as a dead letter.
        assert_eq!(forward(c, "g", "t", &delivered(&got[0]).1).await, Code::Ok);
        assert_complete(&take(std::slice::from_ref(b), &poll("g", "%DLQ%g"), 1).await[0], ABC, Identity);

        let mut zipped = message("t", "zipped", "");
        zipped.body = GZIPPED.into();
        let system_of_zipped = zipped.system_properties.as_mut().unwrap();
        let born = Timestamp { seconds: timestamp(now_millis() - 2000).seconds, nanos: 123_000_000 };
        system_of_zipped.body_encoding = Gzip.into();
        system_of_zipped.body_digest =
            Some(v2::Digest { r#type: v2::DigestType::Crc32.into(), checksum: "DEADBEEF".into() });
        system_of_zipped.born_timestamp = Some(born);
        system_of_zipped.born_host = "producer".into();
        send(a, zipped.clone()).await;
        let got = take(std::slice::from_ref(c), &poll("g", "t"), 1).await;
        assert_complete(&got[0], OF_GZIPPED, Gzip);
        assert_eq!(got[0].body, GZIPPED, "passed through");
        assert_eq!((system(&got[0]).born_timestamp, system(&got[0]).born_host.as_str()), (Some(born), "producer"));
        zipped.body = "".into();
        assert_eq!(code(a, zipped).await, Code::MessageBodyEmpty, "there is no empty body, zipped or not");

        send(b, bare(ordered("steps", "x", 1))).await;
        assert_complete(&take(std::slice::from_ref(c), &poll("g", "steps"), 1).await[0], ABC, Identity);
        send(b, bare(delayed("later", "later", 300))).await;
        assert_complete(&take(std::slice::from_ref(c), &poll("g", "later"), 1).await[0], ABC, Identity);

        // A producer that is asked about a transaction reads the message too.
        let mut stream = telemetry(b, "JAVA", &settings(v2::ClientType::Producer, publishing(&["deals"])), 1).await;
        stream.message().await.unwrap().unwrap();
        let sent = send(a, bare(half("deals", "deal"))).await;
        let question = tokio::time::timeout(CALL, stream.message()).await.expect("it is asked").unwrap().unwrap();
        let Some(Command::RecoverOrphanedTransactionCommand(question)) = question.command else {
            panic!("{question:?}")
        };
        assert_eq!(question.transaction_id, sent.transaction_id);
        assert_complete(&question.message.unwrap(), ABC, Identity);
        assert_eq!(commit(b, "deals", &question.transaction_id).await, Code::Ok);
        assert_complete(&take(std::slice::from_ref(c), &poll("g", "deals"), 1).await[0], ABC, Identity);
    });
}

#[test]
fn c25_13_a_handle_outlives_the_renewals_of_its_lease() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let [push, other, _] = &wires;
        for id in ["acked", "changed", "given up"] {
            send(push, message("t", id, "m")).await;
        }
        let request = push_poll("g", "t");
        let mut held = BTreeMap::new();
        let received_at = Instant::now();
        while held.len() < 3 {
            for (id, handle, attempt) in receive(push, request.clone()).await.iter().map(delivered) {
                assert_eq!(attempt, 1);
                held.insert(id, handle);
            }
        }
        // A lease is of a minute and nobody asks for more: the client lives, and that is all.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(19)).await;
            assert_eq!(heartbeat(push, v2::ClientType::PushConsumer, Some("g")).await.unwrap(), Code::Ok);
        }
        nothing(other, poll("g", "t")).await;
        assert!(received_at.elapsed() > Duration::from_secs(61));

        assert_eq!(ack_code(push, "g", "t", &held["acked"]).await, Code::Ok);
        assert_eq!(forward(push, "g", "t", &held["given up"]).await, Code::Ok);
        assert_eq!(change(push, "g", "t", &held["changed"], 0).await.0, Code::Ok);
        let again = receive(other, poll("g", "t")).await;
        assert_eq!(
            again.iter().map(|message| (delivered(message).0, delivered(message).2)).collect::<Vec<_>>(),
            [("changed".to_owned(), 2)]
        );
    });
}

#[test]
fn c25_13_what_has_ended_is_refused_and_every_refused_change_echoes_its_handle() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let [a, b, c] = &wires;
        send(a, message("t", "m", "m")).await;
        let first = receive(a, poll("g", "t")).await;
        let received_at = Instant::now();
        let (id, old, attempt) = delivered(&first[0]);
        assert_eq!((id.as_str(), attempt), ("m", 1));

        // Whatever is wrong, Go and Python store the handle of the answer.
        let nobody = Wire::connect(&cluster.address(0), "").within(CALL);
        for (wire, group, topic, handle, seconds, expected) in [
            (a, "g", "t", old.as_str(), 43_201, Code::IllegalInvisibleTime),
            (a, "g", "t", old.as_str(), -1, Code::IllegalInvisibleTime),
            (a, "g", "missing", old.as_str(), 10, Code::TopicNotFound),
            (a, "nobody", "t", old.as_str(), 10, Code::ConsumerGroupNotFound),
            (a, "no group!", "t", old.as_str(), 10, Code::IllegalConsumerGroup),
            (&nobody, "g", "t", old.as_str(), 10, Code::ClientIdRequired),
            (b, "g", "t", "nonsense", 10, Code::InvalidReceiptHandle),
            (c, "g", "t", "", 10, Code::InvalidReceiptHandle),
        ] {
            let echoed = change(wire, group, topic, handle, seconds).await;
            assert_eq!(echoed, (expected, handle.to_owned()), "{group} {topic} {seconds}");
        }

        // Nobody was given it since: its time is over all the same.
        tokio::time::sleep(Duration::from_secs(11).saturating_sub(received_at.elapsed())).await;
        let answer = b.ack("g", "t", vec![(id, old.clone())]).await.unwrap();
        assert_eq!(told(answer.status), Code::InvalidReceiptHandle);
        let status = answer.entries[0].status.clone().unwrap();
        assert_eq!(status.code(), Code::InvalidReceiptHandle);
        assert!(status.message.contains("INVALID_RECEIPT_HANDLE"), "{}", status.message);
        let answer = c.change_invisible("g", "t", &old, 10).await.unwrap();
        let status = answer.status.unwrap();
        assert_eq!((status.code(), &answer.receipt_handle), (Code::InvalidReceiptHandle, &old));
        assert!(status.message.contains("INVALID_RECEIPT_HANDLE"), "{}", status.message);
        assert_eq!(forward(a, "g", "t", &old).await, Code::InvalidReceiptHandle);

        let again = receive(c, poll("g", "t")).await;
        let (_, new, attempt) = delivered(&again[0]);
        assert_eq!(attempt, 2);
        assert_eq!(
            ack_code(a, "g", "t", &old).await,
            Code::InvalidReceiptHandle,
            "nor does it act on the next delivery"
        );
        assert_eq!(ack_code(a, "g", "t", &new).await, Code::Ok);
        let echoed = change(a, "g", "t", &new, 10).await;
        assert_eq!(echoed, (Code::InvalidReceiptHandle, new), "what is settled is changed no more");
    });
}

#[test]
fn c25_14_a_gap_in_order_is_redelivered_with_what_is_behind_it() {
    /// Two leases of 10 s and the begin of a third.
    const OBSERVED: Duration = Duration::from_secs(22);
    with_cluster(&[], &[("steps", "FIFO")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let [a, b, c] = &wires;
        for number in 1..=20 {
            send([a, b, c][number as usize % 3], ordered("steps", "x", number)).await;
        }
        let poll_of = |group: &str, batch_size| v2::ReceiveMessageRequest { batch_size, ..poll(group, "steps") };
        // All but the first of a batch of three is acked: the same three again, and nothing else.
        let acks_behind = async {
            let (started, mut times) = (Instant::now(), 0);
            while started.elapsed() < OBSERVED {
                let wire = &wires[times as usize % 3];
                let messages = receive(wire, poll_of("gap", 3)).await;
                if messages.is_empty() {
                    continue;
                }
                times += 1;
                assert_eq!(ids(&messages), ["x1", "x2", "x3"], "delivery {times}");
                assert!(messages.iter().all(|message| delivered(message).2 == times), "delivery {times}");
                ack(wire, "gap", "steps", &messages[1..]).await;
            }
            times
        };
        // Nothing is acked: the first is all there is to see.
        let acks_nothing = async {
            let (started, mut times) = (Instant::now(), 0);
            while started.elapsed() < OBSERVED {
                let messages = receive(b, poll_of("none", 1)).await;
                if !messages.is_empty() {
                    times += 1;
                    assert_eq!(ids(&messages), ["x1"], "delivery {times}");
                }
            }
            times
        };
        // Part of a batch is acked, from the front: locked until the rest is, and then it goes on at once.
        let acks_in_parts = async {
            let messages = receive(c, poll_of("parts", 3)).await;
            assert_eq!(ids(&messages), ["x1", "x2", "x3"]);
            ack(a, "parts", "steps", &messages[..2]).await;
            nothing(b, poll_of("parts", 3)).await;
            ack(c, "parts", "steps", &messages[2..]).await;
            let messages = receive(a, poll_of("parts", 3)).await;
            assert_eq!(ids(&messages), ["x4", "x5", "x6"]);
            // Time runs out with the front acked: again from the first that is not.
            ack(a, "parts", "steps", &messages[..1]).await;
            let request = v2::ReceiveMessageRequest { long_polling_timeout: Some(seconds(20)), ..poll_of("parts", 2) };
            assert_eq!(ids(&receive(b, request).await), ["x5", "x6"]);
        };
        let (behind, nothing_acked, ()) = tokio::join!(acks_behind, acks_nothing, acks_in_parts);
        assert!(behind >= 2, "each at least twice, not {behind}");
        assert!(nothing_acked >= 2, "at least twice, not {nothing_acked}");
    });
}

#[test]
fn c25_15_large_sends_pass_over_tls_and_in_plaintext_on_one_port() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let secure = tls::connect(cluster.address(0)).await.unwrap();
        let wires = [Wire::over(secure, "secure"), Wire::connect(&cluster.address(0), "plain")];
        let wires = wires.map(|wire| wire.within(CALL));
        for (wire, id) in wires.iter().zip(["secure", "plain"]) {
            let mut large = having("t", id, [("k", &"v".repeat(KIB_16 - 1))]);
            large.body = vec![b'b'; MIB_4].into();
            assert_eq!(code(wire, large).await, Code::Ok, "{id}");
        }
        for (wire, group) in wires.iter().zip(["secure", "plain"]) {
            let got = take(std::slice::from_ref(wire), &poll(group, "t"), 2).await;
            assert_eq!(sorted(ids(&got)), ["plain", "secure"]);
            assert!(got.iter().all(|message| message.body.len() == MIB_4), "{group}");
        }
    });
}

/// What went over the connections of a relay, as bytes of each way.
#[derive(Default)]
struct Passed {
    connections: usize,
    up: Vec<u8>,
    down: Vec<u8>,
}

/// Takes connections and passes their bytes on to a node, for as long as it is polled.
async fn relay(listener: TcpListener, node: String, passed: Arc<Mutex<Passed>>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(&node).await.unwrap();
        passed.lock().unwrap().connections += 1;
        let ((client_read, client_write), (server_read, server_write)) = (client.into_split(), server.into_split());
        let (up, down) = (passed.clone(), passed.clone());
        tokio::spawn(pass(client_read, server_write, move |bytes| up.lock().unwrap().up.extend(bytes)));
        tokio::spawn(pass(server_read, client_write, move |bytes| down.lock().unwrap().down.extend(bytes)));
    }
}

async fn pass(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, keep: impl Fn(&[u8])) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        keep(&bytes[..count]);
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// Type and flags of the HTTP/2 frames in these bytes (RFC 9113 §4.1).
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8)> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, _, _, _, _, rest @ ..] = bytes {
        frames.push((*kind, *flags));
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        bytes = rest.get(length..).unwrap_or_default();
    }
    frames
}

#[test]
fn c25_15_pings_without_calls_are_answered_and_keep_the_connection() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const ACK: u8 = 1;
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let passed = Arc::new(Mutex::new(Passed::default()));
        let relaying = tokio::spawn(relay(listener, cluster.address(0), passed.clone()));
        // Far more often than any client does, so that a server that counts them against it is soon found out.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(SOON)
            .keep_alive_while_idle(true);
        let wire = Wire::over(endpoint.connect().await.unwrap(), "pinging").within(CALL);
        assert_eq!(heartbeat(&wire, v2::ClientType::Producer, None).await.unwrap(), Code::Ok);
        tokio::time::sleep(Duration::from_secs(8)).await;
        {
            let passed = passed.lock().unwrap();
            let (up, down) = (frames(passed.up.strip_prefix(PREFACE).unwrap()), frames(&passed.down));
            let count = |frames: &[(u8, u8)], frame| frames.iter().filter(|other| **other == frame).count();
            let pings = count(&up, (PING, 0));
            assert!(pings >= 4, "the client does ping: {up:?}");
            assert!(count(&down, (PING, ACK)) >= pings - 1, "each is answered, but the last may be under way");
            assert!(!down.iter().any(|(kind, _)| *kind == GOAWAY), "{down:?}");
        }
        send(&wire, message("t", "m", "m")).await;
        assert_eq!(passed.lock().unwrap().connections, 1, "it is still the first connection");
        relaying.abort();
    });
}

#[test]
fn c25_15_any_language_and_any_date_are_taken() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let wire = &wires[0];
        let dates = ["20240229T235959Z", "2024-02-29T23:59:59.123456789+05:30", "yesterday", ""];
        for language in LANGUAGES.into_iter().chain([""]) {
            for date in dates {
                // Nobody checks who calls yet: the header is passed over, whole or not.
                for signature in ["MQv2-HMAC-SHA1 Credential=, SignedHeaders=x-mq-date-time, Signature=00", "nonsense"]
                {
                    let marked = |metadata: &mut tonic::metadata::MetadataMap| {
                        for (name, value) in [
                            ("x-mq-language", language),
                            ("x-mq-date-time", date),
                            ("authorization", signature),
                            ("x-mq-protocol", "v9"),
                            ("x-mq-client-version", ""),
                        ] {
                            metadata.insert(name, value.parse().unwrap());
                        }
                    };
                    let beat = v2::HeartbeatRequest { group: None, client_type: v2::ClientType::Producer.into() };
                    let mut request = wire.request(beat);
                    marked(request.metadata_mut());
                    let answer = wire.raw().heartbeat(request).await.unwrap().into_inner();
                    assert_eq!(told(answer.status), Code::Ok, "{language} {date} {signature}");
                    let mut request = wire.request(v2::SendMessageRequest { messages: vec![message("t", "m", "m")] });
                    marked(request.metadata_mut());
                    let answer = wire.raw().send_message(request).await.unwrap().into_inner();
                    assert_eq!(told(answer.status), Code::Ok, "{language} {date} {signature}");
                }
            }
            let sent = settings(v2::ClientType::Producer, publishing(&["t"]));
            answer_to(wire, language, &sent).await;
        }
    });
}
