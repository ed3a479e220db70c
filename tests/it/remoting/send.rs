//! Sends (remoting §4): into the queue that was chosen, in batches, one-way, to topics that the first send makes.

use bytes::BytesMut;
use raftmq::proto::remoting::{
    BatchPart, Fields, Frame, HeaderType, OffsetId, RequestCode, ResponseCode, StoredMessage, put_part,
};

use crate::fixture::calls::take;
use crate::fixture::classic::Classic;
use crate::fixture::cluster::{Cluster, with_cluster};
use crate::fixture::requests::poll;
use crate::fixture::wire::CALL;

/// The fields of a send as Java has them.
pub fn fields(topic: &str, queue: i32, properties: &str) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in
        [("a", "producers"), ("b", topic), ("c", "TBW102"), ("d", "4"), ("f", "0"), ("g", "1700000000000")]
    {
        fields.put(name, value);
    }
    fields.put("e", queue);
    for (name, value) in [("h", "0"), ("i", properties), ("j", "0"), ("k", "false"), ("m", "false"), ("n", "Test00")] {
        fields.put(name, value);
    }
    fields
}

/// Queue and offset of a send that is stored.
pub(super) fn place(answer: &Frame) -> (i32, i64) {
    let fields = &answer.header.fields;
    assert_eq!(answer.header.code, ResponseCode::Success as i32, "{answer:?}");
    assert_eq!((fields.text("MSG_REGION"), fields.text("TRACE_ON")), (Ok("DefaultRegion"), Ok("true")));
    (fields.number("queueId").unwrap(), fields.number("queueOffset").unwrap())
}

#[test]
fn messages_go_to_their_queue_in_order_and_what_is_sent_again_is_another_message() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let properties =
            "UNIQ_KEY\u{1}ID1\u{2}TAGS\u{1}TagA\u{2}KEYS\u{1}k1 k2\u{2}WAIT\u{1}true\u{2}colour\u{1}red\u{2}";
        let mut ids = Vec::new();
        for (node, offset) in [(0, 0), (1, 1), (2, 2)] {
            let mut client = Classic::connect(&cluster.address(node)).await;
            client.wait_for_host(&cluster.listen_address(0)).await;
            client.header_type = if node == 1 { HeaderType::Binary } else { HeaderType::Json };
            let answer = client.ask(RequestCode::SendMessageV2, fields("t", 3, properties), b"same").await;
            assert_eq!(place(&answer), (3, offset));
            assert_eq!(answer.header.fields.text("transactionId"), Ok("ID1"));
            let id: OffsetId = answer.header.fields.text("msgId").unwrap().parse().unwrap();
            assert_eq!(id.store_host.to_string(), cluster.listen_address(0), "one address, whoever answers");
            ids.push(id);
        }
        queried(&cluster, &ids).await;
        let wires = cluster.wires_within(CALL);
        for message in take(&wires[..1], &poll("g", "t"), 3).await {
            let system = message.system_properties.unwrap();
            assert_eq!(
                (system.message_id.as_str(), system.tag.as_deref(), system.keys),
                ("ID1", Some("TagA"), vec!["k1".to_owned(), "k2".into()])
            );
            assert_eq!(
                (system.queue_id, &message.body[..], system.born_timestamp.unwrap().seconds),
                (3, &b"same"[..], 1_700_000_000)
            );
            assert_eq!(
                message.user_properties.into_iter().collect::<Vec<_>>(),
                [("colour".to_owned(), "red".to_owned())]
            );
        }
    });
}

/// What was sent three times is found by where it is, by its key and by its id.
async fn queried(cluster: &Cluster, ids: &[OffsetId]) {
    let mut client = Classic::connect(&cluster.address(1)).await;
    for (number, id) in (0..).zip(ids) {
        let mut fields = Fields::default();
        fields.put("offset", id.physical_offset);
        let answer = client.ask(RequestCode::ViewMessageById, fields, b"").await;
        let found = StoredMessage::read_all(answer.body).unwrap().remove(0);
        assert_eq!((found.queue, found.queue_offset, found.physical_offset), (3, number, id.physical_offset));
        assert_eq!((found.topic.as_str(), &found.body[..]), ("t", &b"same"[..]));
    }
    for offset in [-1, 0, ids[2].physical_offset + 1, i64::MAX] {
        let mut fields = Fields::default();
        fields.put("offset", offset);
        let answer = client.ask(RequestCode::ViewMessageById, fields, b"").await;
        assert_eq!(answer.header.code, ResponseCode::SystemError as i32, "{offset}");
    }
    let mut host = Classic::connect(&cluster.address(0)).await;
    for (key, is_id, count) in
        [("k1", "false", 3), ("k2", "false", 2), ("ID1", "true", 3), ("ID1", "false", 0), ("k1", "true", 0)]
    {
        let mut fields = Fields::default();
        for (name, value) in [("topic", "t"), ("key", key), ("beginTimestamp", "0"), ("_UNIQUE_KEY_QUERY", is_id)] {
            fields.put(name, value);
        }
        fields.put("endTimestamp", i64::MAX);
        fields.put("maxNum", if key == "k2" { 2 } else { 64 });
        let answer = host.ask(RequestCode::QueryMessage, fields.clone(), b"").await;
        let expected = if count > 0 { ResponseCode::Success } else { ResponseCode::QueryNotFound };
        assert_eq!(answer.header.code, expected as i32, "{key} {is_id} {:?}", answer.header.remark);
        assert_eq!(StoredMessage::read_all(answer.body).unwrap().len(), count, "{key} {is_id}");
        let elsewhere = client.ask(RequestCode::QueryMessage, fields, b"").await;
        assert_eq!(elsewhere.header.code, ResponseCode::QueryNotFound as i32, "tools put the answers together");
    }
}

#[test]
fn a_batch_is_in_one_queue_without_a_gap_as_every_client_sends_it() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let mut client = Classic::connect(&cluster.address(0)).await;
        let mut batch = BytesMut::new();
        for number in 0..3 {
            let properties = if number == 0 { String::new() } else { format!("UNIQ_KEY\u{1}ID{number}\u{2}") };
            put_part(&mut batch, &BatchPart { flag: number, body: format!("b{number}").into(), properties }).unwrap();
        }
        // Java, then the C++ core of Python: the code of single messages, long names, a truth value of its own.
        let mut java = fields("t", 1, "WAIT\u{1}true");
        java.put("m", "true");
        let mut python = Fields::default();
        for (name, value) in [
            ("producerGroup", "p"),
            ("topic", "t"),
            ("defaultTopic", "TBW102"),
            ("defaultTopicQueueNums", "4"),
            ("queueId", "1"),
            ("sysFlag", "0"),
            ("bornTimestamp", "1"),
            ("flag", "0"),
            ("properties", ""),
            ("batch", "1"),
        ] {
            python.put(name, value);
        }
        for (code, fields, offset) in [(RequestCode::SendBatchMessage, java, 0), (RequestCode::SendMessage, python, 3)]
        {
            let answer = client.ask(code, fields, &batch).await;
            assert_eq!(place(&answer), (1, offset));
            let ids = answer.header.fields.text("msgId").unwrap();
            let ids: Vec<i64> = ids.split(',').map(|id| id.parse::<OffsetId>().unwrap().physical_offset).collect();
            assert_eq!(ids, [ids[0], ids[0] + 1, ids[0] + 2]);
            assert_eq!(answer.header.fields.get("transactionId"), None);
        }
        let taken = take(&cluster.wires_within(CALL)[..1], &poll("g", "t"), 6).await;
        let mut bodies: Vec<_> = taken
            .iter()
            .map(|message| (message.system_properties.as_ref().unwrap().queue_offset.unwrap(), message.body.clone()))
            .collect();
        bodies.sort();
        let expected: Vec<_> = (0..6).map(|offset| (offset, format!("b{}", offset % 3).into())).collect();
        assert_eq!(bodies, expected);
        let mut other = Fields::default();
        for (name, value) in fields("t", 1, "").iter().filter(|(name, _)| *name != "m") {
            other.put(name, value);
        }
        other.put("m", "true");
        let mut delayed = BytesMut::new();
        let properties = "DELAY\u{1}3".to_owned();
        put_part(&mut delayed, &BatchPart { flag: 0, body: "b".into(), properties }).unwrap();
        for damaged in [&b""[..], &batch[..batch.len() - 1], &delayed] {
            let answer = client.ask(RequestCode::SendBatchMessage, other.clone(), damaged).await;
            assert_eq!(answer.header.code, ResponseCode::MessageIllegal as i32);
        }
    });
}

#[test]
fn the_first_send_makes_its_topic_unless_that_is_forbidden() {
    with_cluster(&[], &[("fifo", "FIFO"), ("closed", "NORMAL")], async |cluster| {
        cluster.raftmq_ok(&["topic", "update", "closed", "--permission", "R"]);
        let mut client = Classic::connect(&cluster.address(1)).await;
        let made = client.ask(RequestCode::SendMessageV2, fields("made", 3, ""), b"b").await;
        assert_eq!(place(&made), (3, 0));
        assert_eq!(
            client.route("made").await.unwrap().queue_datas[0].write_queue_nums,
            4,
            "as many as the producer wants"
        );
        let retry = client.ask(RequestCode::SendMessageV2, fields("%RETRY%g", 0, ""), b"b").await;
        assert_eq!(place(&retry), (0, 0));
        let (queue, _) = place(&client.ask(RequestCode::SendMessageV2, fields("any", -1, ""), b"b").await);
        assert!((0..4).contains(&queue));
        let large = vec![b'b'; 4 * 1024 * 1024 + 1];
        for (topic, queue, properties, body, code) in [
            ("made", 4, "", &b"b"[..], ResponseCode::InvalidParameter),
            ("a b", 0, "", b"b", ResponseCode::InvalidParameter),
            ("TBW102", 0, "", b"b", ResponseCode::InvalidParameter),
            ("made", 0, "", b"", ResponseCode::MessageIllegal),
            ("made", 0, "", &large, ResponseCode::MessageIllegal),
            ("fifo", 0, "DELAY\u{1}3", b"b", ResponseCode::MessageIllegal),
            ("closed", 0, "", b"b", ResponseCode::NoPermission),
        ] {
            let answer = client.ask(RequestCode::SendMessageV2, fields(topic, queue, properties), body).await;
            assert_eq!(answer.header.code, code as i32, "{topic} {queue} {properties:?} {:?}", answer.header.remark);
            assert!(answer.header.remark.is_some());
        }
        // Classic topics have no types: a topic in order takes it in the order of the queue.
        let fifo = client.ask(RequestCode::SendMessageV2, fields("fifo", 0, ""), b"b").await;
        assert_eq!(place(&fifo), (0, 0));
        // One-way: stored, and not answered.
        client.put(RequestCode::SendMessageV2 as i32, true, fields("made", 2, ""), b"one-way").await;
        let next = client.ask(RequestCode::SendMessageV2, fields("made", 1, ""), b"b").await;
        assert_eq!(place(&next), (1, 0));
        let mut end = Fields::default();
        for (name, value) in [("topic", "made"), ("queueId", "2")] {
            end.put(name, value);
        }
        let end = client.ask(RequestCode::GetMaxOffset, end, b"").await;
        assert_eq!(end.header.fields.number("offset"), Ok(1));
    });
    with_cluster(&["autoCreateTopicEnable=false"], &[], async |cluster| {
        let mut client = Classic::connect(&cluster.address(0)).await;
        let answer = client.ask(RequestCode::SendMessageV2, fields("made", 0, ""), b"b").await;
        assert_eq!(answer.header.code, ResponseCode::TopicNotExist as i32);
    });
}
