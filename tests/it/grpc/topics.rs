//! Topics that are missing, and topics that come by themselves.

use raftmq::proto::v2;
use raftmq::proto::v2::Code;
use raftmq::proto::v2::settings::PubSub;

use crate::fixture::calls::{code, route, send};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::message;
use crate::fixture::requests::resource;
use crate::fixture::telemetry::{answer_to, publishing, settings};
use crate::fixture::wire::{CALL, POLL, Wire};

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
fn topics_come_by_themselves_only_where_they_may() {
    with_cluster(&["autoCreateTopicEnable=true"], &[], async |cluster| {
        let [a, b, _] = cluster.wires();
        let (code, rows) = route(&a, "fresh", None).await;
        assert_eq!(code, Code::Ok);
        // Eight queues on each node that has told where it is.
        assert!(matches!(rows.len(), 8 | 16 | 24), "{rows:?}");
        send(&b, message("another", "m", "body")).await;
        let (status, _) = a.receive("g", "nope", 1, POLL).await.unwrap();
        assert_eq!(status.code(), Code::TopicNotFound, "who only reads makes nothing");
        let listed = cluster.json(&["topic", "list"]);
        let names: Vec<_> = listed["topics"].as_array().unwrap().iter().map(|topic| topic["topic"].clone()).collect();
        assert_eq!(names, ["another", "fresh"]);
    });
}

#[test]
fn p20_what_comes_into_being_by_use_is_capped_on_every_node() {
    let caps = ["topicsMax=2", "groupsMax=2", "topicQueuesMax=4", "defaultTopicQueueNums=4", "subscriptionsMax=3"];
    with_cluster(&caps, &[("a", "NORMAL"), ("b", "NORMAL")], async |cluster| {
        let refused = |args: &[&str]| {
            let output = cluster.raftmq(args);
            assert!(!output.status.success(), "{args:?}");
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        let text = refused(&["topic", "create", "c"]);
        assert!(text.contains("there are 2 topics and topicsMax=2 allows no 1 more; delete topics"), "{text}");
        assert!(refused(&["topic", "create", "a"]).contains("exists"));
        let text = refused(&["topic", "update", "a", "--queues", "5"]);
        assert!(text.contains("5 queues are not between 1 and topicQueuesMax=4"), "{text}");
        let wires = cluster.wires_within(CALL);
        let poll = async |wire: &Wire, group: &str, topic: &str| wire.receive(group, topic, 1, POLL).await.unwrap().0;
        for (group, topic) in [("g1", "a"), ("g2", "a"), ("g2", "b")] {
            assert_eq!(poll(&wires[0], group, topic).await.code(), Code::MessageNotFound);
        }
        for wire in &wires {
            let status = poll(wire, "g3", "a").await;
            assert_eq!(status.code(), Code::Forbidden, "{}", status.message);
            assert!(
                status.message.contains("there are 2 groups and groupsMax=2 allows no 1 more"),
                "{}",
                status.message
            );
            let status = poll(wire, "g1", "b").await;
            assert!(status.message.contains("subscriptionsMax=3"), "{}", status.message);
            // What is there is used on.
            assert_eq!(poll(wire, "g1", "a").await.code(), Code::MessageNotFound);
        }
        cluster.raftmq_ok(&["group", "delete", "g1", "--yes"]);
        assert_eq!(poll(&wires[0], "g3", "a").await.code(), Code::MessageNotFound);
        let text = refused(&["topic", "update", "%DLQ%g3", "--queues", "2"]);
        assert!(text.contains("a topic of dead letters has one queue"), "{text}");
    });
}
