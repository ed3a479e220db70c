//! Delayed messages, transactions and dead letters through a real cluster, also while its leader dies. Names
//! give the promise or the section of the contract they guard.

use std::time::Duration;

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::*;
use crate::fixture::cluster::{Cluster, with_cluster};
use crate::fixture::messages::*;
use crate::fixture::requests::*;
use crate::fixture::telemetry::*;
use crate::fixture::wire::{CALL, POLL, SOON, Wire};

#[test]
fn p11_a_delayed_message_comes_at_its_time_and_can_be_recalled() {
    with_cluster(&[], &[("later", "DELAY"), ("plain", "NORMAL")], async |cluster| {
        let [a, b, c] = cluster.wires();
        let due = now_millis() + 2000;
        let entry = send(&a, delayed_until("later", "soon", due)).await;
        assert_ne!(entry.recall_handle, "");
        let kept = send(&b, delayed_until("later", "recalled", due)).await;
        assert_eq!(recall(&c, "later", &kept.recall_handle).await, (Code::Ok, "recalled".to_owned()));
        assert_eq!(recall(&c, "later", &kept.recall_handle).await.0, Code::MessageNotFound);
        assert_eq!(recall(&c, "later", "nonsense").await.0, Code::BadRequest);
        assert_eq!(recall(&c, "plain", &entry.recall_handle).await.0, Code::BadRequest, "a handle of another topic");
        let past = send(&b, delayed_until("later", "past", now_millis() - 20_000)).await;
        assert_eq!(past.recall_handle, "", "it waits for nothing");
        let got = drain(std::slice::from_ref(&c), "g", "later", 2).await;
        assert_eq!(got.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["past", "soon"]);
        assert!(got[1].1 >= due, "early by {} ms", due - got[1].1);
        assert_eq!(recall(&a, "later", &entry.recall_handle).await.0, Code::MessageNotFound, "it came");

        let code = async |message| a.send(vec![message]).await.unwrap().status.unwrap().code();
        assert_eq!(
            code(delayed_until("later", "x", now_millis() + 86_400_000 + 5000)).await,
            Code::IllegalDeliveryTime
        );
        assert_eq!(code(delayed_until("plain", "x", due)).await, Code::MessagePropertyConflictWithType);
        assert_eq!(code(message("later", "x", "b")).await, Code::MessagePropertyConflictWithType);
        let (status, _) = c.receive("g", "later", 16, POLL).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound, "the recalled one never comes");
    });
}

#[test]
fn p11_delayed_messages_survive_the_death_of_the_leader_and_are_not_early() {
    with_cluster(&[], &[("later", "DELAY")], async |mut cluster| {
        let wires = cluster.wires();
        let due = now_millis() + 4000;
        let mut due_of = std::collections::BTreeMap::new();
        for number in 0..30 {
            let (id, at) = (format!("m{number}"), due + number * 50);
            send(&wires[number as usize % 3], delayed_until("later", &id, at)).await;
            due_of.insert(id, at);
        }
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        let living = cluster.wires_but(leader);
        let got = drain(&living, "g", "later", 30).await;
        for (id, at) in &got {
            assert!(*at >= due_of[id], "{id} early by {} ms", due_of[id] - at);
        }
        let mut ids: Vec<_> = got.into_iter().map(|(id, _)| id).collect();
        ids.sort();
        let mut sent: Vec<_> = due_of.into_keys().collect();
        sent.sort();
        assert_eq!(ids, sent, "each once");
    });
}

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
        let living: Vec<_> =
            [a, b, c].into_iter().enumerate().filter(|(node, _)| *node != leader).map(|(_, wire)| wire).collect();
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

#[test]
fn p6_p10_a_message_is_dead_after_its_last_attempt_and_read_like_any_other() {
    with_cluster(&[], &[("t", "NORMAL")], async |mut cluster| {
        cluster.raftmq_ok(&["group", "create", "g", "--retries", "1"]);
        let [a, b, c] = cluster.wires();
        let (status, _) = b.receive("readers", "%DLQ%g", 1, POLL).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound, "it can be read before there is anything in it");
        let (status, _) = b.receive("readers", "%DLQ%nobody", 1, POLL).await.unwrap();
        assert_eq!(status.code(), Code::TopicNotFound);

        let mut tagged = message("t", "unlucky", "body");
        tagged.system_properties.as_mut().unwrap().tag = Some("tag".into());
        tagged.user_properties.insert("key".into(), "value".into());
        send(&a, tagged).await;
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
        let system = |number: usize| dead[number].system_properties.as_ref().unwrap();
        let origin = system(0).dead_letter_queue.as_ref().unwrap();
        assert_eq!((origin.topic.as_str(), origin.message_id.as_str()), ("t", "unlucky"));
        assert_eq!((system(0).delivery_attempt, system(0).tag.as_deref()), (Some(2), Some("tag")));
        assert_eq!(dead[0].user_properties["key"], "value");
        assert_eq!((system(1).message_id.as_str(), system(1).delivery_attempt), ("given up", Some(1)));
    });
}

#[test]
fn p9_an_orderly_group_gets_each_message_group_in_order_as_the_contract_says() {
    with_cluster(&[], &[("steps", "FIFO")], async |cluster| {
        let [a, b, c] = cluster.wires();
        for number in 1..=6 {
            send([&a, &b, &c][number as usize % 3], ordered("steps", "x", number)).await;
        }
        let code = async |message| a.send(vec![message]).await.unwrap().status.unwrap().code();
        assert_eq!(code(message("steps", "m", "no message group")).await, Code::MessagePropertyConflictWithType);

        // Contract §18: of a batch whose first is not acked, exactly that batch comes again.
        let (_, first) = a.receive("g", "steps", 3, POLL).await.unwrap();
        assert_eq!(ids(&first), ["x1", "x2", "x3"]);
        let acks = first[1..].iter().map(|message| (delivered(message).0, delivered(message).1)).collect();
        assert_eq!(b.ack("g", "steps", acks).await.unwrap().status.unwrap().code(), Code::Ok);
        // A message group that is stuck stops only itself.
        send(&b, ordered("steps", "y", 1)).await;
        let (_, others) = c.receive("g", "steps", 16, POLL).await.unwrap();
        assert_eq!(ids(&others), ["y1"]);
        let (id, handle, _) = delivered(&others[0]);
        assert_eq!(a.ack("g", "steps", vec![(id, handle)]).await.unwrap().status.unwrap().code(), Code::Ok);
        let (_, again) = c.receive("g", "steps", 3, 3 * POLL).await.unwrap();
        assert_eq!(ids(&again), ["x1", "x2", "x3"]);
        assert!(again.iter().all(|message| delivered(message).2 == 2));
        assert_eq!(again[0].user_properties["__SHARDINGKEY"], "x", "contract §26");

        // Settled, the rest wakes a waiting poll.
        let waiting = b.receive("g", "steps", 16, 3 * POLL);
        let acking = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let acks = again.iter().map(|message| (delivered(message).0, delivered(message).1)).collect();
            assert_eq!(a.ack("g", "steps", acks).await.unwrap().status.unwrap().code(), Code::Ok);
        };
        let started = std::time::Instant::now();
        let (waited, ()) = tokio::join!(waiting, acking);
        assert_eq!(ids(&waited.unwrap().1), ["x4", "x5", "x6"]);
        assert!(started.elapsed() < POLL, "the ack woke it");

        // Another group is its own.
        let (_, messages) = c.receive("h", "steps", 3, POLL).await.unwrap();
        let own: Vec<_> = ids(&messages).into_iter().filter(|id| id.starts_with('x')).collect();
        assert_eq!(own, ["x1", "x2", "x3"][..own.len()]);
        assert!(own.len() >= 2, "{own:?}");
    });
}

#[test]
fn p9_a_lost_answer_is_repeated_for_the_same_attempt_id() {
    with_cluster(&[], &[("steps", "FIFO")], async |cluster| {
        let [a, b, _] = cluster.wires();
        for number in 1..=4 {
            send(&a, ordered("steps", "x", number)).await;
        }
        let attempt = |attempt: &str| v2::ReceiveMessageRequest {
            batch_size: 2,
            attempt_id: Some(attempt.to_owned()),
            ..poll("g", "steps")
        };
        let (_, first) = a.receive_with(attempt("one"), POLL + SOON).await.unwrap();
        assert_eq!(ids(&first), ["x1", "x2"]);
        let (_, again) = b.receive_with(attempt("one"), POLL + SOON).await.unwrap();
        let told = |messages: &[v2::Message]| messages.iter().map(delivered).collect::<Vec<_>>();
        assert_eq!(ids(&again), ["x1", "x2"]);
        assert!(again.iter().all(|message| delivered(message).2 == 1), "the same attempt");
        let stale = told(&first).into_iter().map(|(id, handle, _)| (id, handle)).collect();
        let refused = a.ack("g", "steps", stale).await.unwrap();
        assert_eq!(refused.status.unwrap().code(), Code::InvalidReceiptHandle, "the lost answer's handles are void");
        let (status, _) = b.receive_with(attempt("two"), POLL + SOON).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound, "another attempt is another poll");
        let acks = told(&again).into_iter().map(|(id, handle, _)| (id, handle)).collect();
        assert_eq!(a.ack("g", "steps", acks).await.unwrap().status.unwrap().code(), Code::Ok);
        let (_, next) = b.receive_with(attempt("one"), POLL + SOON).await.unwrap();
        assert_eq!(ids(&next), ["x3", "x4"], "settled, the attempt gets what is next");
    });
}

#[test]
fn p9_order_holds_while_the_leader_dies_and_comes_back() {
    with_cluster(&[], &[("steps", "FIFO")], async |mut cluster| {
        let mut sent: std::collections::BTreeMap<String, u32> = std::collections::BTreeMap::new();
        let mut got: std::collections::BTreeMap<String, u32> = std::collections::BTreeMap::new();
        let mut acked = std::collections::BTreeSet::new();
        for round in 0..3 {
            let wires = cluster.wires();
            for step in 0..12u32 {
                let group = ["a", "b", "c"][step as usize % 3];
                let number = sent.entry(group.to_owned()).or_default();
                *number += 1;
                send(&wires[step as usize % 3], ordered("steps", group, *number)).await;
            }
            let leader = cluster.wait_for_leader();
            // Somebody is at work on these when the leader dies: until they are settled nobody gets what comes after.
            let at_work = wires[(leader + 1) % 3].receive("g", "steps", 2, POLL).await.unwrap().1;
            assert_eq!(at_work.len(), 2);
            let stuck: std::collections::BTreeSet<_> = ids(&at_work).iter().map(|id| id[..1].to_owned()).collect();
            cluster.kill(leader);
            let living = cluster.wires_but(leader);
            let others = living[0].receive("g", "steps", 16, POLL).await.unwrap().1;
            let of_stuck: Vec<_> = ids(&others).into_iter().filter(|id| stuck.contains(&id[..1])).collect();
            assert!(!others.is_empty() && of_stuck.is_empty(), "P9: {of_stuck:?} while {:?} is at work", ids(&at_work));
            let mut ready = vec![others, at_work];
            for turn in 0.. {
                if got == sent {
                    break;
                }
                assert!(turn < 30, "round {round}: {got:?} of {sent:?}");
                let messages = match ready.pop() {
                    Some(messages) => messages,
                    None => match living[turn % 2].receive("g", "steps", 2, POLL).await {
                        Ok((_, messages)) => messages,
                        Err(_) => continue,
                    },
                };
                for message in messages {
                    let (id, handle, _) = delivered(&message);
                    assert!(!acked.contains(&id), "P7: {id} came after it was acked");
                    let (group, number) = (id[..1].to_owned(), id[1..].parse::<u32>().unwrap());
                    let last = got.entry(group).or_default();
                    assert!(number == *last || number == *last + 1, "P9: {id} after {last}");
                    *last = number;
                    let ack = living[turn % 2].ack("g", "steps", vec![(id.clone(), handle)]).await;
                    if ack.is_ok_and(|ack| ack.status.unwrap().code() == Code::Ok) {
                        acked.insert(id);
                    } else {
                        *last -= 1;
                    }
                }
            }
            cluster.start_node(leader);
            cluster.wait_for_leader();
        }
    });
}

fn numbered(number: u32) -> v2::Message {
    let mut message = message("t", &format!("m{number}"), "body");
    message.user_properties.insert("number".into(), number.to_string());
    message
}

#[test]
fn sql_filters_choose_by_properties_and_pass_over_the_rest() {
    // Two thirds of what is sent are on the disk only.
    with_cluster(&["tailCacheBytes=1MiB"], &[("t", "NORMAL")], async |cluster| {
        let [a, b, _] = cluster.wires();
        let large = |number| v2::Message { body: vec![b'x'; 1024].into(), ..numbered(number) };
        for from in (0..3000).step_by(100) {
            let sent = a.send((from..from + 100).map(large).collect()).await.unwrap();
            assert_eq!(sent.status.unwrap().code(), Code::Ok);
        }
        let chosen = |group: &str, condition: &str| v2::ReceiveMessageRequest {
            filter_expression: by_sql(condition),
            batch_size: 16,
            ..poll(group, "t")
        };
        let condition = "number BETWEEN 2990 AND 2992 AND missing IS NULL";
        let mut got = Vec::new();
        while got.len() < 3 {
            // Longer than the polls that follow.
            let request = v2::ReceiveMessageRequest { invisible_duration: Some(seconds(60)), ..chosen("g", condition) };
            let (status, messages) = b.receive_with(request, POLL + SOON).await.unwrap();
            assert_eq!(status.code(), Code::Ok, "{got:?}");
            got.extend(ids(&messages));
        }
        got.sort();
        assert_eq!(got, ["m2990", "m2991", "m2992"]);
        // What was passed over is settled for this group, and for no other.
        for condition in [condition, "TRUE"] {
            let (status, _) = b.receive_with(chosen("g", condition), POLL + SOON).await.unwrap();
            assert_eq!(status.code(), Code::MessageNotFound);
        }
        let (_, messages) = a.receive_with(chosen("h", "number < 2"), POLL + SOON).await.unwrap();
        assert!(!messages.is_empty());

        let (status, _) = a.receive_with(chosen("h", "number >"), POLL + SOON).await.unwrap();
        assert_eq!(status.code(), Code::IllegalFilterExpression);
        assert!(status.message.contains("at character 8"), "{}", status.message);
        let bad = settings(v2::ClientType::SimpleConsumer, subscribed("h", "t", by_sql("number >")));
        let mut told = telemetry(&a, "RUST", &bad, 1).await;
        let refused = tokio::time::timeout(CALL, told.message()).await.expect("an answer").unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains("ILLEGAL_FILTER_EXPRESSION"), "{refused}");
    });
}

/// The code, the bodies and the next offset of one pull.
async fn pull(
    wire: &Wire,
    id: i32,
    offset: i64,
    wait: i64,
    condition: Option<&str>,
) -> (Code, Vec<String>, Option<i64>) {
    use v2::pull_message_response::Content;
    let request = v2::PullMessageRequest {
        group: Some(resource("pullers")),
        message_queue: queue_of("t", id),
        offset,
        batch_size: 4,
        filter_expression: condition.and_then(by_sql),
        long_polling_timeout: Some(seconds(wait)),
    };
    let mut items = wire.raw().pull_message(wire.within(CALL).request(request)).await.unwrap().into_inner();
    let (mut code, mut bodies, mut next) = (Code::Unspecified, Vec::new(), None);
    while let Some(item) = items.message().await.unwrap() {
        match item.content.unwrap() {
            Content::Status(status) => code = status.code(),
            Content::Message(message) => bodies.push(message.system_properties.unwrap().message_id),
            Content::NextOffset(offset) => next = Some(offset),
        }
    }
    (code, bodies, next)
}

#[test]
fn pulls_and_positions_are_as_the_contract_says() {
    with_cluster(&[], &[], async |cluster| {
        cluster.raftmq_ok(&["topic", "create", "t", "--queues", "1"]);
        let [a, b, _] = cluster.wires();
        let names = |numbers: std::ops::Range<u32>| numbers.map(|number| format!("m{number}")).collect::<Vec<_>>();
        let before = now_millis();
        for number in 0..6 {
            assert_eq!(a.send(vec![numbered(number)]).await.unwrap().status.unwrap().code(), Code::Ok);
            if number == 2 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        assert_eq!(pull(&b, 0, 0, 0, None).await, (Code::Ok, names(0..4), Some(4)));
        assert_eq!(pull(&b, 0, 4, 0, None).await, (Code::Ok, names(4..6), Some(6)));
        // Broadcast: each consumer of a group that keeps positions of its own gets everything.
        assert_eq!(pull(&a, 0, 0, 0, None).await, (Code::Ok, names(0..4), Some(4)));
        assert_eq!(pull(&a, 0, 4, 0, None).await, (Code::Ok, names(4..6), Some(6)));
        assert_eq!(pull(&b, 0, 6, 0, None).await, (Code::MessageNotFound, vec![], Some(6)));
        assert_eq!(pull(&b, 0, 0, 0, Some("number >= 5")).await, (Code::Ok, names(5..6), Some(6)));
        assert_eq!(pull(&b, 0, 7, 0, None).await, (Code::IllegalOffset, vec![], None));
        assert_eq!(pull(&b, 0, -1, 0, None).await.0, Code::IllegalOffset);
        assert_eq!(pull(&b, 1, 0, 0, None).await.0, Code::BadRequest, "there is no such queue");
        let waiting = pull(&b, 0, 6, 10, None);
        let sending = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            send(&a, numbered(6)).await;
        };
        assert_eq!(tokio::join!(waiting, sending).0, (Code::Ok, names(6..7), Some(7)), "an arrival ends the wait");

        let query = async |wire: &Wire, policy: v2::QueryOffsetPolicy, at: Option<i64>| {
            let timestamp = at.map(timestamp);
            let request =
                v2::QueryOffsetRequest { message_queue: queue("t"), query_offset_policy: policy.into(), timestamp };
            let answer = wire.raw().query_offset(wire.request(request)).await.unwrap().into_inner();
            (answer.status.unwrap().code(), answer.offset)
        };
        use v2::QueryOffsetPolicy::{Beginning, End, Timestamp};
        assert_eq!(query(&b, Beginning, None).await, (Code::Ok, 0));
        assert_eq!(query(&a, End, None).await, (Code::Ok, 7));
        assert_eq!(query(&a, Timestamp, None).await.0, Code::BadRequest);
        assert_eq!(query(&a, Timestamp, Some(before - 1000)).await, (Code::Ok, 0));
        assert_eq!(query(&a, Timestamp, Some(now_millis() + 60_000)).await, (Code::Ok, 7));

        let position = async |wire: &Wire| {
            let request = v2::GetOffsetRequest { group: Some(resource("pullers")), message_queue: queue("t") };
            let answer = wire.raw().get_offset(wire.request(request)).await.unwrap().into_inner();
            (answer.status.unwrap().code(), answer.offset)
        };
        assert_eq!(position(&a).await.0, Code::OffsetNotFound);
        let request =
            v2::UpdateOffsetRequest { group: Some(resource("pullers")), message_queue: queue("t"), offset: 5 };
        let answer = a.raw().update_offset(a.request(request)).await.unwrap().into_inner();
        assert_eq!(answer.status.unwrap().code(), Code::Ok);
        assert_eq!(position(&b).await, (Code::Ok, 5));

        // The same position is where receives go on, and an operator may move it.
        let (_, messages) = b.receive("pullers", "t", 16, POLL).await.unwrap();
        assert_eq!(ids(&messages), names(5..7));
        let dry = cluster.raftmq_ok(&["group", "reset-offset", "pullers", "t", "--to", "earliest", "--dry-run"]);
        assert!(dry.contains("QUEUE") && dry.contains('7'), "{dry}");
        assert_eq!(position(&a).await, (Code::Ok, 7), "a dry run changes nothing");
        cluster.raftmq_ok(&["group", "reset-offset", "pullers", "t", "--to-offset", "2"]);
        let (_, messages) = a.receive("pullers", "t", 16, POLL).await.unwrap();
        assert_eq!(ids(&messages), names(2..7));

        // What is stored with the group holds for its pulls too, beside their own filter.
        cluster.raftmq_ok(&["group", "update", "pullers", "--filter", "number >= 3"]);
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while pull(&b, 0, 0, 0, None).await.1 != names(3..7) {
            assert!(
                std::time::Instant::now() < until,
                "the group's filter does not hold: {:?}",
                pull(&b, 0, 0, 0, None).await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(pull(&b, 0, 0, 0, Some("number < 5")).await.1, names(3..5));
    });
}

#[test]
fn priority_topics_deliver_the_highest_first_and_mixed_ones_take_four_types() {
    with_cluster(&[], &[("alarms", "PRIORITY"), ("any", "MIXED")], async |cluster| {
        let [a, c, _] = cluster.wires();
        // A poll plans on what its node has applied; the leader has all that was answered.
        let b = cluster.wire(cluster.wait_for_leader());
        for (id, priority) in [("low", 0), ("top", 7), ("middle", 3), ("above all", 99)] {
            send(&a, urgent("alarms", id, priority)).await;
        }
        let (_, got) = b.receive("g", "alarms", 3, POLL).await.unwrap();
        assert_eq!(ids(&got), ["top", "above all", "middle"]);
        assert_eq!(got[0].system_properties.as_ref().unwrap().priority, Some(7));
        // What comes back is in line by its priority, too.
        send(&c, urgent("alarms", "lower", 1)).await;
        let (_, handle, _) = delivered(&got[2]);
        assert_eq!(a.change_invisible("g", "alarms", &handle, 0).await.unwrap().status.unwrap().code(), Code::Ok);
        let (_, got) = b.receive("g", "alarms", 16, POLL).await.unwrap();
        assert_eq!(ids(&got), ["middle", "lower", "low"]);

        let code = async |message| a.send(vec![message]).await.unwrap().status.unwrap().code();
        assert_eq!(code(message("alarms", "x", "plain")).await, Code::MessagePropertyConflictWithType);
        for (message, expected) in [
            (message("any", "plain", "b"), Code::Ok),
            (ordered("any", "m", 1), Code::Ok),
            (delayed_until("any", "delayed", now_millis() + 1000), Code::Ok),
            (half("any", "half"), Code::Ok),
            (urgent("any", "urgent", 1), Code::MessagePropertyConflictWithType),
        ] {
            assert_eq!(code(message).await, expected);
        }
        let got = drain(std::slice::from_ref(&c), "g", "any", 3).await;
        assert_eq!(got[2].0, "delayed", "the half message is not seen: {got:?}");
        let request = v2::QueryRouteRequest { topic: Some(resource("any")), ..Default::default() };
        let route = c.raw().query_route(c.request(request)).await.unwrap().into_inner();
        assert_eq!(route.message_queues[0].accept_message_types, [1, 2, 3, 4]);

        cluster.raftmq_ok(&["topic", "update", "alarms", "--permission", "R"]);
        let refused = a.send(vec![urgent("alarms", "late", 1)]).await.unwrap();
        assert_eq!(refused.status.unwrap().code(), Code::Forbidden);
    });
}

#[test]
fn p4_a_message_sent_again_is_stored_once_also_through_another_node_after_the_leader_died() {
    with_cluster(&[], &[("t", "NORMAL"), ("later", "DELAY"), ("deals", "TRANSACTION")], async |mut cluster| {
        let wires = cluster.wires();
        let mut first = Vec::new();
        for number in 0..20 {
            first.push(send(&wires[number % 3], message("t", &format!("m{number}"), "body")).await.offset);
        }
        let due = now_millis() + 3000;
        let waiting = send(&wires[0], delayed_until("later", "once", due)).await.recall_handle;
        let open = send(&wires[1], half("deals", "deal")).await.transaction_id;
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        let living = cluster.wires_but(leader);
        for number in 0..20 {
            let again = send(&living[number % 2], message("t", &format!("m{number}"), "body")).await;
            assert_eq!(again.offset, first[number], "m{number}");
        }
        assert_eq!(send(&living[0], delayed_until("later", "once", due)).await.recall_handle, waiting);
        assert_eq!(send(&living[1], half("deals", "deal")).await.transaction_id, open);
        assert_eq!(end(&living[0], "deals", &open, v2::TransactionResolution::Commit).await, Code::Ok);
        for (topic, count) in [("t", 20), ("later", 1), ("deals", 1)] {
            drain(&living, "g", topic, count).await;
            let (status, more) = living[0].receive("g", topic, 16, POLL).await.unwrap();
            assert_eq!((status.code(), ids(&more)), (Code::MessageNotFound, Vec::new()), "{topic}");
        }
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
        send(&a, delayed_until("later", "soon", now_millis() + 600_000)).await;
        let kept = send(&a, delayed_until("later", "never", now_millis() + 700_000)).await.recall_handle;
        let waiting = cluster.json(&["message", "delayed", "later"]);
        assert_eq!(waiting["messages"][1]["recall_handle"], kept.as_str());
        cluster.raftmq_ok(&["message", "recall", "later", &kept]);
        let handle = waiting["messages"][0]["recall_handle"].as_str().unwrap();
        cluster.raftmq_ok(&["message", "move", "later", handle, "--to", "0"]);
        assert!(!cluster.raftmq(&["message", "move", "later", handle, "--to", "0"]).status.success());
        assert_eq!(drain(std::slice::from_ref(&b), "g", "later", 1).await[0].0, "soon");
        assert_eq!(cluster.json(&["message", "delayed", "later"])["messages"].as_array().unwrap().len(), 0);
    });
}

#[test]
fn topics_come_by_themselves_only_where_they_may() {
    with_cluster(&["autoCreateTopicEnable=true"], &[], async |cluster| {
        let [a, b, _] = cluster.wires();
        let request = v2::QueryRouteRequest { topic: Some(resource("fresh")), ..Default::default() };
        let route = a.raw().query_route(a.request(request)).await.unwrap().into_inner();
        assert_eq!(route.status.as_ref().unwrap().code(), Code::Ok);
        // Eight queues on each node that has told where it is.
        assert!(matches!(route.message_queues.len(), 8 | 16 | 24), "{route:?}");
        send(&b, message("another", "m", "body")).await;
        let (status, _) = a.receive("g", "nope", 1, POLL).await.unwrap();
        assert_eq!(status.code(), Code::TopicNotFound, "who only reads makes nothing");
        let listed = cluster.json(&["topic", "list"]);
        let names: Vec<_> = listed["topics"].as_array().unwrap().iter().map(|topic| topic["topic"].clone()).collect();
        assert_eq!(names, ["another", "fresh"]);
    });
}

/// What a load of all kinds did and saw.
#[derive(Default)]
struct Seen {
    /// By topic: ids whose sends were answered OK, and that are to come.
    sent: std::collections::BTreeMap<&'static str, std::collections::BTreeSet<String>>,
    /// Delayed messages with their times.
    due: std::collections::BTreeMap<String, i64>,
    rolled_back: std::collections::BTreeSet<String>,
    acked: std::collections::BTreeSet<String>,
    /// Those whose ack was sent, whether it was answered or not.
    ack_sent: std::collections::BTreeSet<String>,
    /// Where each id came from.
    places: std::collections::BTreeMap<String, (i32, Option<i64>)>,
    /// First deliveries of each message group.
    order: std::collections::BTreeMap<String, Vec<u32>>,
    wrong: Vec<String>,
}

type Shared = std::sync::Arc<std::sync::Mutex<Seen>>;

const KINDS: [&str; 4] = ["plain", "steps", "later", "deals"];

/// Sends of one kind, each tried under its id until it is answered OK, through one node after another.
async fn produce(wires: &[Wire], topic: &'static str, seen: &Shared, stop: &std::sync::atomic::AtomicBool) {
    let mut turn = 0;
    for number in 0u32.. {
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        let group = if number % 2 == 0 { "x" } else { "y" };
        let due = now_millis() + 400;
        let made = match topic {
            "steps" => ordered(topic, group, number),
            "later" => delayed_until(topic, &format!("later{number}"), due),
            "deals" => half(topic, &format!("deals{number}")),
            _ => message(topic, &format!("plain{number}"), "body"),
        };
        let id = made.system_properties.as_ref().unwrap().message_id.clone();
        seen.lock().unwrap().due.insert(id.clone(), if topic == "later" { due } else { 0 });
        let is_kept = topic != "deals" || number % 3 != 0;
        if !is_kept {
            seen.lock().unwrap().rolled_back.insert(id.clone());
        }
        let entry = loop {
            turn += 1;
            let answer = wires[turn % wires.len()].send(vec![made.clone()]).await;
            match answer {
                Ok(answer) if answer.status.as_ref().unwrap().code() == Code::Ok => break answer.entries[0].clone(),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        if topic == "deals" {
            use v2::TransactionResolution::{Commit, Rollback};
            let request = v2::EndTransactionRequest {
                topic: Some(resource(topic)),
                message_id: id.clone(),
                transaction_id: entry.transaction_id,
                resolution: if is_kept { Commit } else { Rollback }.into(),
                ..Default::default()
            };
            loop {
                turn += 1;
                let wire = &wires[turn % wires.len()];
                let answer = wire.raw().end_transaction(wire.request(request.clone())).await;
                match answer.map(|answer| answer.into_inner().status.unwrap().code()) {
                    Ok(Code::Ok) => break,
                    Ok(Code::InvalidTransactionId) => {
                        seen.lock().unwrap().wrong.push(format!("{id} was decided otherwise"));
                        break;
                    }
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        }
        if is_kept {
            seen.lock().unwrap().sent.entry(topic).or_default().insert(id);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Receives and acks until the load has stopped and everything is acked, or for too long.
async fn consume(wires: &[Wire], topic: &'static str, seen: &Shared, stop: &std::sync::atomic::AtomicBool) {
    let mut left = 12;
    for turn in 0.. {
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            let seen = seen.lock().unwrap();
            let is_done = seen.sent.get(topic).is_none_or(|sent| sent.iter().all(|id| seen.acked.contains(id)));
            left -= 1;
            if is_done || left == 0 {
                return;
            }
        }
        let Ok((_, messages)) = wires[turn % wires.len()].receive("g", topic, 16, POLL).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let batch = ids(&messages);
        for one in messages {
            let (id, handle, attempt) = delivered(&one);
            let system = one.system_properties.as_ref().unwrap();
            {
                let mut seen = seen.lock().unwrap();
                let mut wrong = Vec::new();
                if seen.acked.contains(&id) {
                    wrong.push(format!("{id} came again (attempt {attempt}) after its ack was answered OK"));
                }
                if seen.rolled_back.contains(&id) {
                    wrong.push(format!("{id} was rolled back and is seen"));
                }
                if seen.due.get(&id).is_some_and(|due| *due > now_millis()) {
                    wrong.push(format!("{id} is early"));
                }
                let place = (system.queue_id, system.queue_offset);
                if *seen.places.entry(id.clone()).or_insert(place) != place {
                    wrong.push(format!("{id} is stored twice"));
                }
                if let (Some(group), 1) = (&system.message_group, attempt) {
                    let before = seen.order.get(group).into_iter().flatten().map(|number| format!("{group}{number}"));
                    let open = before.filter(|before| !seen.ack_sent.contains(before) && !batch.contains(before));
                    wrong.extend(open.map(|before| format!("P9: {id} came before {before} was settled")));
                    seen.order.entry(group.clone()).or_default().push(id[1..].parse().unwrap());
                }
                seen.wrong.extend(wrong);
            }
            if topic == "steps" {
                // At work for a while, so that the other consumer asks in the meantime.
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            seen.lock().unwrap().ack_sent.insert(id.clone());
            for turn in 0..40 {
                let wire = &wires[turn % wires.len()];
                match wire.ack("g", topic, vec![(id.clone(), handle.clone())]).await {
                    Ok(answer) if answer.status.as_ref().unwrap().code() == Code::Ok => {
                        seen.lock().unwrap().acked.insert(id);
                        break;
                    }
                    // Its lease is over; it comes again.
                    Ok(answer) if answer.status.as_ref().unwrap().code() == Code::InvalidReceiptHandle => break,
                    _ => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
    }
}

#[test]
fn p4_p7_p9_p11_p12_ten_kills_of_the_leader_under_a_load_of_all_kinds() {
    let mut cluster = Cluster::start();
    for (topic, kind) in KINDS.into_iter().zip(["NORMAL", "FIFO", "DELAY", "TRANSACTION"]) {
        cluster.raftmq_ok(&["topic", "create", topic, "--type", kind, "--queues", "4"]);
    }
    let addresses = [0, 1, 2].map(|node| cluster.address(node));
    let (seen, stop) = (Shared::default(), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let (told, stopped) = (seen.clone(), stop.clone());
    let load = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let wires = |who: &str| -> Vec<Wire> {
                let of = |address: &String| {
                    Wire::connect(address, &format!("{who}-{address}")).within(Duration::from_secs(2))
                };
                addresses.iter().map(of).collect()
            };
            let lanes = KINDS.map(|topic| {
                let [producer, one, other] = ["producer", "one", "other"].map(|who| wires(&format!("{who}-{topic}")));
                let (told, stopped) = (told.clone(), stopped.clone());
                async move {
                    // The last send may end after the load was told to stop.
                    let ended = std::sync::atomic::AtomicBool::new(false);
                    let producing = async {
                        produce(&producer, topic, &told, &stopped).await;
                        ended.store(true, std::sync::atomic::Ordering::Relaxed);
                    };
                    let consuming = async {
                        tokio::join!(consume(&one, topic, &told, &ended), consume(&other, topic, &told, &ended))
                    };
                    tokio::join!(producing, consuming);
                }
            });
            futures_util::future::join_all(lanes).await;
        });
    });
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(1000));
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        std::thread::sleep(Duration::from_millis(700));
        cluster.start_node(leader);
    }
    cluster.wait_for_leader();
    // Enough of each for the checks to mean something, however busy the machine is.
    let is_enough =
        || KINDS.iter().all(|topic| seen.lock().unwrap().sent.get(topic).is_some_and(|sent| sent.len() > 50));
    for _ in 0..300 {
        if is_enough() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    load.join().unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.wrong, Vec::<String>::new());
    for topic in KINDS {
        let sent = &seen.sent[topic];
        assert!(sent.len() > 50, "{topic}: only {}", sent.len());
        let lost: Vec<_> = sent.iter().filter(|id| !seen.acked.contains(*id)).collect();
        assert!(lost.is_empty(), "{topic}: sent and never settled: {lost:?}\n{}", cluster.logs());
    }
    for (group, numbers) in &seen.order {
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "P9: {group} out of order: {numbers:?}");
    }
}

#[test]
fn a_group_is_described_from_any_node_changed_and_deleted() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        use v2::retry_policy::Strategy;
        let [a, b, _] = cluster.wires();
        send(&a, message("t", "before", "body")).await;
        cluster.raftmq_ok(&["group", "create", "g", "--consume-from", "last", "--backoff", "2s,7s"]);
        let (settings, _one) = consumer(&a, "g", "t", "x || y").await;
        let policy = settings.backoff_policy.unwrap();
        let Some(Strategy::CustomizedBackoff(list)) = policy.strategy else { panic!("{policy:?}") };
        assert_eq!(list.next.iter().map(|step| step.seconds).collect::<Vec<_>>(), [2, 7]);
        let (_, _other) = consumer(&b, "g", "t", "z").await;

        // The third node has no client of its own.
        let third = cluster.address(2);
        let describe = || -> serde_json::Value {
            let mut asking = std::process::Command::new(crate::fixture::cluster::BINARY);
            let answer = asking.args(["-n", &third, "-o", "json", "group", "describe", "g"]).output().unwrap();
            serde_json::from_slice(&answer.stdout).unwrap()
        };
        let members = |described: &serde_json::Value| -> Vec<_> {
            described["members"].as_array().unwrap().iter().map(|member| member["client_id"].clone()).collect()
        };
        // A node that takes more than half a second is left out.
        let mut described = describe();
        for _ in 0..20 {
            if members(&described).len() == 2 {
                break;
            }
            described = describe();
        }
        assert_eq!(members(&described), ["client-0", "client-1"]);
        let odd = described["inconsistencies"][0].as_str().unwrap();
        assert!(odd.contains("tags x || y (client-0) against tags z (client-1)"), "{odd}");
        let group = &described["group"];
        assert_eq!((&group["lag"], &group["oldest_unsettled_at_ms"]), (&0.into(), &serde_json::Value::Null));

        let mut tagged = message("t", "after", "body");
        tagged.system_properties.as_mut().unwrap().tag = Some("x".into());
        send(&b, tagged).await;
        let group = cluster.json(&["group", "describe", "g"])["group"].clone();
        assert_eq!(group["lag"], 1);
        assert!(group["oldest_unsettled_at_ms"].as_u64().unwrap() > 0);
        assert_eq!(drain(std::slice::from_ref(&a), "g", "t", 1).await[0].0, "after", "it began at the end");

        cluster.raftmq_ok(&["group", "update", "g", "--retries", "1", "--backoff", "default"]);
        let (settings, _again) = consumer(&b, "g", "t", "z").await;
        let policy = settings.backoff_policy.unwrap();
        let Some(Strategy::CustomizedBackoff(list)) = policy.strategy else { panic!("{policy:?}") };
        assert_eq!((policy.max_attempts, list.next.len()), (2, 18));

        cluster.raftmq_ok(&["group", "delete", "g", "--yes"]);
        assert!(!cluster.raftmq(&["group", "describe", "g"]).status.success());
        // Under its name there is another one now, with nothing behind it.
        assert_eq!(drain(std::slice::from_ref(&b), "g", "t", 2).await.len(), 2);
    });
}
