//! Polls that wait: for how long, what wakes them, and what becomes of those given up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future;
use raftmq::proto::v2;
use raftmq::proto::v2::Code;
use raftmq::proto::v2::receive_message_response::Content;

use crate::fixture::calls::{nothing, send};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delivered, message, tagged};
use crate::fixture::requests::{by_tag, millis, poll, push_poll, seconds};
use crate::fixture::wire::{CALL, POLL, SOON};

#[test]
fn polls_wait_wake_and_filter() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let (sender, receiver) = (cluster.wire(0), cluster.wire(1));
        let request = |expression: &str, invisible| v2::ReceiveMessageRequest {
            filter_expression: by_tag(expression),
            batch_size: 100_000,
            invisible_duration: Some(seconds(invisible)),
            ..poll("g", "t")
        };
        let (status, _) = receiver.receive_with(request("*", 9), SOON).await.unwrap();
        assert_eq!(status.code(), Code::IllegalInvisibleTime);
        let started = Instant::now();
        let (status, _) = receiver.receive_with(request("*", 10), Duration::from_secs(8)).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound);
        assert!(started.elapsed() >= Duration::from_secs(5), "an empty poll lasts its time");
        let polling =
            tokio::spawn(async move { receiver.receive_with(request("b || c", 10), Duration::from_secs(8)).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        for tag in ["a", "b"] {
            sender.send(vec![tagged("t", tag, tag)]).await.unwrap();
        }
        let sent = Instant::now();
        let (_, messages) = polling.await.unwrap().unwrap();
        assert!(sent.elapsed() < Duration::from_secs(1), "a new message wakes the poll");
        assert_eq!(messages.iter().map(|message| delivered(message).0).collect::<Vec<_>>(), ["b"]);
    });
}

#[test]
fn c25_10_polls_wait_in_earnest_and_end_before_the_deadline() {
    with_cluster(&[], &[("t", "NORMAL"), ("busy", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let wire = &wires[0];
        // Code, messages and duration of a poll that asks for so long and is given so long, in milliseconds.
        let poll_for = async |group: &str, wanted: Option<i64>, deadline: u64| {
            let request = v2::ReceiveMessageRequest { long_polling_timeout: wanted.map(millis), ..poll(group, "t") };
            let started = Instant::now();
            let answer = wire.receive_with(request, Duration::from_millis(deadline)).await.unwrap();
            (answer.0.code(), answer.1.len(), started.elapsed().as_millis() as u64)
        };
        let filtered = async {
            let request = v2::ReceiveMessageRequest { filter_expression: by_tag("b"), ..poll("g", "busy") };
            let started = Instant::now();
            nothing(wire, request).await;
            started.elapsed()
        };
        let unwanted = async {
            for number in 0..6 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                send(&wires[1], tagged("busy", &format!("m{number}"), "a")).await;
            }
        };
        let headers = async {
            let started = Instant::now();
            wire.raw().receive_message(wire.request(poll("headers", "t"))).await.unwrap();
            started.elapsed()
        };
        let (asked_5, asked_10, asked_20, asked_1, asked_nothing, filtered, (), headers) = tokio::join!(
            poll_for("a", Some(5_000), 8_000),
            poll_for("b", Some(10_000), 13_000),
            poll_for("c", Some(20_000), 8_000),
            poll_for("d", Some(1_000), 8_000),
            poll_for("e", None, 8_000),
            filtered,
            unwanted,
            headers,
        );
        let cases = [
            (asked_5, 5_000..8_000, "as long as it asked for"),
            (asked_10, 10_000..13_000, "as long as it asked for"),
            (asked_20, 7_000..8_000, "as long as the deadline lets it"),
            (asked_1, 5_000..8_000, "the shortest poll"),
            (asked_nothing, 6_500..8_000, "half a request timeout less than the deadline"),
        ];
        for ((code, count, took), expected, why) in cases {
            assert_eq!((code, count), (Code::MessageNotFound, 0), "{why}");
            assert!(expected.contains(&took), "{why}: {took} ms, not {expected:?}");
        }
        assert!(filtered >= POLL, "what it does not want ended the poll after {filtered:?}");
        assert!(headers < SOON, "the headers came after {headers:?}");

        // Less time than the shortest poll: refused at once, with a code that the client's version knows.
        for (version, expected) in
            [("5.0.3", Code::IllegalPollingTime), ("5.2.1", Code::IllegalPollingTime), ("5.0.0", Code::BadRequest)]
        {
            let mut request = wire.within(Duration::from_millis(4_900)).request(poll("short", "t"));
            request.metadata_mut().insert("x-mq-client-version", version.parse().unwrap());
            let started = Instant::now();
            let mut items = wire.raw().receive_message(request).await.unwrap().into_inner();
            let Some(Content::Status(status)) = items.message().await.unwrap().unwrap().content else {
                panic!("the status is first")
            };
            assert_eq!(status.code(), expected, "{version}");
            assert!(started.elapsed() < SOON, "{version}: after {:?}", started.elapsed());
        }
    });
}

#[test]
fn polls_of_one_group_share_what_came_back() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(0);
        wire.send((0..8).map(|n| message("t", &format!("m{n}"), "b")).collect()).await.unwrap();
        let (_, messages) = wire.receive("g", "t", 8, POLL).await.unwrap();
        assert_eq!(messages.len(), 8);
        // All of them come back at once; polls for one message each wait for them, on one node.
        let polls = (0..8).map(|_| wire.receive("g", "t", 1, Duration::from_secs(15)));
        let waiting = future::join_all(polls);
        let back = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            for (_, handle, _) in messages.iter().map(delivered) {
                let changed = wire.change_invisible("g", "t", &handle, 0).await.unwrap();
                assert_eq!(changed.status.unwrap().code(), Code::Ok);
            }
            Instant::now()
        };
        let (polled, returned_at) = tokio::join!(waiting, back);
        let took = returned_at.elapsed();
        let ids: BTreeSet<_> = polled.into_iter().map(|polled| delivered(&polled.unwrap().1[0]).0).collect();
        assert_eq!(ids.len(), 8, "each poll gets one, none twice");
        assert!(took < Duration::from_secs(3), "a poll slept beside messages for {took:?}");
    });
}

#[test]
fn p8_a_poll_that_was_given_up_gives_its_messages_back() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        for round in 0..3 {
            let topic = format!("t{round}");
            cluster.raftmq_ok(&["topic", "create", &topic]);
            cluster.raftmq_ok(&["produce", &topic, "--count", "1"]);
            // The group has its position before: what is left to do is the grant.
            cluster.raftmq_ok(&["consume", &topic, "--group", "g", "--max", "1"]);
            cluster.raftmq_ok(&["produce", &topic, "--count", "1"]);
            let leader = cluster.wait_for_leader();
            let wire = cluster.wire(leader);
            // The poll of a push client: its lease would be renewed for hours.
            let request = push_poll("g", &topic);
            // The grant is in the leader's log and cannot be committed when its client gives up.
            let followers = [(leader + 1) % 3, (leader + 2) % 3];
            followers.iter().for_each(|follower| cluster.signal(*follower, "STOP"));
            let poll = wire.receive_with(request, Duration::from_secs(9));
            let given_up = tokio::time::timeout(Duration::from_millis(150), poll).await;
            // The connection tells the node; what follows blocks this thread.
            tokio::time::sleep(Duration::from_millis(30)).await;
            followers.iter().for_each(|follower| cluster.signal(*follower, "CONT"));
            assert!(given_up.is_err(), "round {round}: a majority was stopped and a lease was granted");
            cluster.wait_for_leader();
            let (_, messages) = wire.receive("g", &topic, 1, POLL).await.unwrap();
            assert_eq!(messages.len(), 1, "round {round}: held for nobody\n{}", cluster.logs());
        }
    });
}
