//! Every node serves every verb of every queue, to clients that it has never heard of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::{
    ack, ack_code, assignments, change, commit, forward, heartbeat, leave, recall, receive, route, send, take,
};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delayed, delivered, half, ids, message, ordered, system};
use crate::fixture::requests::{by_tag, poll, push_poll};
use crate::fixture::telemetry::{settings, subscribed, telemetry};
use crate::fixture::wire::{CALL, POLL, Wire};

#[test]
fn every_node_and_both_ports_serve_everything() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        for node in 0..3 {
            let id = format!("from {node}");
            send(&cluster.wire(node), message("t", &id, &id)).await;
        }
        let other_port = Wire::connect(&cluster.listen_address(0), "c");
        send(&other_port, message("t", "from the other port", "from the other port")).await;
        let mut ids = Vec::new();
        for node in [2, 0, 1] {
            let wire = cluster.wire(node);
            let (_, messages) = wire.receive("g", "t", 2, POLL).await.unwrap();
            for message in &messages {
                let (id, handle, attempt) = delivered(message);
                assert_eq!(attempt, 1);
                let acked = wire.ack("g", "t", vec![(id.clone(), handle)]).await.unwrap();
                assert_eq!(acked.status.unwrap().code(), Code::Ok);
                ids.push(id);
            }
            if ids.len() == 4 {
                break;
            }
        }
        ids.sort();
        assert_eq!(ids, ["from 0", "from 1", "from 2", "from the other port"]);
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
