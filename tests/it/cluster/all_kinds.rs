//! Ten kills of the leader under a load of all kinds of message, each with its own promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::cluster::Cluster;
use crate::fixture::messages::{delayed_until, delivered, half, ids, message, now_millis, ordered};
use crate::fixture::requests::resource;
use crate::fixture::wire::{POLL, Wire};

/// What a load of all kinds did and saw.
#[derive(Default)]
struct Seen {
    /// By topic: ids whose sends were answered OK, and that are to come.
    sent: BTreeMap<&'static str, BTreeSet<String>>,
    /// Delayed messages with their times.
    due: BTreeMap<String, i64>,
    rolled_back: BTreeSet<String>,
    acked: BTreeSet<String>,
    /// Those whose ack was sent, whether it was answered or not.
    ack_sent: BTreeSet<String>,
    /// Where each id came from.
    places: BTreeMap<String, (i32, Option<i64>)>,
    /// First deliveries of each message group.
    order: BTreeMap<String, Vec<u32>>,
    wrong: Vec<String>,
}

type Shared = Arc<std::sync::Mutex<Seen>>;

const KINDS: [&str; 4] = ["plain", "steps", "later", "deals"];

/// Sends of one kind, each tried under its id until it is answered OK, through one node after another.
async fn produce(wires: &[Wire], topic: &'static str, seen: &Shared, stop: &AtomicBool) {
    let mut turn = 0;
    for number in 0u32.. {
        if stop.load(Ordering::Relaxed) {
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
async fn consume(wires: &[Wire], topic: &'static str, seen: &Shared, stop: &AtomicBool) {
    let mut left = 12;
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
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
    let (seen, stop) = (Shared::default(), Arc::new(AtomicBool::new(false)));
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
                    let ended = AtomicBool::new(false);
                    let producing = async {
                        produce(&producer, topic, &told, &stopped).await;
                        ended.store(true, Ordering::Relaxed);
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
    stop.store(true, Ordering::Relaxed);
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
