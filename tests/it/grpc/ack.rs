//! Acks: a lease is settled once, and a handle that has ended settles nothing.

use std::time::{Duration, Instant};

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::{ack_code, change, forward, receive, send, told};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delivered, message};
use crate::fixture::requests::{poll, resource};
use crate::fixture::wire::{CALL, POLL, Wire};

#[test]
fn p7_p8_leases_end_come_again_and_are_settled_once() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(0);
        send(&wire, message("t", "a", "a")).await;
        let (_, first) = wire.receive("g", "t", 1, POLL).await.unwrap();
        let leased = Instant::now();
        let (id, old, _) = delivered(&first[0]);
        // Held by the lease: nobody else gets it.
        let (status, none) = wire.receive("g", "t", 1, POLL).await.unwrap();
        assert_eq!((status.code(), none.len()), (Code::MessageNotFound, 0));
        // Back within half a second of the end of its ten seconds, in an open poll, as attempt 2.
        let (_, again) = wire.receive("g", "t", 1, Duration::from_secs(10)).await.unwrap();
        let back = leased.elapsed();
        let (_, new, attempt) = delivered(&again[0]);
        assert_eq!(attempt, 2);
        assert!(back >= Duration::from_millis(9_900), "P8: back after {back:?}");
        assert_ne!(old, new);
        let code = async |handle: &str| {
            let answer = wire.ack("g", "t", vec![(id.clone(), handle.to_owned())]).await.unwrap();
            let status = answer.entries[0].status.clone().unwrap();
            assert!(status.code() == Code::Ok || status.message.contains("INVALID_RECEIPT_HANDLE"));
            status.code()
        };
        assert_eq!(code(&old).await, Code::InvalidReceiptHandle);
        assert_eq!(code("nonsense").await, Code::InvalidReceiptHandle);
        assert_eq!(code(&new).await, Code::Ok);
        assert_eq!(code(&new).await, Code::Ok);
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
fn the_text_about_a_missing_group_is_true_whatever_the_configuration() {
    for setting in ["autoCreateSubscriptionGroup=true", "autoCreateSubscriptionGroup=false"] {
        with_cluster(&[setting], &[("t", "NORMAL")], async |cluster| {
            cluster.raftmq_ok(&["group", "create", "gone"]);
            let wire = cluster.wire(0).within(CALL);
            send(&wire, message("t", "m", "m")).await;
            let (id, handle, _) = delivered(&receive(&wire, poll("gone", "t")).await[0]);
            cluster.raftmq_ok(&["group", "delete", "gone", "--yes"]);
            let acked = async || {
                let answer = wire.ack("gone", "t", vec![(id.clone(), handle.clone())]).await.unwrap();
                answer.entries[0].status.clone().unwrap()
            };
            // Another node may have deleted it, and this one be behind for a moment.
            let mut status = acked().await;
            for _ in 0..50 {
                if status.code() == Code::ConsumerGroupNotFound {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                status = acked().await;
            }
            assert_eq!(status.code(), Code::ConsumerGroupNotFound);
            // What it says of the configuration is a condition.
            assert!(status.message.contains("only with autoCreateSubscriptionGroup=true"), "{}", status.message);
            assert!(!status.message.contains("=false"), "{}", status.message);
        });
    }
}

/// What every verb that takes a receipt handle says of it: the same.
async fn said_of(wire: &Wire, group: &str, topic: &str, handle: &str) -> String {
    let acked = wire.ack(group, topic, vec![("m".into(), handle.to_owned())]).await.unwrap();
    let changed = wire.change_invisible(group, topic, handle, 10).await.unwrap();
    let request = v2::ForwardMessageToDeadLetterQueueRequest {
        group: Some(resource(group)),
        topic: Some(resource(topic)),
        receipt_handle: handle.to_owned(),
        ..Default::default()
    };
    let forwarded = wire.raw().forward_message_to_dead_letter_queue(wire.request(request)).await.unwrap();
    let statuses = [acked.entries[0].status.clone(), changed.status, forwarded.into_inner().status];
    let [acked, changed, forwarded] = statuses.map(|status| {
        let status = status.unwrap();
        assert_eq!(status.code(), Code::InvalidReceiptHandle, "{}", status.message);
        status.message
    });
    assert_eq!((&changed, &forwarded), (&acked, &acked));
    acked
}

#[test]
fn a_handle_that_never_was_one_is_not_said_to_have_ended() {
    with_cluster(&[], &[("t", "NORMAL"), ("u", "NORMAL"), ("deals", "TRANSACTION")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let [a, b, _] = &wires;
        for group in ["g", "h"] {
            cluster.raftmq_ok(&["group", "create", group]);
        }
        for never in ["", "x", "nonsense"] {
            let said = said_of(a, "g", "t", never).await;
            assert!(said.contains("not a receipt handle of this cluster"), "{never:?}: {said}");
        }
        send(a, message("t", "m", "m")).await;
        let (id, handle, _) = delivered(&receive(b, poll("g", "t")).await[0]);
        for (group, topic) in [("h", "t"), ("g", "u")] {
            let said = said_of(b, group, topic, &handle).await;
            assert!(said.contains("another topic or consumer group"), "{group} {topic}: {said}");
        }
        let one = v2::EndTransactionRequest {
            topic: Some(resource("deals")),
            message_id: "m".into(),
            transaction_id: "x".into(),
            resolution: v2::TransactionResolution::Commit.into(),
            ..Default::default()
        };
        let status = a.raw().end_transaction(a.request(one)).await.unwrap().into_inner().status.unwrap();
        assert_eq!(status.code(), Code::InvalidTransactionId);
        assert!(status.message.contains("not a transaction id of this cluster"), "{}", status.message);
        // Its own group and topic settle it; nothing above did.
        assert_eq!(ack_code(a, "g", "t", &handle).await, Code::Ok, "{id}");
        // A settled one has ended for those that would do something else with it.
        let (code, _) = change(a, "g", "t", &handle, 10).await;
        assert_eq!(code, Code::InvalidReceiptHandle);
    });
}
