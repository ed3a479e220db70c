//! Messages whose attempts are used up: where they go, who reads them, and the way back.

use raftmq::proto::v2::Code;

use crate::fixture::calls::{forward, send};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delivered, message, system, tagged};
use crate::fixture::wire::POLL;

#[test]
fn p6_p10_a_message_is_dead_after_its_last_attempt_and_read_like_any_other() {
    with_cluster(&[], &[("t", "NORMAL")], async |mut cluster| {
        cluster.raftmq_ok(&["group", "create", "g", "--retries", "1"]);
        let [a, b, c] = cluster.wires();
        let (status, _) = b.receive("readers", "%DLQ%g", 1, POLL).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound, "it can be read before there is anything in it");
        let (status, _) = b.receive("readers", "%DLQ%nobody", 1, POLL).await.unwrap();
        assert_eq!(status.code(), Code::TopicNotFound);

        let mut unlucky = tagged("t", "unlucky", "tag");
        unlucky.user_properties.insert("key".into(), "value".into());
        send(&a, unlucky).await;
        for attempt in 1..=2 {
            let (_, messages) = b.receive("g", "t", 1, POLL).await.unwrap();
            let (id, handle, counted) = delivered(&messages[0]);
            assert_eq!((id.as_str(), counted), ("unlucky", attempt));
            let changed = a.change_invisible("g", "t", &handle, 0).await.unwrap();
            assert_eq!(changed.status.unwrap().code(), Code::Ok);
        }
        let (status, _) = b.receive("g", "t", 1, POLL).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound, "two attempts and no more");

        send(&c, message("t", "given up", "body")).await;
        let (_, messages) = c.receive("g", "t", 1, POLL).await.unwrap();
        let (_, handle, _) = delivered(&messages[0]);
        assert_eq!(forward(&a, "g", "t", &handle).await, Code::Ok);
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        let living = cluster.wires_but(leader);
        assert_eq!(forward(&living[0], "g", "t", &handle).await, Code::Ok, "a repeated one hears the same");
        assert_eq!(forward(&living[0], "g", "t", "nonsense").await, Code::InvalidReceiptHandle);
        assert_eq!(forward(&living[0], "nobody", "t", &handle).await, Code::ConsumerGroupNotFound);

        let mut dead = Vec::new();
        while dead.len() < 2 {
            let (status, messages) = living[1].receive("readers", "%DLQ%g", 8, 3 * POLL).await.unwrap();
            assert_eq!(status.code(), Code::Ok, "{dead:?}");
            dead.extend(messages);
        }
        let system = |number: usize| system(&dead[number]);
        let origin = system(0).dead_letter_queue.as_ref().unwrap();
        assert_eq!((origin.topic.as_str(), origin.message_id.as_str()), ("t", "unlucky"));
        assert_eq!((system(0).delivery_attempt, system(0).tag.as_deref()), (Some(2), Some("tag")));
        assert_eq!(dead[0].user_properties["key"], "value");
        assert_eq!((system(1).message_id.as_str(), system(1).delivery_attempt), ("given up", Some(1)));
    });
}

#[test]
fn dead_letters_are_listed_and_redriven_once() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        cluster.raftmq_ok(&["group", "create", "g", "--retries", "0", "--backoff", "1s,2s"]);
        let [a, b, _] = cluster.wires();
        send(&a, message("t", "unlucky", "body")).await;
        let (_, got) = a.receive("g", "t", 1, POLL).await.unwrap();
        let (_, handle, _) = delivered(&got[0]);
        assert_eq!(b.change_invisible("g", "t", &handle, 0).await.unwrap().status.unwrap().code(), Code::Ok);
        let listed = cluster.json(&["group", "dlq", "list", "g"]);
        let dead = &listed["messages"][0];
        assert_eq!((&dead["message_id"], &dead["origin"]["attempts"]), (&"unlucky".into(), &1.into()));
        assert_eq!(cluster.json(&["group", "describe", "g"])["group"]["dead"], 1);
        assert_eq!(cluster.json(&["group", "dlq", "redrive", "g", "--all"])["redriven"]["redriven"], 1);
        assert_eq!(cluster.json(&["group", "dlq", "redrive", "g", "--all"])["redriven"]["redriven"], 0);
        assert_eq!(cluster.json(&["group", "describe", "g"])["group"]["dead"], 0);
        let (_, got) = b.receive("g", "t", 1, POLL).await.unwrap();
        let (id, handle, attempt) = delivered(&got[0]);
        assert_eq!((id.as_str(), attempt), ("unlucky", 1));
        assert_eq!(a.ack("g", "t", vec![(id, handle)]).await.unwrap().status.unwrap().code(), Code::Ok);
        let (status, _) = a.receive("g", "t", 1, POLL).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound);
    });
}
