//! Message groups in order: batches with gaps, failures of listeners, lost answers and dead leaders.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::{ack, change, code, nothing, receive, send, take};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delivered, ids, message, ordered, system};
use crate::fixture::requests::{poll, seconds};
use crate::fixture::wire::{CALL, POLL, SOON};

#[test]
fn p9_an_orderly_group_gets_each_message_group_in_order_as_the_contract_says() {
    with_cluster(&[], &[("steps", "FIFO")], async |cluster| {
        let [a, b, c] = cluster.wires();
        for number in 1..=6 {
            send([&a, &b, &c][number as usize % 3], ordered("steps", "x", number)).await;
        }
        assert_eq!(code(&a, message("steps", "m", "no message group")).await, Code::MessagePropertyConflictWithType);

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
        let started = Instant::now();
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
fn c25_14_a_gap_in_order_is_redelivered_with_what_is_behind_it() {
    /// Two leases of 10 s and the begin of a third.
    const OBSERVED: Duration = Duration::from_secs(22);
    with_cluster(&[], &[("steps", "FIFO")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let [a, b, c] = &wires;
        for number in 1..=20 {
            send([a, b, c][number as usize % 3], ordered("steps", "x", number)).await;
        }
        let poll_of = |group: &str, batch_size| v2::ReceiveMessageRequest { batch_size, ..poll(group, "steps") };
        // All but the first of a batch of three is acked: the same three again, and nothing else.
        let acks_behind = async {
            let (started, mut times) = (Instant::now(), 0);
            while started.elapsed() < OBSERVED {
                let wire = &wires[times as usize % 3];
                let messages = receive(wire, poll_of("gap", 3)).await;
                if messages.is_empty() {
                    continue;
                }
                times += 1;
                assert_eq!(ids(&messages), ["x1", "x2", "x3"], "delivery {times}");
                assert!(messages.iter().all(|message| delivered(message).2 == times), "delivery {times}");
                ack(wire, "gap", "steps", &messages[1..]).await;
            }
            times
        };
        // Nothing is acked: the first is all there is to see.
        let acks_nothing = async {
            let (started, mut times) = (Instant::now(), 0);
            while started.elapsed() < OBSERVED {
                let messages = receive(b, poll_of("none", 1)).await;
                if !messages.is_empty() {
                    times += 1;
                    assert_eq!(ids(&messages), ["x1"], "delivery {times}");
                }
            }
            times
        };
        // Part of a batch is acked, from the front: locked until the rest is, and then it goes on at once.
        let acks_in_parts = async {
            let messages = receive(c, poll_of("parts", 3)).await;
            assert_eq!(ids(&messages), ["x1", "x2", "x3"]);
            ack(a, "parts", "steps", &messages[..2]).await;
            nothing(b, poll_of("parts", 3)).await;
            ack(c, "parts", "steps", &messages[2..]).await;
            let messages = receive(a, poll_of("parts", 3)).await;
            assert_eq!(ids(&messages), ["x4", "x5", "x6"]);
            // Time runs out with the front acked: again from the first that is not.
            ack(a, "parts", "steps", &messages[..1]).await;
            let request = v2::ReceiveMessageRequest { long_polling_timeout: Some(seconds(20)), ..poll_of("parts", 2) };
            assert_eq!(ids(&receive(b, request).await), ["x5", "x6"]);
        };
        let (behind, nothing_acked, ()) = tokio::join!(acks_behind, acks_nothing, acks_in_parts);
        assert!(behind >= 2, "each at least twice, not {behind}");
        assert!(nothing_acked >= 2, "at least twice, not {nothing_acked}");
    });
}

#[test]
fn c24_retry_keeps_the_order_of_each_message_group() {
    with_cluster(&[], &[("steps", "FIFO")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        for number in 1..=8 {
            for group in ["x", "y", "z"] {
                send(&wires[number as usize % 3], ordered("steps", group, number)).await;
            }
        }
        // The listener fails at these once; what is behind them in the batch it gives up with them.
        let mut failing = BTreeSet::from(["x1", "x4", "y3", "y8"].map(str::to_owned));
        let mut done = BTreeMap::from([("x", 0), ("y", 0), ("z", 0)].map(|(group, number)| (group.to_owned(), number)));
        let mut tried_again = BTreeSet::new();
        for wire in wires.iter().cycle() {
            if done.values().all(|number| *number == 8) {
                break;
            }
            let request = v2::ReceiveMessageRequest { batch_size: 6, ..poll("g", "steps") };
            let messages = receive(wire, request).await;
            assert!(!messages.is_empty(), "{done:?}");
            let (mut seen, mut stuck) = (done.clone(), BTreeSet::new());
            for message in &messages {
                let (id, handle, attempt) = delivered(message);
                let (group, number): (String, u32) = (id[..1].to_owned(), id[1..].parse().unwrap());
                let last = seen.get_mut(&group).unwrap();
                assert_eq!(number, *last + 1, "{id} behind {group}{last} in {:?}", ids(&messages));
                *last = number;
                assert!(attempt <= 2, "{id}: {attempt}");
                if attempt == 2 {
                    tried_again.insert(id.clone());
                }
                if failing.remove(&id) {
                    stuck.insert(group.clone());
                }
                if stuck.contains(&group) {
                    assert_eq!(change(wire, "g", "steps", &handle, 1).await.0, Code::Ok, "{id}");
                } else {
                    ack(wire, "g", "steps", std::slice::from_ref(message)).await;
                    done.insert(group, number);
                }
            }
        }
        for failed in ["x1", "x4", "y3", "y8"] {
            assert!(tried_again.contains(failed), "{failed} came as attempt 2: {tried_again:?}");
        }
        assert!(!tried_again.iter().any(|id| id.starts_with('z')), "{tried_again:?}");
    });
}

#[test]
fn c25_08_the_server_chooses_the_queue_of_a_message_group() {
    with_cluster(&[], &[("steps", "FIFO")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        // Each client hashes to another queue, and says so.
        let mut groups = vec!["x"];
        groups.extend(["a", "b", "c", "d", "e", "f", "h", "i"]);
        for number in 1..=8 {
            for group in &groups {
                let mut step = ordered("steps", group, number);
                step.system_properties.as_mut().unwrap().queue_id = number as i32 - 1;
                send(&wires[number as usize % 3], step).await;
            }
        }
        let got = take(&wires, &poll("g", "steps"), 8 * groups.len()).await;
        let mut places = BTreeMap::new();
        for message in &got {
            let system = system(message);
            let place = (system.queue_id, system.queue_offset.unwrap(), system.message_id[1..].to_owned());
            places.entry(system.message_id[..1].to_owned()).or_insert_with(Vec::new).push(place);
        }
        let mut queues = BTreeSet::new();
        for (group, places) in places {
            assert!(places.iter().all(|place| place.0 == places[0].0), "{group} is in one queue: {places:?}");
            assert!(places.is_sorted_by_key(|place| place.1), "{group} came in the order of its queue: {places:?}");
            let numbers: Vec<_> = places.iter().map(|place| place.2.as_str()).collect();
            assert_eq!(numbers, ["1", "2", "3", "4", "5", "6", "7", "8"], "{group} came in the order it was sent");
            queues.insert(places[0].0);
        }
        assert!(queues.len() > 1, "message groups are spread over the queues: {queues:?}");
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
        let mut sent: BTreeMap<String, u32> = BTreeMap::new();
        let mut got: BTreeMap<String, u32> = BTreeMap::new();
        let mut acked = BTreeSet::new();
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
            let stuck: BTreeSet<_> = ids(&at_work).iter().map(|id| id[..1].to_owned()).collect();
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
            cluster.wait_until_serving(leader);
            cluster.wait_for_leader();
        }
    });
}
