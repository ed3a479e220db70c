//! How messages are taken in: what is refused, the limits of what they carry, and repeated sends (contract §9, contract §24).

use std::collections::BTreeSet;

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::{code, drain, end, send, take};
use crate::fixture::cluster::{Cluster, with_cluster};
use crate::fixture::messages::{
    KIB_16, MIB_4, delayed, delayed_until, half, having, ids, keyed, message, now_millis, ordered, sorted, system,
    tagged, with,
};
use crate::fixture::requests::{by_tag, name, poll};
use crate::fixture::wire::{CALL, POLL, Wire};

#[test]
fn sends_are_answered_as_the_contract_says() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(1);
        let sent = wire.send((0..12).map(|n| message("t", &format!("id{n}"), "b")).collect()).await.unwrap();
        assert_eq!(sent.status.unwrap().code(), Code::Ok);
        let ids: Vec<_> = sent.entries.iter().map(|entry| entry.message_id.clone()).collect();
        assert_eq!(ids, (0..12).map(|n| format!("id{n}")).collect::<Vec<_>>());
        assert!(sent.entries.iter().all(|entry| entry.status.as_ref().unwrap().code() == Code::Ok));

        let code = async |messages| wire.send(messages).await.unwrap().status.unwrap().code();
        assert_eq!(code(vec![]).await, Code::MessageCorrupted);
        assert_eq!(code(vec![message("nope", "i", "b")]).await, Code::TopicNotFound);
        assert_eq!(code(vec![message("t", "i", "")]).await, Code::MessageBodyEmpty);
        assert_eq!(code(vec![message("rmq_sys_x", "i", "b")]).await, Code::IllegalTopic);
        assert_eq!(code(vec![message("t", "i", &"b".repeat(MIB_4))]).await, Code::Ok);
        assert_eq!(code(vec![message("t", "i", &"b".repeat(MIB_4 + 1))]).await, Code::MessageBodyTooLarge);
        assert_eq!(code(vec![ordered("t", "g", 1)]).await, Code::MessagePropertyConflictWithType);

        let nobody = Wire::connect(&cluster.address(0), "");
        let sent = nobody.send(vec![message("t", "i", "b")]).await.unwrap();
        assert_eq!(sent.status.unwrap().code(), Code::ClientIdRequired);
    });
}

#[test]
fn c24_size_of_body_is_4_mib_and_16_kib_of_properties_come_on_top() {
    let topics = [("plain", "NORMAL"), ("later", "DELAY"), ("deals", "TRANSACTION"), ("steps", "FIFO")];
    with_cluster(&[], &topics, async |cluster| {
        let wires = cluster.wires_within(CALL);
        let kinds =
            [message("plain", "m", "m"), delayed("later", "m", 500), half("deals", "m"), ordered("steps", "m", 1)];
        for (kind, wire) in kinds.into_iter().zip(wires.iter().cycle()) {
            let topic = name(&kind.topic);
            let full = v2::Message { body: vec![b'b'; MIB_4].into(), ..kind.clone() };
            assert_eq!(code(wire, full.clone()).await, Code::Ok, "{topic}");
            let over = v2::Message { body: vec![b'b'; MIB_4 + 1].into(), ..kind };
            assert_eq!(code(wire, over).await, Code::MessageBodyTooLarge, "{topic}");
            let both = having("", "", [("k", &"v".repeat(KIB_16 - 1))]).user_properties;
            let mut other = v2::Message { user_properties: both, ..full };
            other.system_properties.as_mut().unwrap().message_id = "another".into();
            assert_eq!(code(wire, other).await, Code::Ok, "{topic}");
        }
        let got = take(&wires, &poll("g", "plain"), 2).await;
        assert!(got.iter().all(|message| message.body.len() == MIB_4));
        let properties = |message: &v2::Message| message.user_properties.values().map(String::len).sum::<usize>();
        assert_eq!(got.iter().map(properties).collect::<BTreeSet<_>>(), BTreeSet::from([0, KIB_16 - 1]));
    });
}

#[test]
fn p3_a_body_that_is_not_what_its_digest_says_is_refused_by_name_and_not_stored() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let digested = |id: &str, r#type: v2::DigestType, checksum: &str| {
            let digest = Some(v2::Digest { r#type: r#type.into(), checksum: checksum.into() });
            v2::Message { body: "m".into(), ..with("t", id, |system| system.body_digest = digest) }
        };
        use v2::DigestType::{Crc32, Md5, Sha1};
        // Of "m".
        let right = [
            (Crc32, "E101F268"),
            (Md5, "6F8F57715090DA2632453988D9A1501B"),
            (Sha1, "6b0d31c0d563223024da45691584643ac78c96e8"),
        ];
        for (r#type, checksum) in right {
            let wrong = checksum.replacen(['6', 'A'], "B", 1);
            let sent = wires[0].send(vec![message("t", "first", "b"), digested("m", r#type, &wrong)]).await.unwrap();
            let status = sent.status.unwrap();
            assert_eq!((status.code(), sent.entries.len()), (Code::MessageCorrupted, 0), "all or none");
            let names = ["'m'", r#type.as_str_name(), &wrong, &checksum.to_uppercase()];
            assert!(names.iter().all(|name| status.message.contains(name)), "{}", status.message);
        }
        for (id, (r#type, checksum)) in ["a", "b", "c"].into_iter().zip(right) {
            send(&wires[1], digested(id, r#type, checksum)).await;
        }
        let got = take(&wires, &poll("g", "t"), 3).await;
        assert_eq!(sorted(ids(&got)), ["a", "b", "c"], "what was refused is not stored");
        assert!(got.iter().all(|message| system(message).body_digest.as_ref().unwrap().checksum == right[1].1));
    });
}

#[test]
fn c24_properties_have_their_limits_and_may_hold_any_text() {
    with_cluster(&[], &[("t", "NORMAL"), ("texts", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let wire = &wires[0];
        let many = |count: usize| {
            let user_properties = (0..count).map(|number| (format!("k{number}"), "v".to_owned())).collect();
            v2::Message { user_properties, ..message("t", "m", "m") }
        };
        assert_eq!(code(wire, many(128)).await, Code::Ok);
        assert_eq!(code(wire, many(129)).await, Code::MessagePropertiesTooLarge);
        let large = |value: usize| having("t", "m", [("key", &"v".repeat(value))]);
        assert_eq!(code(wire, large(KIB_16 - 3)).await, Code::Ok);
        assert_eq!(code(wire, large(KIB_16 - 2)).await, Code::MessagePropertiesTooLarge);
        // Bytes count, not characters, and tag and keys count too.
        let together = |value: usize| {
            let mut message = having("t", "m", [("é", &"v".repeat(value))]);
            let system = message.system_properties.as_mut().unwrap();
            (system.tag, system.keys) = (Some("t".repeat(100)), vec!["k".repeat(50), "l".repeat(60)]);
            message
        };
        assert_eq!(code(wire, together(KIB_16 - 212)).await, Code::Ok);
        assert_eq!(code(wire, together(KIB_16 - 211)).await, Code::MessagePropertiesTooLarge);

        for bad in [("k\0", "v"), ("k", "v\0"), ("UNIQ_KEY", "v")] {
            assert_eq!(code(wire, having("t", "m", [bad])).await, Code::IllegalMessagePropertyKey, "{bad:?}");
        }
        let texts = [("中文", "属性值"), ("😀", "🎉👍"), ("%", "100%"), ("|", "a||b"), ("&&", "a && b")];
        let sent = having("texts", "m", texts);
        assert_eq!(code(wire, sent.clone()).await, Code::Ok);
        let got = take(&wires[1..], &poll("g", "texts"), 1).await;
        assert_eq!(got[0].user_properties, sent.user_properties);
    });
}

#[test]
fn c24_tag_key_have_their_limits_and_come_back() {
    with_cluster(&[], &[("t", "NORMAL"), ("texts", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let wire = &wires[0];
        assert_eq!(code(wire, tagged("t", "m", &"t".repeat(KIB_16))).await, Code::Ok);
        assert_eq!(code(wire, tagged("t", "m", &"t".repeat(KIB_16 + 1))).await, Code::MessagePropertiesTooLarge);
        assert_eq!(code(wire, keyed("t", "m", &[&"k".repeat(KIB_16)])).await, Code::Ok);
        assert_eq!(code(wire, keyed("t", "m", &[&"k".repeat(KIB_16 + 1)])).await, Code::MessagePropertiesTooLarge);
        for bad in ["a\0", " ", "a|b", "|"] {
            assert_eq!(code(wire, tagged("t", "m", bad)).await, Code::IllegalMessageTag, "{bad:?}");
        }
        for bad in ["a\0", " "] {
            assert_eq!(code(wire, keyed("t", "m", &["good", bad])).await, Code::IllegalMessageKey, "{bad:?}");
        }
        let mut sent = keyed("texts", "m", &["第一", "second", "3"]);
        sent.system_properties.as_mut().unwrap().tag = Some("标签".into());
        assert_eq!(code(wire, sent).await, Code::Ok);
        let request = v2::ReceiveMessageRequest { filter_expression: by_tag("标签"), ..poll("g", "texts") };
        let got = take(&wires[2..], &request, 1).await;
        assert_eq!(system(&got[0]).tag.as_deref(), Some("标签"));
        assert_eq!(system(&got[0]).keys, ["第一", "second", "3"]);
    });
}

/// As many as a cluster takes in some seconds, and more than it has in memory.
#[test]
fn p4_the_window_is_not_full_after_some_seconds_of_many_sends_and_outlives_the_leader() {
    with_cluster(&[], &[("t", "NORMAL")], async |mut cluster| {
        let wires = cluster.wires();
        let batch = |number: usize| (0..1000).map(move |at| message("t", &format!("m{number}-{at}"), "b")).collect();
        let mut first = Vec::new();
        for number in 0..280 {
            let sent = wires[number % 3].send(batch(number)).await.unwrap();
            assert_eq!(sent.status.unwrap().code(), Code::Ok);
            first.push(sent.entries[0].offset);
        }
        let again = async |cluster: &Cluster, wires: &[Wire], first: &[i64]| {
            for (number, first) in first.iter().enumerate() {
                let sent = wires[number % wires.len()].send(vec![message("t", &format!("m{number}-0"), "b")]).await;
                let sent = sent.unwrap_or_else(|error| panic!("m{number}-0: {error:?}\n{}", cluster.logs()));
                assert_eq!(sent.entries[0].offset, *first, "m{number}-0: {:?}", sent.status);
            }
        };
        again(&cluster, &wires, &first[..5]).await;
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        again(&cluster, &cluster.wires_but(leader), &first).await;
        cluster.start_node(leader);
        cluster.wait_until_serving(leader);
        again(&cluster, &[cluster.wire(leader)], &first[..20]).await;
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
