//! Changes of the invisible time by clients, and renewals by the server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::{ack, ack_code, change, forward, heartbeat, leave, nothing, receive, send};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delivered, message};
use crate::fixture::requests::{poll, push_poll};
use crate::fixture::telemetry::{BACKOFF, consumer};
use crate::fixture::wire::{CALL, POLL};

#[test]
fn p8_only_its_own_connection_ends_a_client_s_session_and_its_leases() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(0).within(CALL);
        let (_, stream) = consumer(&wire, "g", "t", "*").await;
        send(&wire, message("t", "m", "m")).await;
        assert_eq!(receive(&wire, push_poll("g", "t")).await.len(), 1);
        // The same client id from another connection, also with a stream of its own.
        let stranger = cluster.wire(0).within(CALL);
        assert_eq!(leave(&stranger, Some("g")).await, Code::Ok);
        let (_, strange) = consumer(&stranger, "g", "t", "*").await;
        assert_eq!(leave(&stranger, Some("g")).await, Code::Ok);
        drop(strange);
        let other = cluster.wire(1).within(CALL);
        assert!(receive(&other, poll("g", "t")).await.is_empty(), "the lease goes on");
        assert_eq!(leave(&wire, Some("g")).await, Code::Ok);
        let again = receive(&other, poll("g", "t")).await;
        assert_eq!(again.iter().map(|message| delivered(message).2).collect::<Vec<_>>(), [2]);
        drop(stream);
    });
}

#[test]
fn a_change_of_invisible_time_ends_the_old_handle() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(2);
        send(&wire, message("t", "a", "a")).await;
        let (_, messages) = wire.receive("g", "t", 1, POLL).await.unwrap();
        let (id, old, _) = delivered(&messages[0]);
        let changed = wire.change_invisible("g", "t", &old, 30).await.unwrap();
        assert_eq!(changed.status.unwrap().code(), Code::Ok);
        let new = changed.receipt_handle;
        let refused = wire.change_invisible("g", "t", &old, 30).await.unwrap();
        assert_eq!(refused.status.unwrap().code(), Code::InvalidReceiptHandle);
        assert_eq!(refused.receipt_handle, old, "the handle that was sent is echoed");
        let refused = wire.change_invisible("g", "t", &new, 43_201).await.unwrap();
        let status = refused.status.unwrap();
        assert_eq!(status.code(), Code::IllegalInvisibleTime);
        assert!(status.message.contains("the invisibleTime is too large"));
        // Visible at once, as the next attempt; an open poll sees it.
        let poll = wire.clone();
        let polling = tokio::spawn(async move { poll.receive("g", "t", 1, POLL).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(200)).await;
        let changed = wire.change_invisible("g", "t", &new, 0).await.unwrap();
        assert_eq!(changed.status.unwrap().code(), Code::Ok);
        let asked = Instant::now();
        let (_, again) = polling.await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(2));
        let (_, handle, attempt) = delivered(&again[0]);
        assert_eq!(attempt, 2);
        let acked = wire.ack("g", "t", vec![(id, handle)]).await.unwrap();
        assert_eq!(acked.status.unwrap().code(), Code::Ok);
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
