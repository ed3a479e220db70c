//! The form of answers: a status in each and no gRPC errors, all items and entries in order, reasons in words.

use raftmq::proto::v2;
use raftmq::proto::v2::Code;
use raftmq::proto::v2::receive_message_response::Content;
use tonic::transport::Endpoint;

use crate::fixture::calls::{ack_code, change, code, commit, forward, leave, recall, receive, refused, told};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delivered, message, millis_of, now_millis};
use crate::fixture::requests::{by_sql, by_tag, poll, queue, resource};
use crate::fixture::telemetry::{publishing, settings, subscribed, telemetry};
use crate::fixture::wire::{CALL, POLL, SOON, Wire};

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

#[test]
fn verbs_that_are_not_served_say_so_and_bad_requests_are_told_why() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(2);
        let lite = wire.request(v2::SyncLiteSubscriptionRequest::default());
        let code = wire.raw().sync_lite_subscription(lite).await.unwrap().into_inner().status.unwrap().code();
        assert_eq!(code, Code::NotImplemented);
        let nobody = Wire::connect(&cluster.address(2), "");
        let offset = nobody.request(v2::QueryOffsetRequest::default());
        let code = nobody.raw().query_offset(offset).await.unwrap().into_inner().status.unwrap().code();
        assert_eq!(code, Code::ClientIdRequired);

        for bad in [by_sql("a >"), by_tag(&"x".repeat(4097))] {
            let request = v2::ReceiveMessageRequest { filter_expression: bad, batch_size: 1, ..poll("g", "t") };
            let (status, _) = wire.receive_with(request, POLL + SOON).await.unwrap();
            assert_eq!(status.code(), Code::IllegalFilterExpression);
        }

        let long = Wire::connect(&cluster.address(2), &"c".repeat(256));
        let sent = long.send(vec![message("t", "i", "b")]).await.unwrap().status.unwrap();
        assert_eq!(sent.code(), Code::BadRequest);
        assert!(sent.message.contains("x-mq-client-id of 256 bytes is longer than 255"), "{}", sent.message);

        let mut late = message("t", "i", "b");
        let born = prost_types::Timestamp { seconds: 1_764_000_000_000, nanos: 0 };
        late.system_properties.as_mut().unwrap().born_timestamp = Some(born);
        let sent = wire.send(vec![late]).await.unwrap().status.unwrap();
        assert_eq!((sent.code(), sent.message.contains("milliseconds")), (Code::BadRequest, true), "{}", sent.message);
    });
}
