//! What receives bring: everything once, from all queues, with what clients read of each message.

use std::cell::RefCell;
use std::collections::BTreeSet;

use futures_util::future;
use prost_types::Timestamp;
use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::{
    ack, assignments, code, commit, forward, know_each_other, receive, refused, route, send, take, told,
};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{
    delayed, delivered, half, ids, message, millis_of, now_millis, ordered, sorted, system, timestamp,
};
use crate::fixture::requests::{millis, poll, queue};
use crate::fixture::telemetry::{asked, producer};
use crate::fixture::wire::{CALL, POLL};

#[test]
fn deliveries_carry_what_clients_need() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(0);
        let mut sent = message("t", "id", "hi");
        sent.user_properties.insert("p".into(), "v".into());
        let system = sent.system_properties.as_mut().unwrap();
        system.tag = Some("tag".into());
        system.keys = vec!["a b".into(), "c".into()];
        wire.send(vec![sent]).await.unwrap();
        let (status, messages) = wire.receive("g", "t", 32, POLL).await.unwrap();
        assert_eq!(status.code(), Code::Ok);
        let system = messages[0].system_properties.clone().unwrap();
        assert_eq!(system.body_digest.unwrap().checksum, "49F68A5C8493EC2C0BF489821C21FC3B");
        assert_eq!(system.body_encoding, i32::from(v2::Encoding::Identity));
        assert_eq!(system.keys, ["a", "b", "c"]);
        assert_eq!(system.tag.as_deref(), Some("tag"));
        assert!(system.born_timestamp.is_some() && system.store_timestamp.is_some());
        assert_eq!((system.queue_offset, system.delivery_attempt), (Some(0), Some(1)));
        assert_eq!(messages[0].user_properties["p"], "v");
    });
}

/// What clients read of every message without asking whether it is there (contract §9.3).
fn assert_complete(message: &v2::Message, md5: &str, encoding: v2::Encoding) {
    let system = system(message);
    let digest = system.body_digest.clone().expect("Node and C# read it");
    assert_eq!((digest.r#type(), digest.checksum.as_str()), (v2::DigestType::Md5, md5), "{}", system.message_id);
    assert_eq!(system.body_encoding(), encoding, "{}", system.message_id);
    for at in [system.born_timestamp.expect("C# reads it"), system.store_timestamp.unwrap()] {
        assert!((now_millis() - millis_of(at)).abs() < 60_000, "{at:?}");
    }
    assert_ne!(system.born_host, "");
    assert_ne!(system.store_host, "");
}

#[test]
fn c25_12_digest_born_time_and_encoding_are_on_every_message() {
    const ABC: &str = "900150983CD24FB0D6963F7D28E17F72";
    const GZIPPED: &[u8] = b"\x1f\x8b\x08\x00not really";
    const OF_GZIPPED: &str = "69BB795229F8608B60C7AE6F20B9EB5E";
    use v2::Encoding::{Gzip, Identity};
    let topics = [("t", "NORMAL"), ("later", "DELAY"), ("deals", "TRANSACTION"), ("steps", "FIFO")];
    let settings_of_cluster = ["transactionTimeOut=300", "transactionCheckInterval=1000"];
    with_cluster(&settings_of_cluster, &topics, async |cluster| {
        let wires = cluster.wires_within(CALL);
        let [a, b, c] = &wires;
        // A client that says nothing of it, but too much of the attempt.
        let bare = |mut message: v2::Message| {
            message.body = "abc".into();
            message.system_properties.as_mut().unwrap().delivery_attempt = Some(1_700_000_000);
            message
        };
        send(a, bare(message("t", "bare", ""))).await;
        let got = receive(b, poll("g", "t")).await;
        assert_complete(&got[0], ABC, Identity);
        assert_eq!(delivered(&got[0]).2, 1, "attempts are counted here");
        // The same as a dead letter.
        assert_eq!(forward(c, "g", "t", &delivered(&got[0]).1).await, Code::Ok);
        assert_complete(&take(std::slice::from_ref(b), &poll("g", "%DLQ%g"), 1).await[0], ABC, Identity);

        let mut zipped = message("t", "zipped", "");
        zipped.body = GZIPPED.into();
        let system_of_zipped = zipped.system_properties.as_mut().unwrap();
        let born = Timestamp { seconds: timestamp(now_millis() - 2000).seconds, nanos: 123_000_000 };
        system_of_zipped.body_encoding = Gzip.into();
        system_of_zipped.body_digest =
            Some(v2::Digest { r#type: v2::DigestType::Crc32.into(), checksum: "3E9FDAB1".into() });
        system_of_zipped.born_timestamp = Some(born);
        system_of_zipped.born_host = "producer".into();
        send(a, zipped.clone()).await;
        let got = take(std::slice::from_ref(c), &poll("g", "t"), 1).await;
        assert_complete(&got[0], OF_GZIPPED, Gzip);
        assert_eq!(got[0].body, GZIPPED, "passed through");
        assert_eq!((system(&got[0]).born_timestamp, system(&got[0]).born_host.as_str()), (Some(born), "producer"));
        zipped.body = "".into();
        assert_eq!(code(a, zipped).await, Code::MessageBodyEmpty, "there is no empty body, zipped or not");

        send(b, bare(ordered("steps", "x", 1))).await;
        assert_complete(&take(std::slice::from_ref(c), &poll("g", "steps"), 1).await[0], ABC, Identity);
        send(b, bare(delayed("later", "later", 300))).await;
        assert_complete(&take(std::slice::from_ref(c), &poll("g", "later"), 1).await[0], ABC, Identity);

        // A producer that is asked about a transaction reads the message too.
        let mut answers = producer(b, "deals").await;
        let sent = send(a, bare(half("deals", "deal"))).await;
        let question = asked(&mut answers).await;
        assert_eq!(question.transaction_id, sent.transaction_id);
        assert_complete(&question.message.unwrap(), ABC, Identity);
        assert_eq!(commit(b, "deals", &question.transaction_id).await, Code::Ok);
        assert_complete(&take(std::slice::from_ref(c), &poll("g", "deals"), 1).await[0], ABC, Identity);
    });
}

#[test]
fn c24_receive_gives_at_most_32_each_once_and_refuses_times_out_of_bounds() {
    with_cluster(&[], &[("t", "NORMAL"), ("empty", "NORMAL"), ("one", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        for (hundred, wire) in wires.iter().enumerate() {
            let ids = (0..100).map(|number| format!("m{}", hundred * 100 + number));
            let answer = wire.send(ids.map(|id| message("t", &id, &id)).collect()).await.unwrap();
            assert_eq!(told(answer.status), Code::Ok);
        }
        let mut got = Vec::new();
        for wire in wires.iter().cycle() {
            let messages = receive(wire, v2::ReceiveMessageRequest { batch_size: 50, ..poll("g", "t") }).await;
            assert!(messages.len() <= 32, "{}", messages.len());
            if messages.is_empty() {
                break;
            }
            ack(wire, "g", "t", &messages).await;
            got.extend(ids(&messages));
        }
        assert_eq!(sorted(got), sorted((0..300).map(|number| format!("m{number}")).collect()), "each once");

        let invisible = |topic: &str, length: i64| v2::ReceiveMessageRequest {
            invisible_duration: Some(millis(length)),
            ..poll("g", topic)
        };
        for (length, text) in
            [(9_999, "the invisibleTime is too small"), (43_200_001, "the invisibleTime is too large")]
        {
            let status = refused(&wires[0], invisible("empty", length)).await;
            assert_eq!(status.code(), Code::IllegalInvisibleTime, "{length}");
            assert!(status.message.contains(text), "{}", status.message);
        }
        for length in [10_000, 43_200_000] {
            send(&wires[0], message("one", &length.to_string(), "m")).await;
            take(&wires, &invisible("one", length), 1).await;
        }
    });
}

#[test]
fn c24_groups_each_get_everything_and_their_consumers_share_it() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let sent: Vec<_> = (0..100).map(|number| format!("m{number}")).collect();
        let answer = wires[0].send(sent.iter().map(|id| message("t", id, id)).collect()).await.unwrap();
        assert_eq!(told(answer.status), Code::Ok);

        let each = async |number: usize| take(&wires[number..=number], &poll(&format!("g{number}"), "t"), 100).await;
        let got = RefCell::new(Vec::new());
        let share = async |number: usize| {
            while got.borrow().len() < sent.len() {
                let request = v2::ReceiveMessageRequest { batch_size: 4, ..poll("shared", "t") };
                let messages = receive(&wires[number], request).await;
                if !messages.is_empty() {
                    ack(&wires[number], "shared", "t", &messages).await;
                }
                got.borrow_mut().extend(ids(&messages).into_iter().map(|id| (id, number)));
            }
        };
        let (all, _) = tokio::join!(future::join_all((0..3).map(each)), future::join_all((0..3).map(share)));
        let sent = sorted(sent);
        assert!(all.into_iter().all(|messages| sorted(ids(&messages)) == sent), "each group all of it, each once");
        let got = got.into_inner();
        assert_eq!(sorted(got.iter().map(|(id, _)| id.clone()).collect()), sent, "all of them together, each once");
        assert_eq!(got.iter().map(|(_, number)| *number).collect::<BTreeSet<_>>().len(), 3, "each some of it");
    });
}

#[test]
fn c25_09_a_receive_takes_from_all_queues_whichever_it_names() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        for number in 0..16 {
            send(&wires[number % 3], message("t", &format!("m{number}"), "m")).await;
        }
        know_each_other(&wires[0], "t").await;
        let rows = route(&wires[0], "t", None).await.1;
        // As clients send them: any row of any node to any node, the row of an assignment, one that Node makes up.
        let mut asked: Vec<_> = [0, 7, 13, 20].map(|row| rows[row].clone()).to_vec();
        asked.extend(assignments(&wires[0], "t", None).await);
        let made_up = |name: &str, id| v2::MessageQueue {
            id,
            broker: Some(v2::Broker { name: name.to_owned(), ..Default::default() }),
            ..rows[0].clone()
        };
        asked.extend([made_up("virtual-broker", -1), made_up("", 0), made_up("nobody", 999)]);
        asked.extend(queue("t"));
        for (number, message_queue) in asked.into_iter().enumerate() {
            let group = format!("g{number}");
            let request = v2::ReceiveMessageRequest { message_queue: Some(message_queue), ..poll(&group, "t") };
            let got = take(&wires[number % 3..][..1], &request, 16).await;
            let queues: BTreeSet<_> = got.iter().map(|message| system(message).queue_id).collect();
            assert_eq!(queues, (0..8).collect(), "{:?}", request.message_queue);
            assert_eq!(ids(&got).into_iter().collect::<BTreeSet<_>>().len(), 16);
        }
    });
}
