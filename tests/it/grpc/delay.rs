//! Delayed messages: never early, once, and recalled while they wait.

use std::collections::BTreeMap;
use std::time::Instant;

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::{code, drain, recall, send, take};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delayed, delayed_until, half, ids, message, now_millis};
use crate::fixture::requests::{poll, resource, seconds};
use crate::fixture::wire::{CALL, POLL, SOON};

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
        let past = send(&b, delayed("later", "past", -20_000)).await;
        assert_eq!(past.recall_handle, "", "it waits for nothing");
        let got = drain(std::slice::from_ref(&c), "g", "later", 2).await;
        assert_eq!(got.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["past", "soon"]);
        assert!(got[1].1 >= due, "early by {} ms", due - got[1].1);
        assert_eq!(recall(&a, "later", &entry.recall_handle).await.0, Code::MessageNotFound, "it came");

        assert_eq!(code(&a, delayed("later", "x", 86_405_000)).await, Code::IllegalDeliveryTime);
        assert_eq!(code(&a, delayed_until("plain", "x", due)).await, Code::MessagePropertyConflictWithType);
        assert_eq!(code(&a, message("later", "x", "b")).await, Code::MessagePropertyConflictWithType);
        let (status, _) = c.receive("g", "later", 16, POLL).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound, "the recalled one never comes");
    });
}

#[test]
fn a_recall_handle_from_before_a_move_says_so_and_the_new_one_recalls() {
    with_cluster(&[], &[("later", "DELAY")], async |cluster| {
        let wire = cluster.wire(0);
        let old = send(&wire, delayed("later", "m", 600_000)).await.recall_handle;
        let to = (now_millis() + 900_000).to_string();
        cluster.raftmq_ok(&["message", "move", "later", &old, "--to", &to]);
        let request = v2::RecallMessageRequest { topic: Some(resource("later")), recall_handle: old };
        let answer = wire.raw().recall_message(wire.request(request)).await.unwrap().into_inner();
        let status = answer.status.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound);
        assert!(status.message.contains("an operator gave it another time"), "{}", status.message);
        let waiting = cluster.json(&["message", "delayed", "later"]);
        let new = waiting["messages"][0]["recall_handle"].as_str().unwrap();
        assert_eq!(recall(&wire, "later", new).await, (Code::Ok, "m".to_owned()));
    });
}

#[test]
fn a_send_repeated_with_another_time_is_answered_for_the_message_that_is_stored() {
    with_cluster(&[], &[("later", "DELAY"), ("mixed", "MIXED")], async |cluster| {
        let [a, b, c] = cluster.wires();
        let due = now_millis() + 4000;
        let first = send(&a, delayed_until("later", "twice", due)).await.recall_handle;
        for (wire, at) in [(&b, due + 2000), (&c, due + 4000), (&a, due)] {
            assert_eq!(send(wire, delayed_until("later", "twice", at)).await.recall_handle, first);
        }
        send(&b, delayed_until("later", "once", due)).await;
        let again = send(&c, delayed_until("later", "twice", due + 6000)).await.recall_handle;
        assert_eq!(recall(&b, "later", &again).await, (Code::Ok, "twice".to_owned()));
        let got = drain(std::slice::from_ref(&c), "g", "later", 1).await;
        assert_eq!(got[0].0, "once");
        let (status, _) = c.receive("g", "later", 16, POLL).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound, "the recalled one never comes");

        // What was a half message first is one still, and a delayed one is none.
        let open = send(&a, half("mixed", "deal")).await.transaction_id;
        let again = send(&b, delayed_until("mixed", "deal", due + 60_000)).await;
        assert_eq!((again.transaction_id, again.recall_handle), (open, String::new()));
        let waiting = send(&a, delayed_until("mixed", "later", due + 60_000)).await.recall_handle;
        assert_eq!(send(&c, half("mixed", "later")).await.recall_handle, waiting);
    });
}

#[test]
fn p11_delayed_messages_survive_the_death_of_the_leader_and_are_not_early() {
    with_cluster(&[], &[("later", "DELAY")], async |mut cluster| {
        let wires = cluster.wires();
        let due = now_millis() + 4000;
        let mut due_of = BTreeMap::new();
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
fn c24_delay_is_kept_and_past_and_too_far_times_are_known() {
    with_cluster(&[], &[("later", "DELAY")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let due = now_millis() + 10_000;
        send(&wires[0], delayed("later", "later", 10_000)).await;
        send(&wires[1], delayed("later", "past", -20_000)).await;
        assert_eq!(code(&wires[2], delayed("later", "never", 86_405_000)).await, Code::IllegalDeliveryTime);
        let asked = Instant::now();
        assert_eq!(ids(&take(&wires[..1], &poll("g", "later"), 1).await), ["past"]);
        assert!(asked.elapsed() < SOON, "at once, and not after {:?}", asked.elapsed());
        let request = v2::ReceiveMessageRequest { long_polling_timeout: Some(seconds(20)), ..poll("g", "later") };
        let got = take(&wires[1..2], &request, 1).await;
        let late = now_millis() - due;
        assert_eq!(ids(&got), ["later"]);
        assert!((0..SOON.as_millis() as i64).contains(&late), "{late} ms late");
    });
}
