//! Handles are sealed with a key that all nodes have and nobody else.

use raftmq::model::{GroupId, HandleKey, HandleKind, LeaseId, QueueId, QueueOffset, ReceiptHandle, TopicId};
use raftmq::proto::v2::Code;

use super::runtime;
use crate::fixture::calls::{ack_code, change, commit, recall, receive, send};
use crate::fixture::cluster::Cluster;
use crate::fixture::messages::{delayed, delivered, half, message};
use crate::fixture::requests::poll;
use crate::fixture::wire::CALL;

#[test]
fn p7_handles_are_good_on_every_node_and_after_a_restart_and_no_other_text_is() {
    let mut cluster = Cluster::start();
    for (topic, kind) in [("t", "NORMAL"), ("later", "DELAY"), ("deals", "TRANSACTION")] {
        cluster.raftmq_ok(&["topic", "create", topic, "--type", kind]);
    }
    let runtime = runtime();
    let _entered = runtime.enter();
    let (handle, recall_handle, transaction) = runtime.block_on(async {
        let [a, b, c] = cluster.wires_within(CALL);
        let recall_handle = send(&a, delayed("later", "m", 60_000)).await.recall_handle;
        let transaction = send(&b, half("deals", "m")).await.transaction_id;
        send(&c, message("t", "m", "m")).await;
        let (_, first, _) = delivered(&receive(&a, poll("g", "t")).await[0]);
        // What its first delivery says, as anybody who counts entries would guess it.
        let guessed = ReceiptHandle {
            group: GroupId(1),
            topic: TopicId(1),
            queue: QueueId(0),
            offset: QueueOffset(0),
            lease: LeaseId(1 << 16),
        };
        let made_up = guessed.to_text(&HandleKey::new([0; 16]));
        let earlier = "AQAAAAEAAAACAAAAAwAAAAAAAAAEAAAAAAAAAAWDFpuU".to_owned();
        for bad in [made_up, earlier, transaction.clone(), recall_handle.clone()] {
            assert_eq!(ack_code(&b, "g", "t", &bad).await, Code::InvalidReceiptHandle, "{bad}");
            assert_eq!(change(&b, "g", "t", &bad, 10).await, (Code::InvalidReceiptHandle, bad.clone()));
        }
        let made_up = HandleKey::new([0; 16]).seal(HandleKind::Transaction, |out| out.extend([9, 0]));
        for bad in ["000000000000000900000000", &made_up, &first] {
            assert_eq!(commit(&c, "deals", bad).await, Code::InvalidTransactionId, "{bad}");
            assert_eq!(recall(&c, "later", bad).await.0, Code::BadRequest, "{bad}");
        }
        let (code, second) = change(&b, "g", "t", &first, 60).await;
        assert_eq!(code, Code::Ok);
        (second, recall_handle, transaction)
    });
    for node in 0..3 {
        cluster.kill(node);
    }
    for node in 0..3 {
        cluster.start_node(node);
    }
    cluster.wait_for_leader();
    runtime.block_on(async {
        let [a, b, c] = cluster.wires_within(CALL);
        assert_eq!(ack_code(&c, "g", "t", &handle).await, Code::Ok);
        assert_eq!(recall(&b, "later", &recall_handle).await, (Code::Ok, "m".to_owned()));
        assert_eq!(commit(&a, "deals", &transaction).await, Code::Ok);
    });
}
