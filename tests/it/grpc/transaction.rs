//! Half messages: seen once they are committed, and asked about while nobody decides.

use std::time::Duration;

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::{drain, end, send};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{half, system};
use crate::fixture::telemetry::{asked, producer};
use crate::fixture::wire::POLL;

#[test]
fn p12_half_messages_are_seen_once_they_are_committed_and_never_otherwise() {
    use v2::TransactionResolution::{Commit, Rollback, Unspecified};
    with_cluster(&[], &[("deals", "TRANSACTION")], async |mut cluster| {
        let [a, b, c] = cluster.wires();
        let kept = send(&a, half("deals", "committed")).await.transaction_id;
        let dropped = send(&b, half("deals", "rolled back")).await.transaction_id;
        let open = send(&c, half("deals", "open")).await.transaction_id;
        assert_eq!(end(&b, "deals", &open, Unspecified).await, Code::Ok);
        let (status, _) = c.receive("g", "deals", 16, POLL).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound, "nothing is decided yet");

        // Decided by another leader than the one that took them in.
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        let living = cluster.wires_but(leader);
        assert_eq!(end(&living[0], "deals", &kept, Commit).await, Code::Ok);
        assert_eq!(end(&living[1], "deals", &dropped, Rollback).await, Code::Ok);
        // The first decision is final: repeating it is fine, another one comes too late.
        assert_eq!(end(&living[1], "deals", &kept, Commit).await, Code::Ok);
        assert_eq!(end(&living[1], "deals", &kept, Rollback).await, Code::InvalidTransactionId);
        assert_eq!(end(&living[0], "deals", &dropped, Commit).await, Code::InvalidTransactionId);
        for unknown in ["", "nonsense", "FFFFFFFFFFFF000000000000"] {
            assert_eq!(end(&living[0], "deals", unknown, Commit).await, Code::InvalidTransactionId, "{unknown}");
        }
        let got = drain(&living, "g", "deals", 1).await;
        assert_eq!(got.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["committed"]);
        let (status, _) = living[0].receive("g", "deals", 16, POLL).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound, "one once, one never, one not yet");
    });
}

#[test]
fn p12_a_producer_on_any_node_is_asked_about_what_it_left_open() {
    let settings = ["transactionTimeOut=500", "transactionCheckInterval=1000", "transactionCheckMax=3"];
    with_cluster(&settings, &[("deals", "TRANSACTION")], async |cluster| {
        let [a, b, c] = cluster.wires();
        // The producer that sent it is gone; another one of the topic is connected elsewhere.
        let sent = send(&a, half("deals", "asked about")).await;
        let mut told = producer(&b, "deals").await;
        let question = asked(&mut told).await;
        assert_eq!(question.transaction_id, sent.transaction_id);
        let message = question.message.unwrap();
        let system = system(&message);
        assert_eq!((system.message_id.as_str(), &message.body[..]), ("asked about", &b"asked about"[..]));
        assert!(system.body_digest.is_some() && system.born_timestamp.is_some(), "contract §9.3");
        assert_eq!(end(&c, "deals", &question.transaction_id, v2::TransactionResolution::Commit).await, Code::Ok);
        assert_eq!(drain(std::slice::from_ref(&c), "g", "deals", 1).await[0].0, "asked about");

        // Nobody answers: after the last question it counts as rolled back.
        let silent = send(&a, half("deals", "silent")).await.transaction_id;
        tokio::time::sleep(Duration::from_secs(6)).await;
        let late = end(&c, "deals", &silent, v2::TransactionResolution::Commit).await;
        assert_eq!(late, Code::InvalidTransactionId, "it was rolled back");
        let (status, _) = c.receive("g", "deals", 16, POLL).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound);
    });
}
