//! Messages as an operator finds them: by id, key and place, with their deliveries; delayed ones listed, moved, recalled; and
//! sent again.

use std::time::{Duration, Instant};

use raftmq::proto::v2::Code;

use crate::fixture::calls::{commit, drain, forward, send};
use crate::fixture::cluster::{Cluster, with_cluster};
use crate::fixture::messages::{delayed, delivered, half, message, ordered};
use crate::fixture::wire::{POLL, Wire};

/// Receives until this message comes, acking the others; its handle and attempt.
async fn receive_one(wire: &Wire, group: &str, topic: &str, wanted: &str) -> (String, i32) {
    let mut found = None;
    while found.is_none() {
        let (_, got) = wire.receive(group, topic, 16, POLL).await.unwrap();
        for one in &got {
            let (id, handle, attempt) = delivered(one);
            if id == wanted {
                found = Some((handle, attempt));
            } else {
                wire.ack(group, topic, vec![(id, handle)]).await.unwrap();
            }
        }
    }
    found.unwrap()
}

#[test]
fn a_message_is_found_by_id_key_and_place_and_its_deliveries_are_told() {
    with_cluster(&[], &[("t", "NORMAL"), ("later", "DELAY")], async |cluster| {
        let [a, b, c] = cluster.wires();
        let mut keyed = message("t", "wanted", "the body");
        keyed.system_properties.as_mut().unwrap().keys = vec!["order-7".into()];
        for number in 0..10 {
            send(&a, message("t", &format!("m{number}"), "body")).await;
        }
        send(&b, keyed).await;
        for args in [["--id", "wanted"], ["--key", "order-7"]] {
            let found = cluster.json(&[&["message", "find", "t"], &args[..]].concat());
            let messages = found["messages"].as_array().unwrap();
            assert_eq!((messages.len(), &messages[0]["body"]), (1, &"the body".into()));
        }
        // Times as people write them.
        let in_time = |args: &[&str]| {
            cluster.json(&[&["message", "find", "t"], args].concat())["messages"].as_array().unwrap().len()
        };
        assert_eq!((in_time(&["--from", "2h"]), in_time(&["--from", "2026-01-01", "--to", "1h"])), (11, 0));
        assert_eq!(in_time(&["--to", "2026-01-01T00:00:00+08:00"]), 0);
        let wrong = cluster.raftmq(&["message", "find", "t", "--from", "yesterday"]);
        let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert_eq!(
            (wrong.status.code(), said.contains("is no time; write 2h for two hours ago")),
            (Some(2), true),
            "{said}"
        );
        let wide = cluster.raftmq_ok(&["-o", "wide", "message", "find", "t", "--key", "order-7"]);
        assert!(wide.contains("PROPERTIES  BODY") && wide.contains("NORMAL"), "{wide}");
        let found = cluster.json(&["message", "find", "t", "--key", "order-7"]);
        let [queue, offset] = ["queue", "offset"].map(|key| found["messages"][0][key].to_string());
        let got = cluster.json(&["message", "get", "t", &queue, &offset]);
        assert_eq!(got["messages"][0]["message_id"], "wanted");
        let missing = cluster.raftmq(&["message", "get", "t", &queue, "9999"]);
        assert!(!missing.status.success());

        // Delivered to one node's client, given up, delivered to another's, acknowledged.
        let (handle, attempt) = receive_one(&a, "g", "t", "wanted").await;
        assert_eq!(attempt, 1);
        let trace = |cluster: &Cluster| {
            let events = cluster.json(&["message", "trace", "t", &queue, &offset])["events"].clone();
            let text = |event: &serde_json::Value| {
                let [state, what, client] = ["state", "what", "client"].map(|key| event[key].as_str().unwrap());
                format!("{state}: {what} {client}")
            };
            events.as_array().unwrap().iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(trace(&cluster), ["in flight: delivered client-0"]);
        let life = cluster.json(&["message", "trace", "t", "--id", "wanted"])["message"].clone();
        assert_eq!((&life["state"], &life["replicas"]), (&"queued".into(), &serde_json::json!(["n0", "n1", "n2"])));
        assert_eq!((life["queue"].to_string(), life["offset"].to_string()), (queue.clone(), offset.clone()));
        assert!(life["term"].as_u64() >= Some(1) && life["segment"].as_u64() <= life["entry"].as_u64(), "{life}");
        b.change_invisible("g", "t", &handle, 0).await.unwrap();
        // Too late: its lease has ended.
        let late = a.ack("g", "t", vec![("wanted".into(), handle)]).await.unwrap();
        assert_eq!(late.status.unwrap().code(), Code::InvalidReceiptHandle);
        let told = ["delivered client-0", "change asked -", "refused -"];
        assert_eq!(trace(&cluster), told.map(|what| format!("returning: {what}")));
        let (handle, attempt) = receive_one(&c, "g", "t", "wanted").await;
        assert_eq!(attempt, 2);
        c.ack("g", "t", vec![("wanted".into(), handle)]).await.unwrap();
        let told = ["delivered client-0", "change asked -", "refused -", "delivered client-2", "acknowledged -"];
        assert_eq!(trace(&cluster), told.map(|what| format!("acknowledged: {what}")));

        // Messages that wait are listed, moved and recalled.
        send(&a, delayed("later", "soon", 600_000)).await;
        let kept = send(&a, delayed("later", "never", 700_000)).await.recall_handle;
        let waiting = cluster.json(&["message", "delayed", "later"]);
        let life = cluster.json(&["message", "trace", "later", "--id", "never"])["message"].clone();
        assert_eq!((&life["state"], &life["queue"]), (&"delayed".into(), &serde_json::Value::Null), "{life}");
        assert_eq!(cluster.raftmq(&["message", "trace", "later", "--id", "nobody"]).status.code(), Some(2));
        assert_eq!(waiting["messages"][1]["recall_handle"], kept.as_str());
        cluster.raftmq_ok(&["message", "recall", "later", &kept]);
        let handle = waiting["messages"][0]["recall_handle"].as_str().unwrap();
        cluster.raftmq_ok(&["message", "move", "later", handle, "--to", "now"]);
        assert!(!cluster.raftmq(&["message", "move", "later", handle, "--to", "2h"]).status.success());
        assert_eq!(drain(std::slice::from_ref(&b), "g", "later", 1).await[0].0, "soon");
        assert_eq!(cluster.json(&["message", "delayed", "later"])["messages"].as_array().unwrap().len(), 0);
        resent(&cluster, &a).await;
    });
}

/// What is sent again is the same under another id, in its topic's own way; what cannot be is refused.
async fn resent(cluster: &Cluster, wire: &Wire) {
    let until = Instant::now() + Duration::from_secs(60);
    // Acts are noted once all nodes have said that they know events.
    while cluster.json(&["cluster", "events"])["events"] == serde_json::json!([]) {
        assert!(Instant::now() < until, "nothing is noted\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (topic, kind) in [("lines", "FIFO"), ("accounts", "TRANSACTION")] {
        cluster.raftmq_ok(&["topic", "create", topic, "--type", kind, "--queues", "2"]);
    }
    let stored = |topic: &str| cluster.json(&["message", "find", topic])["messages"].as_array().unwrap().clone();
    let resend = |topic: &str, message: &serde_json::Value| {
        let [queue, offset] = ["queue", "offset"].map(|key| message[key].to_string());
        cluster.raftmq(&["-o", "json", "message", "resend", topic, &queue, &offset])
    };
    send(wire, ordered("lines", "order", 7)).await;
    for topic in ["lines", "later"] {
        let first = stored(topic)[0].clone();
        let again: serde_json::Value = serde_json::from_slice(&resend(topic, &first).stdout).unwrap();
        let id = &again["message"]["message_id"];
        let until = Instant::now() + Duration::from_secs(60);
        // A delayed one is due at once, and enters its queue a moment later.
        let copy = loop {
            if let Some(copy) = stored(topic).into_iter().find(|message| message["message_id"] == *id) {
                break copy;
            }
            assert!(Instant::now() < until, "{topic}: {again}\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        for same in ["body", "keys", "properties", "tag", "type", "message_group"] {
            assert_eq!(copy[same], first[same], "{topic}: {same}");
        }
        assert_ne!(*id, first["message_id"], "{topic}");
        if topic == "lines" {
            assert_eq!(
                (&copy["queue"], &copy["offset"]),
                (&first["queue"], &1.into()),
                "after the first, in its queue"
            );
        }
    }
    let half_id = send(wire, half("accounts", "paid")).await.transaction_id;
    assert_eq!(commit(wire, "accounts", &half_id).await, Code::Ok);
    let (handle, _) = receive_one(wire, "dies", "lines", "order7").await;
    assert_eq!(forward(wire, "dies", "lines", &handle).await, Code::Ok);
    for (topic, words) in [("accounts", "let the producer send it again"), ("%DLQ%dies", "raftmq group dlq redrive")] {
        let refused = resend(topic, &stored(topic)[0]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(words), "{topic}: {said}");
    }
    let events = cluster.json(&["cluster", "events"]);
    let noted = events["events"].as_array().unwrap().iter().filter(|event| event["what"] == "message-resend").count();
    assert_eq!(noted, 2, "{events:#}");
}
