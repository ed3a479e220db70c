//! Namespaces of clients: apart from each other, from names without one, and invisible in what a client hears.

use raftmq::proto::v2;
use raftmq::proto::v2::Code;
use raftmq::proto::v2::settings::PubSub;

use crate::fixture::calls::{ack_code, code, forward, receive, told};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delivered, half, ids, message, sorted, system};
use crate::fixture::requests::poll;
use crate::fixture::telemetry::{asked, heard, settings, telemetry};
use crate::fixture::wire::{CALL, Wire};

fn of(namespace: &str, name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: namespace.into(), name: name.into() }
}

fn message_of(namespace: &str, message: v2::Message) -> v2::Message {
    let topic = message.topic.as_ref().map(|topic| of(namespace, &topic.name));
    v2::Message { topic, ..message }
}

fn poll_of(namespace: &str, group: &str, topic: &str) -> v2::ReceiveMessageRequest {
    let message_queue = Some(v2::MessageQueue { topic: Some(of(namespace, topic)), ..Default::default() });
    v2::ReceiveMessageRequest { group: Some(of(namespace, group)), message_queue, ..poll("", "") }
}

#[test]
fn namespaces_are_apart_and_their_clients_see_names_as_they_say_them() {
    let topics = [("orders", "NORMAL"), ("staging%orders", "NORMAL"), ("production%orders", "NORMAL")];
    with_cluster(&[], &topics, async |cluster| {
        let [a, b, c] = cluster.wires_within(CALL);
        for namespace in ["staging", "production", ""] {
            assert_eq!(
                code(&a, message_of(namespace, message("orders", &format!("of {namespace}"), "x"))).await,
                Code::Ok
            );
        }
        for namespace in ["", "staging", "production"] {
            let got = receive(&b, poll_of(namespace, "g", "orders")).await;
            assert_eq!(ids(&got), [format!("of {namespace}")], "the same topic and group names");
            assert_eq!(got[0].topic, Some(of(namespace, "orders")));
            if namespace == "staging" {
                // A dead letter of a group of the namespace, and where it came from, in its names.
                let handle = delivered(&got[0]).1;
                assert_eq!(ack_code(&c, "g", "orders", &handle).await, Code::InvalidReceiptHandle, "of another group");
                assert_eq!(forward(&c, "staging%g", "staging%orders", &handle).await, Code::Ok);
                let dead = receive(&a, poll_of(namespace, "undertaker", "%DLQ%g")).await;
                assert_eq!(ids(&dead), ["of staging"]);
                assert_eq!(system(&dead[0]).dead_letter_queue.as_ref().unwrap().topic, "orders");
            }
        }
        // The Node client says it in a header only.
        let node = Wire::connect(&cluster.address(0), "node").in_namespace("production").within(CALL);
        assert_eq!(code(&node, message("orders", "by header", "x")).await, Code::Ok);
        assert_eq!(sorted(ids(&receive(&node, poll("h", "orders")).await)), ["by header", "of production"]);
        assert_eq!(ids(&receive(&b, poll_of("staging", "h", "orders")).await), ["of staging"]);
        // Operators see and make them by their whole names.
        let said = a.send(vec![message_of("testing", message("orders", "m", "x"))]).await.unwrap().status.unwrap();
        assert_eq!(said.code(), Code::TopicNotFound);
        assert!(said.message.contains("raftmq topic create testing%orders"), "{}", said.message);
        let said = a.send(vec![message_of("a%b", message("orders", "m", "x"))]).await.unwrap().status.unwrap();
        assert_eq!(said.code(), Code::BadRequest);
        assert!(said.message.contains("namespace \"a%b\""), "{}", said.message);
    });
}

#[test]
fn a_producer_of_a_namespace_is_asked_about_its_transactions_in_its_own_names() {
    let settings_of_cluster = ["transactionTimeOut=300", "transactionCheckInterval=1000"];
    with_cluster(&settings_of_cluster, &[("staging%deals", "TRANSACTION")], async |cluster| {
        let wire = cluster.wire(0).within(CALL);
        let publishing = v2::Publishing { topics: vec![of("staging", "deals")], ..Default::default() };
        let said = settings(v2::ClientType::Producer, PubSub::Publishing(publishing));
        let mut stream = telemetry(&wire, "JAVA", &said, 1).await;
        let echoed = heard(&mut stream, "JAVA").await;
        let Some(PubSub::Publishing(publishing)) = echoed.pub_sub else { panic!("{echoed:?}") };
        assert_eq!(publishing.topics, [of("staging", "deals")]);
        let sent = wire.send(vec![message_of("staging", half("deals", "m"))]).await.unwrap();
        assert_eq!(told(sent.status), Code::Ok);
        let question = asked(&mut stream).await;
        assert_eq!(question.message.unwrap().topic, Some(of("staging", "deals")));
    });
}
